"""HEAD: rows H01 to H10."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until, until_offset
from tests.support.wire import TusClient, chunked
from tests.wire import assert_in_sync, assert_refused, stored

LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("length", "body", "offset"),
    [
        pytest.param(10, None, 0, id="H01-H02-untouched"),
        pytest.param(10, b"hello", 5, id="H01-H02-begun"),
        pytest.param(5, b"hello", 5, id="H01-H02-complete"),
        pytest.param(0, None, 0, id="H01-H02-empty"),
        pytest.param(LARGEST, b"hello", 5, id="H01-H02-largest"),
    ],
)
def test_h01_h02_offset_and_length(tus: TusClient, length: int, body: bytes | None, offset: int) -> None:
    answer = tus.head(tus.create(length, body))
    assert (answer.status, answer.headers["upload-offset"]) == (200, str(offset))
    assert answer.headers["upload-length"] == str(length)
    assert "upload-defer-length" not in answer.headers


def test_h03_deferred_length(tus: TusClient) -> None:
    answer = tus.head(tus.create(None, b"hello"))
    assert (answer.status, answer.offset, answer.headers["upload-defer-length"]) == (200, 5, "1")
    assert "upload-length" not in answer.headers


@pytest.mark.parametrize("length", [pytest.param(10, id="H04-length"), pytest.param(None, id="H04-deferred")])
def test_h04_not_cacheable(tus: TusClient, length: int | None) -> None:
    assert tus.head(tus.create(length)).headers["cache-control"] == "no-store"


def test_h05_metadata_is_the_clients_own(tus: TusClient) -> None:
    metadata = "zulu WjE=,filename d29ybGQ=,alpha YQ==,is_conf"
    assert tus.head(tus.create(5, Upload_Metadata=metadata)).headers["upload-metadata"] == metadata


def test_h05_no_metadata_no_header(tus: TusClient) -> None:
    assert "upload-metadata" not in tus.head(tus.create(5)).headers


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/files/0123456789abcdef0123456789abcdef", id="H06-well-formed"),
        pytest.param("/files/unknown", id="H06-other"),
        pytest.param("/files/" + "a" * 5000, id="H06-overlong"),
        pytest.param("/files/%00", id="H06-nul"),
        pytest.param("/files/%ff%fe", id="H06-not-utf-8"),
        pytest.param("/files/a/b/c", id="H07-slashes"),
        pytest.param("/files/a%2fb", id="H07-encoded-slash"),
    ],
)
def test_h06_h07_unknown(tus: TusClient, path: str) -> None:
    with tus.connect() as connection:
        answer = connection.request("HEAD", path)
        assert (answer.status, answer.offset, answer.headers["tus-resumable"]) == (404, None, "1.0.0")
        assert_in_sync(connection)


@pytest.mark.parametrize("suffix", [".info", ".lock", ".part"])
def test_h06_the_servers_own_files_are_no_uploads(tus: TusClient, suffix: str) -> None:
    path = tus.create(5, b"hello")
    assert tus.head(path + suffix).status == 404
    assert tus.get(path + suffix).status == 404
    assert tus.delete(path + suffix).status == 404
    assert tus.offset(path) == 5


@pytest.mark.parametrize("way", ["..%2f", "../", "%2e%2e/", "x/../", "..%5c", "/", "%2f"])
@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
def test_h07_paths_stay_in_the_upload_directory(tus: TusClient, shared_server: ServerProcess, way: str, method: str) -> None:
    outside = shared_server.upload_dir.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret").write_bytes(b"secret")
    (outside / "secret.info").write_text('{"ID":"secret","Size":10}')
    headers: dict[str, object] = {"Upload-Offset": 6, "Content-Type": "application/offset+octet-stream"}
    absolute = f"{outside}/secret".lstrip("/") if way in {"/", "%2f"} else "outside/secret"
    answer = tus.request(method, f"/files/{way}{absolute}", headers if method == "PATCH" else {})
    # a client or a server may resolve dot segments: then it is no path of ours any more, whatever is there
    assert answer.status in {400, 404, 405} or (way in {"../", "%2e%2e/"} and b"secret" not in answer.body), answer.status
    assert answer.offset is None
    assert (outside / "secret").read_bytes() == b"secret"
    assert (outside / "secret.info").exists()


def test_h07_encoded_id_is_the_same_upload(tus: TusClient) -> None:
    path = tus.create(5, b"he")
    last = path[-1]
    assert tus.offset(f"{path[:-1]}%{ord(last):02x}") == 2


def test_h08_offset_during_a_patch_is_one_that_a_patch_is_accepted_at(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(100)
    with begin_patch(tus, path, 0, 100) as running:
        running.send(b"a" * 40)
        offset = tus.offset(path)
        assert 0 <= offset <= 40
        assert_refused(running.answer(), 400, "ERR_UPLOAD_INTERRUPTED")
        assert running.is_closed()
    assert tus.offset(path) == offset
    answer = tus.patch(path, offset, b"b" * (100 - offset))
    assert (answer.status, answer.offset) == (204, 100)
    assert stored(shared_server, path) == b"a" * offset + b"b" * (100 - offset)


def test_h08_without_a_version_it_disturbs_nobody(tus: TusClient, shared_server: ServerProcess) -> None:
    """A monitoring HEAD must not stop an upload (tusd's does)."""
    path = tus.create(100)
    with begin_patch(tus, path, 0, 100) as running:
        for piece in (b"a" * 40, b"b" * 60):
            running.send(piece)
            answer = tus.request("HEAD", path, tus=False)
            assert answer.status == 200
            assert answer.offset is not None and 0 <= answer.offset <= 100
        answer = running.answer()
        assert (answer.status, answer.offset) == (204, 100)
    assert stored(shared_server, path) == b"a" * 40 + b"b" * 60


def test_h08_offset_shown_never_goes_back(tus: TusClient) -> None:
    path = tus.create(1000)
    with begin_patch(tus, path, 0, 1000) as running:
        shown = [0]
        for _ in range(9):
            running.send(b"x" * 100)
            answer = tus.request("HEAD", path, tus=False)
            assert answer.offset is not None
            shown.append(answer.offset)
        assert shown == sorted(shown)
    until_offset(tus, path, 900)


@pytest.mark.parametrize("record", [b"", b"{", b"null", b"[]", b'{"Size":"10"}', b"\x00" * 300])
def test_h09_a_damaged_record_is_not_the_servers_fault(start_server: StartServer, record: bytes) -> None:
    """5xx makes tus-js-client start over from byte 0 (J12) and monitoring ring: say 410 and go on serving the others."""
    server = start_server()
    tus = server.client()
    damaged, healthy = tus.create(10, b"hello"), tus.create(10, b"hi")
    (server.upload_dir / f"{damaged.rsplit('/', 1)[1]}.info").write_bytes(record)
    answer = tus.head(damaged)
    assert (answer.status, answer.offset) == (410, None)
    assert tus.offset(healthy) == 2


def test_h10_expired(start_server: StartServer) -> None:
    tus = start_server("-expiry=1s").client()
    path = tus.create(10, b"hello")
    until(lambda: tus.head(path).status != 200, what="HEAD of an upload that expires")
    gone = tus.head(path)
    assert gone.status in {404, 410}
    assert gone.offset is None
    refused = tus.patch(path, 5, b"world")
    assert refused.status in {404, 410}


def test_h02_length_of_a_chunked_upload(tus: TusClient) -> None:
    path = tus.create(10)
    headers: dict[str, object] = {
        "Upload-Offset": 0,
        "Content-Type": "application/offset+octet-stream",
        "Transfer-Encoding": "chunked",
    }
    assert tus.request("PATCH", path, headers, chunked(b"hel", b"lo")).offset == 5
    answer = tus.head(path)
    assert (answer.offset, answer.headers["upload-length"]) == (5, "10")
