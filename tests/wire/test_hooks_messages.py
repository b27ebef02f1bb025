"""What hooks are told, to the byte, as tusd tells it: one message of each kind and cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until
from tests.support.wire import OFFSET_STREAM, Answer, chunked, path_of
from tests.wire.hooking import Hooking, programs

EVENT_ID = '"EventID":"'


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooking]:
    (tmp_path / "hooks" / "told").mkdir(parents=True)
    with programs(tmp_path / "hooks") as hooking:
        yield hooking


@pytest.fixture
def server(hooks: Hooking, start_server: StartServer) -> ServerProcess:
    return start_server(*hooks.arguments, "-hooks-enabled-events=", "-progress-hooks-interval=100ms")


def id_of(path: str) -> str:
    return path.rsplit("/", 1)[1]


def storage(server: ServerProcess, upload_id: str) -> str:
    place = server.upload_dir / upload_id
    return f'{{"InfoPath":"{place}.info","Path":"{place}","Type":"filestore"}}'


def upload(
    server: ServerProcess,
    upload_id: str,
    size: int,
    offset: int,
    metadata: str = "{}",
    *,
    deferred: bool = False,
    partial: bool = False,
    partials: list[str] | None = None,
) -> str:
    """The JSON of an upload, as tusd writes it."""
    return (
        f'{{"ID":"{upload_id}","Size":{size},"SizeIsDeferred":{json.dumps(deferred)},"Offset":{offset},"MetaData":{metadata},'
        f'"IsPartial":{json.dumps(partial)},"IsFinal":{json.dumps(partials is not None)},'
        f'"PartialUploads":{json.dumps(partials, separators=(",", ":"))},'
        f'"Storage":{storage(server, upload_id) if upload_id else "null"}}}'
    )


def message(kind: str, upload: str, request: str) -> str:
    return f'{{"Type":"{kind}","Event":{{"Upload":{upload},"HTTPRequest":{request}}}'


def check(hooks: Hooking, kind: str, upload: str, request: str) -> None:
    """The one message of this kind is this; those of events have an id as well."""
    (found,) = [data.decode() for data in hooks.raw() if json.loads(data)["Type"] == kind]
    expected = message(kind, upload, request)
    if kind.startswith("pre-"):
        assert found == expected + "}"
    else:
        start, comma, event_id = found.rpartition("," + EVENT_ID)
        assert (start, comma) == (expected, "," + EVENT_ID)
        assert len(event_id) > 8 and event_id.endswith('"}')


def asked(
    server: ServerProcess, method: str, target: str, headers: list[tuple[str, object]], body: bytes | None = None
) -> tuple[Answer, str]:
    """Send a request; returns the answer, and where it came from."""
    with server.client().connect() as connection:
        address = "{}:{}".format(*connection.sock.getsockname())
        return connection.request(method, target, headers, body), address


HEADERS: list[tuple[str, object]] = [
    ("X-Request-ID", "abc"),
    ("X-CUSTOM", "1"),
    ("x-custom", "<2>"),
    ("X-Text", "grün"),
]


def header_json(host: str, **headers: str) -> str:
    """tusd's `Header`: sorted by name, with those of `HEADERS`."""
    pairs = {
        "Host": f'["{host}"]',
        "Tus-Resumable": '["1.0.0"]',
        "X-Custom": '["1","\\u003c2\\u003e"]',
        "X-Request-Id": '["abc"]',
        "X-Text": '["grün"]',
        **{name.replace("_", "-"): f'["{value}"]' for name, value in headers.items()},
    }
    return "{" + ",".join(f'"{name}":{pairs[name]}' for name in sorted(pairs)) + "}"


def request_json(method: str, uri: str, address: str, header: str) -> str:
    return f'{{"Method":"{method}","URI":"{uri}","RemoteAddr":"{address}","Header":{header}}}'


def test_creation(server: ServerProcess, hooks: Hooking) -> None:
    headers = [*HEADERS, ("Upload-Length", 11), ("Upload-Metadata", "filename YTwudHh0,empty")]
    answer, address = asked(server, "POST", "/files/?a=1&b=%2F", headers)
    upload_id = id_of(answer.headers["location"])
    hooks.wait("post-create")
    request = request_json(
        "POST",
        "/files/?a=1\\u0026b=%2F",
        address,
        header_json(
            f"127.0.0.1:{server.port}", Content_Length="0", Upload_Length="11", Upload_Metadata="filename YTwudHh0,empty"
        ),
    )
    metadata = '{"empty":"","filename":"a\\u003c.txt"}'
    check(hooks, "pre-create", upload(server, "", 11, 0, metadata), request)
    check(hooks, "post-create", upload(server, upload_id, 11, 0, metadata), request)
    assert hooks.kinds() == ["pre-create", "post-create"]


