"""HTTP itself: broken framing, connections that live on, requests one behind the other, heads too large or too slow."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.server import ServerProcess
from tests.support.waiting import until_continue
from tests.support.wire import OFFSET_STREAM, Answer, Connection, TusClient, b64, checksum, chunked, path_of
from tests.wire import assert_closed_or_in_sync, assert_in_sync, assert_refused, stored, uploads_on_disk

HEAD_TOO_LARGE = 2 * 1024 * 1024
"""Beyond any cap a server may have on a request head; tusd (Go) has 1 MiB."""


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("impatient") / "data", "-network-timeout=1s") as server:
        yield server


@contextlib.contextmanager
def sent(tus: TusClient, data: bytes) -> Iterator[tuple[Answer, Connection]]:
    """What is answered to these bytes on a new connection, and the connection."""
    with tus.connect() as connection:
        with contextlib.suppress(ConnectionError):  # the server may have had enough before the end
            connection.send(data)
        yield connection.answer(), connection


def patch_head(path: str, *framing: bytes) -> bytes:
    lines = [
        b"PATCH " + path.encode() + b" HTTP/1.1",
        b"Host: x",
        b"Tus-Resumable: 1.0.0",
        b"Upload-Offset: 0",
        b"Content-Type: " + OFFSET_STREAM.encode(),
        *framing,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


# Framing


BAD_FRAMING = {
    "negative-length": [b"Content-Length: -5"],
    "signed-length": [b"Content-Length: +5"],
    "length-is-a-word": [b"Content-Length: abc"],
    "length-list": [b"Content-Length: 5, 6"],
    "length-with-a-blank": [b"Content-Length: 5 5"],
    "length-hexadecimal": [b"Content-Length: 0x5"],
    "length-beyond-64-bits": [b"Content-Length: 99999999999999999999999"],
    "two-lengths": [b"Content-Length: 5", b"Content-Length: 6"],
    "two-lengths-swapped": [b"Content-Length: 6", b"Content-Length: 5"],
    "length-and-chunked": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "chunked-and-length": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "chunked-not-last": [b"Transfer-Encoding: chunked, identity"],
    "unknown-coding": [b"Transfer-Encoding: xchunked"],
    "coding-besides-chunked": [b"Transfer-Encoding: gzip, chunked"],
    "coding-with-a-blank-before-the-colon": [b"Transfer-Encoding : chunked"],
    "length-with-a-blank-before-the-colon": [b"Content-Length : 5"],
    "line-without-a-colon": [b"Content-Length: 5", b"nonsense"],
    "empty-name": [b"Content-Length: 5", b": x"],
    "nul-in-a-value": [b"Content-Length: 5", b"X-Y: a\0b"],
    "control-in-a-name": [b"Content-Length: 5", b"X\x01Y: a"],
    "carriage-return-in-a-value": [b"Content-Length: 5", b"X-Y: a\rb"],
}


@pytest.mark.parametrize("framing", [pytest.param(lines, id=name) for name, lines in BAD_FRAMING.items()])
def test_broken_head(tus: TusClient, shared_server: ServerProcess, framing: list[bytes]) -> None:
    path = tus.create(10)
    with sent(tus, patch_head(path, *framing) + b"hello") as (answer, connection):
        assert answer.status == 400
        assert connection.is_closed()
    assert (tus.offset(path), stored(shared_server, path)) == (0, b"")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"nonsense", id="one-word"),
        pytest.param(b"GET /files/", id="no-version"),
        pytest.param(b"HEAD /files/ HTTX/1.1", id="other-protocol"),
        pytest.param(b"HEAD /files/ HTTP/9.9", id="version-of-the-future"),
        pytest.param(b"HE(AD /files/ HTTP/1.1", id="method-is-no-token"),
        pytest.param(b"HEAD  HTTP/1.1", id="no-target"),
        pytest.param(b"HEAD /files/\x01 HTTP/1.1", id="control-in-target"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM", id="http-2"),
    ],
)
def test_broken_request_line(tus: TusClient, line: bytes) -> None:
    with sent(tus, line + b"\r\nHost: x\r\n\r\n") as (answer, connection):
        assert 400 <= answer.status < 500 or answer.status == 505
        assert connection.is_closed()


BAD_CHUNKS = {
    "size-is-a-word": (b"xyz\r\nhello\r\n", b""),
    "size-is-empty": (b"\r\nhello\r\n", b""),
    "size-is-negative": (b"-5\r\nhello\r\n", b""),
    "size-with-a-prefix": (b"0x5\r\nhello\r\n", b""),
    "size-beyond-64-bits": (b"fffffffffffffffff\r\nhello\r\n", b""),
    "size-with-a-plus": (b"+5\r\nhello\r\n", b""),
    "no-line-end-behind-the-data": (b"5\r\nhelloXX0\r\n\r\n", b"hello"),
    "data-longer-than-its-size": (b"3\r\nhello\r\n0\r\n\r\n", b"hel"),
    "second-size": (b"3\r\nhel\r\n2\r\nlo\r\nzz\r\n", b"hello"),
    "line-feed-before-the-data": (b"3\r\nhel\r\n\n2\r\nlo\r\n", b"hel"),
    "trailer-without-a-colon": (b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n", b"hello"),
}


@pytest.mark.parametrize(("body", "good"), [pytest.param(*case, id=name) for name, case in BAD_CHUNKS.items()])
@pytest.mark.parametrize("separate", [pytest.param(True, id="head-first"), pytest.param(False, id="at-once")])
def test_broken_chunks(tus: TusClient, shared_server: ServerProcess, body: bytes, good: bytes, separate: bool) -> None:
    """400 and closed; what came before the break may stay, what came behind it must not."""
    path = tus.create(10)
    head = patch_head(path, b"Transfer-Encoding: chunked", *([b"Expect: 100-continue"] if separate else []))
    with tus.connect() as connection:
        if separate:
            connection.send(head)
            until_continue(connection)
            connection.send(body)
        else:
            connection.send(head + body)
        answer = connection.answer()
        assert answer.status == 400
        assert connection.is_closed()
    offset = tus.offset(path)
    assert offset <= len(good)
    assert stored(shared_server, path) == good[:offset]
    assert tus.patch(path, offset, b"0123456789"[offset:]).offset == 10


@pytest.mark.parametrize("size", [3, 300_000, 3_000_000])
def test_broken_chunks_are_named_and_good_ones_kept(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    """Every byte of a whole chunk before the break was received, as far as anybody can tell: it is stored."""
    data = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
    path = tus.create(size + 10)
    with tus.connect() as connection:
        connection.send(patch_head(path, b"Transfer-Encoding: chunked", b"Expect: 100-continue"))
        until_continue(connection)
        connection.send(chunked(data, end=False) + b"zz\r\n")
        assert_refused(connection.answer(), 400, "ERR_MALFORMED_BODY")
    assert (tus.offset(path), stored(shared_server, path)) == (size, data)
    assert tus.delete(path).status == 204


def test_chunk_size_line_without_end(tus: TusClient) -> None:
    """Chunk extensions must not be collected for ever (nothing here is ever a byte of the upload)."""
    path = tus.create(10)
    with tus.connect() as connection:
        connection.send(patch_head(path, b"Transfer-Encoding: chunked"))
        connection.send(b"5;" + b"x" * 100_000)
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.answer().status == 400
    assert tus.offset(path) == 0


def test_the_server_goes_on(tus: TusClient, shared_server: ServerProcess) -> None:
    """One request of each broken kind, then an ordinary upload beside a connection that was open all the time."""
    with tus.connect() as bystander:
        assert_in_sync(bystander)
        path = tus.create(10)
        for lines in BAD_FRAMING.values():
            with sent(tus, patch_head(path, *lines)) as (answer, _):
                assert answer.status == 400
        for body, _ in BAD_CHUNKS.values():
            with sent(tus, patch_head(path, b"Transfer-Encoding: chunked") + body) as (answer, _):
                assert answer.status in {400, 409}  # 409: one before it has left its good part
        assert_in_sync(bystander)
    other = tus.create(10)
    assert tus.patch(other, 0, b"helloworld").offset == 10
    assert stored(shared_server, other) == b"helloworld"


def test_connections_that_say_nothing(tus: TusClient) -> None:
    for data in (b"", b"\r\n", b"P", b"PATCH /files/x HTTP/1.1\r\nHos"):
        with tus.connect() as connection:
            connection.send(data)
    assert tus.request("OPTIONS", "/files/", tus=False).status == 200


# Connections that live on


def test_keep_alive_after_every_kind_of_answer(tus: TusClient, shared_server: ServerProcess) -> None:
    patch: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM}
    with tus.connect() as connection:

        def ask(status: int, method: str, target: str, headers: dict[str, object], body: bytes | None = None) -> Answer:
            answer = connection.request(method, target, headers, body)
            assert (answer.status, answer.headers.get("connection", "").lower()) == (status, ""), (method, answer.body)
            return answer

        ask(200, "OPTIONS", "/files/", {})
        path = path_of(ask(201, "POST", "/files/", {"Upload-Length": 10}).headers["location"])
        ask(204, "PATCH", path, patch, b"hello")
        ask(200, "HEAD", path, {})
        assert ask(200, "GET", path, {}).body == b"hello"
        ask(204, "PATCH", path, {**patch, "Upload-Offset": 5, "Transfer-Encoding": "chunked"}, chunked(b"wo"))
        ask(460, "PATCH", path, {**patch, "Upload-Offset": 7, "Upload-Checksum": f"sha1 {b64(b'x' * 20)}"}, b"rld")
        ask(409, "PATCH", path, patch)
        ask(415, "PATCH", path, {"Upload-Offset": 7})
        ask(400, "PATCH", path, {**patch, "Upload-Offset": "x"})
        ask(412, "PATCH", path, {**patch, "Tus-Resumable": "0.1"})
        ask(405, "PUT", path, {})
        ask(400, "POST", "/files/", {})
        ask(404, "HEAD", "/files/unknown", {})
        ask(404, "GET", "/files/unknown", {})
        ask(404, "PATCH", "/files/unknown", patch)
        ask(204, "PATCH", path, {**patch, "Upload-Offset": 7}, b"rld")
        assert ask(206, "GET", path, {"Range": "bytes=2-4"}).body == b"llo"
        assert stored(shared_server, path) == b"helloworld"
        ask(204, "DELETE", path, {})
        ask(404, "DELETE", path, {})
        ask(201, "POST", "/files/", {"Upload-Length": 5, "Content-Type": OFFSET_STREAM}, b"hello")


def test_connection_close_is_honoured(tus: TusClient) -> None:
    path = tus.create(10)
    with tus.connect() as connection:
        headers: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Connection": "close"}
        assert connection.request("PATCH", path, headers, b"hello").offset == 5
        assert connection.is_closed()


def test_http_1_0_ends_with_the_answer(tus: TusClient) -> None:
    path = tus.create(10, b"hello")
    with tus.connect() as connection:
        connection.send(f"HEAD {path} HTTP/1.0\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode())
        answer = connection.answer("HEAD")
        assert (answer.status, answer.offset) == (200, 5)
        assert connection.is_closed()


def test_pipelined_requests_are_answered_in_order(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(10)
    common = f"Host: x\r\nTus-Resumable: 1.0.0\r\nContent-Type: {OFFSET_STREAM}\r\n"
    requests = [
        ("HEAD", f"HEAD {path} HTTP/1.1\r\n{common}\r\n"),
        ("PATCH", f"PATCH {path} HTTP/1.1\r\n{common}Upload-Offset: 0\r\nContent-Length: 5\r\n\r\nhello"),
        ("HEAD", f"HEAD {path} HTTP/1.1\r\n{common}\r\n"),
        (
            "PATCH",
            f"PATCH {path} HTTP/1.1\r\n{common}Upload-Offset: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            "2\r\nwo\r\n3\r\nrld\r\n0\r\n\r\n",
        ),
        ("GET", f"GET {path} HTTP/1.1\r\n{common}\r\n"),
        ("OPTIONS", f"OPTIONS /files/ HTTP/1.1\r\n{common}\r\n"),
        ("DELETE", f"DELETE {path} HTTP/1.1\r\n{common}\r\n"),
        ("HEAD", f"HEAD {path} HTTP/1.1\r\n{common}\r\n"),
    ]
    with tus.connect() as connection:
        connection.send("".join(text for _, text in requests).encode())
        answers = [connection.answer(method) for method, _ in requests]
    assert [answer.status for answer in answers] == [200, 204, 200, 204, 200, 200, 204, 404]
    assert [answer.offset for answer in answers[:4]] == [0, 5, 5, 10]
    assert answers[4].body == b"helloworld"
    assert answers[5].headers["tus-version"] == "1.0.0"


def test_pipelined_and_half_closed(tus: TusClient) -> None:
    """`printf ... | nc`: the client has said all it wants and waits for all its answers."""
    path = tus.create(10, b"hello")
    head = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    with tus.connect() as connection:
        connection.send(head * 3)
        connection.sock.shutdown(socket.SHUT_WR)
        assert [connection.answer("HEAD").offset for _ in range(3)] == [5, 5, 5]
        assert connection.is_closed()


@pytest.mark.parametrize("size", [300_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_pipelined_behind_a_large_body(tus: TusClient, shared_server: ServerProcess, size: int, framing: str) -> None:
    """The body goes another way than small ones do; the request behind it must not be eaten, nor its head be stored."""
    data = bytes(range(256)) * (size // 256)
    path = tus.create(len(data))
    if framing == "length":
        body, line = data, b"Content-Length: %d" % len(data)
    else:
        body, line = chunked(data[:100_000], data[100_000:]), b"Transfer-Encoding: chunked"
    with tus.connect() as connection:
        behind = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode() * 2
        connection.send(patch_head(path, line) + body + behind)
        answers = [connection.answer("PATCH"), connection.answer("HEAD"), connection.answer("HEAD")]
        assert [(answer.status, answer.offset) for answer in answers] == [(204, len(data)), (200, len(data)), (200, len(data))]
        assert_in_sync(connection)
    assert stored(shared_server, path) == data
    assert tus.delete(path).status == 204


def test_pipelined_behind_a_refused_body(tus: TusClient) -> None:
    """Nothing behind a body that wasn't read may be taken for a request unless the body was skipped to its very end."""
    victim, path = tus.create(5), tus.create(10)
    delete = f"DELETE {victim} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    body = delete * 3
    with tus.connect() as connection:
        connection.send(patch_head(path, b"X-HTTP-Method-Override: PUT", b"Content-Length: %d" % len(body)) + body)
        assert_refused(connection.answer(), 405, "ERR_METHOD_NOT_ALLOWED")
        assert_closed_or_in_sync(connection)
    assert tus.offset(victim) == 0


