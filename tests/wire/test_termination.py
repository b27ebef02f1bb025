"""Termination, rows T01 to T08."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, TusClient
from tests.wire import stored


def left_of(server: ServerProcess, path: str) -> list[str]:
    """What of an upload is in the upload directory; what is below `.tusd-py/` is the server's own business."""
    name = path.rsplit("/", 1)[1]
    return sorted(file.name for file in server.upload_dir.iterdir() if file.name.startswith(name))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("without"), "-disable-termination") as server:
        yield server


def test_t01_announced(tus: TusClient) -> None:
    assert "termination" in tus.request("OPTIONS", tus.base).headers["tus-extension"].split(",")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Upload-Length": 9}, None),
        ({"Upload-Length": 9, "Content-Type": OFFSET_STREAM}, b"some"),
        ({"Upload-Length": 4, "Content-Type": OFFSET_STREAM}, b"some"),
        ({"Upload-Length": 0}, None),
        ({"Upload-Defer-Length": 1}, None),
        ({"Upload-Length": 9, "Upload-Concat": "partial"}, None),
    ],
    ids=["untouched", "unfinished", "finished", "empty", "deferred", "partial"],
)
def test_t01_t03_t08_delete(
    tus: TusClient, shared_server: ServerProcess, headers: dict[str, object], body: bytes | None
) -> None:
    created = tus.request("POST", tus.base, headers, body)
    path = tus.base + created.headers["location"].rsplit("/", 1)[1]
    assert len(left_of(shared_server, path)) == 2
    answer = tus.delete(path)
    assert (answer.status, answer.body, answer.headers["tus-resumable"]) == (204, b"", "1.0.0")
    assert left_of(shared_server, path) == []


def test_t01_final_upload(tus: TusClient, shared_server: ServerProcess) -> None:
    partial = tus.create(4, b"some", upload_concat="partial")
    final = tus.create(upload_concat=f"final;{partial}")
    assert tus.delete(final).status == 204
    assert left_of(shared_server, final) == []
    assert tus.get(partial).body == b"some"


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("HEAD", {}, None),
        ("PATCH", {"Upload-Offset": 4, "Content-Type": OFFSET_STREAM}, b"more"),
        ("GET", {}, None),
        ("DELETE", {}, None),
    ],
    ids=["HEAD", "PATCH", "GET", "DELETE"],
)
def test_t02_gone_afterwards(
    tus: TusClient, shared_server: ServerProcess, method: str, headers: dict[str, object], body: bytes | None
) -> None:
    path = tus.create(9, b"some")
    assert tus.delete(path).status == 204
    answer = tus.request(method, path, headers, body)
    assert answer.status == 404
    assert method == "HEAD" or answer.text.startswith("ERR_UPLOAD_NOT_FOUND: ")
    assert answer.offset is None
    assert left_of(shared_server, path) == []


def test_t02_unknown_upload(tus: TusClient) -> None:
    answer = tus.delete(tus.base + "0" * 32)
    assert answer.status == 404
    assert answer.text.startswith("ERR_UPLOAD_NOT_FOUND: ")


def test_t04_running_patch_is_stopped_first(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(9)
    data = shared_server.upload_dir / path.rsplit("/", 1)[1]
    with tus.connect() as patch:
        patch.send_head("PATCH", path, {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": 9})
        patch.send(b"some")
        until(lambda: data.stat().st_size == 4)
        assert tus.delete(path).status == 204
        assert left_of(shared_server, path) == []
        answer = patch.answer("PATCH")
        assert answer.status in (400, 404)
        assert answer.text.startswith(("ERR_UPLOAD_INTERRUPTED: ", "ERR_UPLOAD_NOT_FOUND: "))
        assert patch.is_closed()
    assert left_of(shared_server, path) == []
    assert tus.head(path).status == 404


def test_t04_two_deletes_at_once(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(9, b"some")
    with tus.connect() as first, tus.connect() as second:
        first.send_head("DELETE", path)
        second.send_head("DELETE", path)
        statuses = sorted([first.answer("DELETE").status, second.answer("DELETE").status])
    assert statuses == [204, 404]
    assert left_of(shared_server, path) == []


@pytest.mark.parametrize("headers", [{}, {"Tus-Resumable": "0.2.2"}], ids=["missing", "wrong"])
def test_t05_version_header(tus: TusClient, headers: dict[str, object]) -> None:
    path = tus.create(9, b"some")
    answer = tus.request("DELETE", path, headers, tus=False)
    assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")
    assert answer.text.startswith("ERR_UNSUPPORTED_VERSION: ")
    assert tus.offset(path) == 4


def test_t06_disabled(without: ServerProcess) -> None:
    client = without.client()
    path = client.create(9, b"some")
    answer = client.delete(path)
    assert answer.status == 405
    assert "DELETE" not in answer.headers["allow"]
    assert client.offset(path) == 4


def test_t06_disabled_is_not_announced(without: ServerProcess) -> None:
    client = without.client()
    assert "termination" not in client.request("OPTIONS", client.base).headers["tus-extension"].split(",")


def test_t06_disabled_also_by_method_override(without: ServerProcess) -> None:
    client = without.client()
    path = client.create(9, b"some")
    assert client.request("POST", path, {"X-HTTP-Method-Override": "DELETE"}).status == 405
    assert client.offset(path) == 4


def test_t07_partial_of_a_finished_final(tus: TusClient, shared_server: ServerProcess) -> None:
    partials = [tus.create(4, data, upload_concat="partial") for data in (b"some", b"more")]
    final = tus.create(upload_concat="final;" + " ".join(partials))
    until(lambda: stored(shared_server, final) == b"somemore")  # until then, the partials are in use
    assert [tus.delete(partial).status for partial in partials] == [204, 204]
    assert tus.offset(final) == 8
    assert tus.get(final).body == b"somemore"