def test_creation_with_upload(server: ServerProcess, hooks: Hooking) -> None:
    headers = [*HEADERS, ("Upload-Length", 5), ("Content-Type", OFFSET_STREAM)]
    answer, address = asked(server, "POST", "/files/", headers, b"hello")
    upload_id = id_of(answer.headers["location"])
    hooks.wait("post-finish")
    header = header_json(f"127.0.0.1:{server.port}", Content_Length="5", Content_Type=OFFSET_STREAM, Upload_Length="5")
    request = request_json("POST", "/files/", address, header)
    check(hooks, "pre-create", upload(server, "", 5, 0), request)
    check(hooks, "post-create", upload(server, upload_id, 5, 0), request)
    check(hooks, "pre-finish", upload(server, upload_id, 5, 5), request)
    check(hooks, "post-finish", upload(server, upload_id, 5, 5), request)
    assert [kind for kind in hooks.kinds() if kind != "post-receive"][-1] == "post-finish"


def test_an_empty_upload(server: ServerProcess, hooks: Hooking) -> None:
    upload_id = id_of(server.client().create(0))
    (finished,) = hooks.wait("post-finish")
    assert finished["Event"]["Upload"]["ID"] == upload_id
    assert sorted(hooks.kinds()) == ["post-create", "post-finish", "pre-create", "pre-finish"]
    assert hooks.kinds()[0] == "pre-create" and hooks.kinds()[-1] == "post-finish"


PATCH: list[tuple[str, object]] = [*HEADERS, ("Content-Type", OFFSET_STREAM)]


def test_patch(server: ServerProcess, hooks: Hooking) -> None:
    path = server.client().create(11)
    server.client().patch(path, 0, b"hello ")
    _, address = asked(server, "PATCH", path, [*PATCH, ("Upload-Offset", 6)], b"world")
    hooks.wait("post-finish")
    request = request_json(
        "PATCH",
        path,
        address,
        header_json(f"127.0.0.1:{server.port}", Content_Length="5", Content_Type=OFFSET_STREAM, Upload_Offset="6"),
    )
    check(hooks, "pre-finish", upload(server, id_of(path), 11, 11), request)
    check(hooks, "post-finish", upload(server, id_of(path), 11, 11), request)


def test_the_method_is_the_real_one_under_an_override(server: ServerProcess, hooks: Hooking) -> None:
    path = server.client().create(5)
    headers = [*PATCH, ("Upload-Offset", 0), ("X-HTTP-Method-Override", "PATCH")]
    _, address = asked(server, "POST", path, headers, b"hello")
    hooks.wait("post-finish")
    header = header_json(
        f"127.0.0.1:{server.port}",
        Content_Length="5", Content_Type=OFFSET_STREAM, Upload_Offset="0", X_Http_Method_Override="PATCH",
    )  # fmt: skip
    check(hooks, "post-finish", upload(server, id_of(path), 5, 5), request_json("POST", path, address, header))


def test_a_chunked_body_leaves_no_trace_in_the_headers(server: ServerProcess, hooks: Hooking) -> None:
    path = server.client().create(5)
    headers = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Transfer-Encoding": "chunked"}
    server.client().request("PATCH", path, headers, chunked(b"hello"))
    (finished,) = hooks.wait("post-finish")
    assert set(finished["Event"]["HTTPRequest"]["Header"]) == {"Content-Type", "Host", "Tus-Resumable", "Upload-Offset"}