@pytest.mark.parametrize(
    "method",
    [pytest.param("HEAD", id="HEAD"), pytest.param("GET", id="GET"), pytest.param("OPTIONS", id="OPTIONS"), "DELETE"],
)
def test_bodies_where_none_belongs(tus: TusClient, method: str) -> None:
    """A body on a method that has no use for it is framed all the same, and no byte of it is a request."""
    victim, path = tus.create(5), tus.create(10)
    body = f"DELETE {victim} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    with tus.connect() as connection:
        answer = connection.request(method, path, {"Content-Length": len(body)}, body)
        assert answer.status in {200, 204}
        assert_closed_or_in_sync(connection)
    assert tus.offset(victim) == 0


@pytest.mark.parametrize(
    "upgrade",
    [
        pytest.param({"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQ"}, id="h2c"),
        pytest.param({"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}, id="websocket"),
        pytest.param({"Connection": "upgrade", "Upgrade": "TLS/1.2"}, id="tls"),
    ],
)
def test_an_upgrade_we_do_not_know_is_an_ordinary_request(
    tus: TusClient, shared_server: ServerProcess, upgrade: dict[str, object]
) -> None:
    """`curl --http2` asks so on every request, bodies included; HTTP parsers like to stop at the head then."""
    path = tus.create(10)
    with tus.connect() as connection:
        assert connection.request("HEAD", path, upgrade).offset == 0
        headers: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, **upgrade}
        answer = connection.request("PATCH", path, headers, b"hello")
        assert (answer.status, answer.offset) == (204, 5)
        assert connection.request("HEAD", path).offset == 5
    assert stored(shared_server, path) == b"hello"


SURROUNDED = {
    "Tus-Resumable": "1.0.0",
    "Upload-Offset": "0",
    "Content-Type": OFFSET_STREAM,
    "Content-Length": "5",
    "Upload-Length": "10",
    "X-HTTP-Method-Override": "PATCH",
    "Upload-Checksum": checksum("sha1", b"hello"),
}


@pytest.mark.parametrize(("name", "value"), SURROUNDED.items(), ids=SURROUNDED.keys())
@pytest.mark.parametrize("blank", [" ", "\t", "   \t "])
def test_blanks_around_a_value_are_not_of_it(tus: TusClient, name: str, value: str, blank: str) -> None:
    """RFC 9112, 5.1: leading and trailing whitespace is excluded when the value is read. Some parsers leave what trails."""
    headers: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": 5}
    headers[name] = blank + value + blank
    answer = tus.request("PATCH", tus.create(10), headers, b"hello")
    assert (answer.status, answer.offset) == (204, 5)


def test_blanks_around_expect(tus: TusClient) -> None:
    path = tus.create(5)
    with tus.connect() as connection:
        connection.send(patch_head(path, b"Content-Length: 5", b"Expect: 100-continue \t"))
        until_continue(connection)


@pytest.mark.parametrize("coding", [b"Chunked", b"CHUNKED", b"  chunked"])
def test_chunked_in_any_spelling(tus: TusClient, coding: bytes) -> None:
    path = tus.create(10)
    with sent(tus, patch_head(path, b"Transfer-Encoding: " + coding) + chunked(b"hello")) as (answer, connection):
        assert (answer.status, answer.offset) == (204, 5)
        assert_in_sync(connection)


def test_absolute_request_target(tus: TusClient) -> None:
    """RFC 9112, 3.2.2: a server must accept the form that proxies are given."""
    path = tus.create(10, b"hello")
    answer = tus.request("HEAD", f"http://tus.example{path}")
    assert (answer.status, answer.offset) == (200, 5)


# Heads: too large, too slow


def test_large_head_is_accepted(tus: TusClient) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 5, "X-Long": "x" * 100_000})
    assert answer.status == 201


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X-Long: " + b"x" * HEAD_TOO_LARGE + b"\r\n", id="one-line"),
        pytest.param(b"X-Line: yyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * (HEAD_TOO_LARGE // 36), id="many-lines"),
    ],
)
def test_head_beyond_the_cap(tus: TusClient, shared_server: ServerProcess, head: bytes) -> None:
    before = uploads_on_disk(shared_server)
    start = b"POST /files/ HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n"
    with sent(tus, start + head) as (answer, connection):
        assert answer.status in {400, 431}
        assert connection.is_closed()
    assert uploads_on_disk(shared_server) == before