def test_a_deferred_length(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    path = tus.create()
    (created,) = hooks.wait("post-create")
    assert (created["Event"]["Upload"]["Size"], created["Event"]["Upload"]["SizeIsDeferred"]) == (0, True)
    assert hooks.told("pre-create")[0]["Event"]["Upload"]["SizeIsDeferred"] is True
    tus.patch(path, 0, b"hello", upload_length=5)
    (finished,) = hooks.wait("post-finish")
    facts = finished["Event"]["Upload"]
    assert (facts["Size"], facts["SizeIsDeferred"], facts["Offset"]) == (5, False, 5)


def test_concatenation(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    parts = [tus.create(3, body=text, upload_concat="partial") for text in (b"abc", b"def")]
    ids = [id_of(part) for part in parts]
    partial_finishes = hooks.wait("post-finish", 2)
    assert sorted(each["Event"]["Upload"]["ID"] for each in partial_finishes) == sorted(ids)
    assert all(each["Event"]["Upload"]["IsPartial"] for each in partial_finishes)
    assert all(each["Event"]["Upload"]["IsPartial"] for each in hooks.told("pre-create"))
    concat = f"final;{parts[0]} {parts[1]}"
    answer, address = asked(server, "POST", "/files/", [*HEADERS, ("Upload-Concat", concat)])
    final = id_of(answer.headers["location"])
    hooks.wait("post-finish", 3)
    header = header_json(f"127.0.0.1:{server.port}", Content_Length="0", Upload_Concat=concat)
    request = request_json("POST", "/files/", address, header)
    found = {each: [data.decode() for data in hooks.raw() if json.loads(data)["Type"] == each][-1] for each in hooks.kinds()}
    assert found["pre-create"] == message("pre-create", upload(server, "", 6, 0, partials=ids), request) + "}"
    finished = upload(server, final, 6, 6, partials=ids)
    assert found["pre-finish"] == message("pre-finish", finished, request) + "}"
    assert found["post-finish"].startswith(message("post-finish", finished, request) + "," + EVENT_ID)
    created = json.loads(found["post-create"])["Event"]["Upload"]
    assert (created["ID"], created["IsFinal"], created["PartialUploads"]) == (final, True, ids)


def test_termination(server: ServerProcess, hooks: Hooking) -> None:
    path = server.client().create(11, upload_metadata="filename YQ==")
    server.client().patch(path, 0, b"hello")
    _, address = asked(server, "DELETE", path, HEADERS)
    hooks.wait("post-terminate")
    request = request_json("DELETE", path, address, header_json(f"127.0.0.1:{server.port}"))
    record = upload(server, id_of(path), 11, 5, '{"filename":"a"}')
    check(hooks, "pre-terminate", record, request)
    check(hooks, "post-terminate", record, request)
    assert not hooks.told("post-finish")


def test_progress(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    path = tus.create(10)
    with begin_patch(tus, path, 0, 10, X_Custom="1") as connection:
        for count in (1, 2, 3):
            connection.send(b"xy")
            found = until(lambda count=count: hooks.told("post-receive") and _reaches(hooks, 2 * count), what=hooks.told)
            assert found
        connection.send(b"xxxx")
        assert connection.answer("PATCH").status == 204
    (finished,) = hooks.wait("post-finish")
    told = hooks.told("post-receive")
    offsets = [each["Event"]["Upload"]["Offset"] for each in told]
    assert offsets == sorted(offsets), told
    assert told[0]["Event"]["HTTPRequest"] == finished["Event"]["HTTPRequest"]
    assert (told[0]["Event"]["Upload"]["Size"], told[0]["Event"]["HTTPRequest"]["Header"]["X-Custom"]) == (10, ["1"])
    assert hooks.kinds()[-1] == "post-finish", "progress is not told after the end"


def _reaches(hooks: Hooking, offset: int) -> list[dict[str, Any]]:
    return [each for each in hooks.told("post-receive") if each["Event"]["Upload"]["Offset"] >= offset]


def test_an_upload_under_a_path_that_a_hook_chose(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-create", ChangeFileInfo={"ID": "a/b", "Storage": {"Path": "elsewhere/c.bin"}, "MetaData": {"k": "v"}})
    path = path_of(server.client().request("POST", "/files/", {"Upload-Length": 5}).headers["location"])
    assert path == "/files/a/b"
    server.client().patch(path, 0, b"hello")
    (finished,) = hooks.wait("post-finish")
    assert finished["Event"]["Upload"]["ID"] == "a/b"
    assert finished["Event"]["Upload"]["MetaData"] == {"k": "v"}
    assert finished["Event"]["Upload"]["Storage"] == {
        "InfoPath": str(server.upload_dir / "a/b.info"),
        "Path": str(server.upload_dir / "elsewhere/c.bin"),
        "Type": "filestore",
    }
    assert (server.upload_dir / "elsewhere/c.bin").read_bytes() == b"hello"