def test_target_beyond_the_cap(tus: TusClient) -> None:
    with sent(tus, b"HEAD /files/" + b"x" * HEAD_TOO_LARGE) as (answer, connection):
        assert answer.status in {400, 414, 431}
        assert connection.is_closed()


@pytest.mark.parametrize("beginning", [b"", b"P", b"PATCH /files/x HTTP/1.1\r\nHost: x\r\nUpload-Off"])
def test_slow_head_then_silence(impatient_server: ServerProcess, beginning: bytes) -> None:
    with impatient_server.client().connect() as connection:
        for byte in beginning:
            connection.send(bytes([byte]))
        answer = connection.until_closed()
    assert answer == b"" or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))


def test_slow_head_without_end(impatient_server: ServerProcess) -> None:
    """A byte now and then must not hold a connection for ever: the time limit is for the whole head."""
    pause = threading.Event()
    closed = False
    with impatient_server.client().connect() as connection:
        connection.send(b"HEAD /files/x HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(100):
            pause.wait(0.1)
            try:
                connection.send(b"x")
            except ConnectionError:
                closed = True
                break
    assert closed


def test_slow_head_that_arrives(impatient_server: ServerProcess) -> None:
    tus = impatient_server.client()
    path = tus.create(10, b"hello")
    with tus.connect() as connection:
        for byte in f"HEAD {path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode():
            connection.send(bytes([byte]))
        answer = connection.answer("HEAD")
        assert (answer.status, answer.offset) == (200, 5)
        assert_in_sync(connection)
