"""Our protocol class under a real uvicorn, with applications that know nothing of it and such that do."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.transport.serving import Client, Server, until
from tusd_py.ports.body import BodyEnd
from tusd_py.transport.protocol import BODY_EXTENSION, MAX_HEAD

LARGE = random.Random(2).randbytes(5 * (1 << 20) + 77)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Serve = Callable[..., Server]

pytestmark = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@pytest.fixture
def serve(loop: str) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(app: Any, **options: Any) -> Server:
        servers.append(Server(app, loop=loop, **options).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def start(status: int = 200, **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answers(*messages: dict[str, Any]) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """As Starlette reads a body."""
    data = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            await send(start(400, content_length="3"))
            await send(body(b"cut"))
            return
        data += message["body"]
        if not message["more_body"]:
            break
    await send(start(content_length=str(len(data))))
    await send(body(data))


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self.data += data


async def pump(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that knows our body."""
    sink = Sink()
    end = await scope["extensions"][BODY_EXTENSION].pump(sink, 1 << 30)
    await send(start(200 if end is BodyEnd.COMPLETE else 400, content_length=str(len(sink.data)), end=end.name))
    await send(body(bytes(sink.data)))


# The scope


def test_the_scope(serve: Serve) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send(start(content_length="0"))
        await send(body())

    server = serve(app, root_path="/mounted")
    with server.connect() as client:
        client.send(b"GET /a%20b/%C3%A4?x=1&y HTTP/1.1\r\nHOST: here\r\nX-Twice: 1\r\nx-twice:\t2 \r\n\r\n")
        assert client.response()[0] == 200
        client.send(b"GET http://other:80/absolute HTTP/1.1\r\nHost: here\r\n\r\n")
        client.response()
        peer = client.sock.getsockname()
    first, second = seen
    assert first["type"] == "http" and first["method"] == "GET" and first["http_version"] == "1.1"
    assert first["path"] == "/mounted/a b/ä" and first["raw_path"] == b"/mounted/a%20b/%C3%A4"
    assert first["query_string"] == b"x=1&y" and first["root_path"] == "/mounted" and first["scheme"] == "http"
    assert first["headers"] == [(b"host", b"here"), (b"x-twice", b"1"), (b"x-twice", b"2")]
    assert tuple(first["client"]) == peer and tuple(first["server"]) == server.address
    assert "http.response.zerocopysend" in first["extensions"]
    assert second["path"] == "/mounted/absolute"


# Responses


def test_an_informational_response(serve: Serve) -> None:
    early = {"type": "http.response.informational", "status": 104, "headers": [(b"location", b"/x")]}
    unknown = {"type": "http.response.informational", "status": 199}
    with serve(answers(early, unknown, start(content_length="2"), body(b"ok"))).connect() as client:
        client.request()
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 104 Upload Resumption Supported\r\nlocation: /x\r\n\r\n"
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 199 \r\n\r\n"
        assert client.response()[::2] == (200, b"ok")


def test_a_response_without_a_length_is_chunked(serve: Serve) -> None:
    with serve(answers(start(), body(b"he", True), body(b"", True), body(b"llo"))).connect() as client:
        for _ in range(2):
            client.request()
            status, headers, data = client.response()
            assert (status, headers["transfer-encoding"], data) == (200, "chunked", b"hello")


def test_an_application_may_say_that_it_is_chunked(serve: Serve) -> None:
    with serve(answers(start(transfer_encoding="chunked"), body(b"hello"))).connect() as client:
        client.request()
        assert client.response()[2] == b"hello"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(serve: Serve, status: int) -> None:
    with serve(answers(start(status), body())).connect() as client:
        for _ in range(2):
            client.request()
            assert client.head()[0] == status
    with serve(answers(start(status), body(b"x"))).connect() as client:
        client.request()
        assert client.head()[0] == status
        assert client.rest() == b"", "a body where none may be is not sent"


@pytest.mark.parametrize("message", [start(content_length="5"), start()])
def test_a_head_has_no_body(serve: Serve, message: dict[str, Any]) -> None:
    with serve(answers(message, body(b"hello"))).connect() as client:
        client.request("HEAD")
        _, headers = client.head()
        assert "transfer-encoding" not in headers
        client.request("HEAD")
        assert client.head()[0] == 200, "nothing in between"


def test_a_tus_status_has_its_phrase(serve: Serve) -> None:
    with serve(answers(start(460, content_length="0"), body())).connect() as client:
        client.request()
        assert client.until(b"\r\n") == b"HTTP/1.1 460 Checksum Mismatch\r\n"


def test_an_application_may_close(serve: Serve) -> None:
    with serve(answers(start(content_length="0", connection="Close"), body())).connect() as client:
        client.request()
        assert client.head()[1]["connection"] == "Close"
        assert client.rest() == b""


def test_clients_that_want_the_connection_closed(serve: Serve) -> None:
    server = serve(answers(start(content_length="0"), body()))
    for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"):
        with server.connect() as client:
            client.send(request)
            assert client.head()[1]["connection"] == "close"
            assert client.rest() == b""


def test_a_large_response_to_a_slow_reader(serve: Serve) -> None:
    pieces = [body(LARGE[first : first + 100_000], True) for first in range(0, len(LARGE), 100_000)]
    with serve(answers(start(content_length=str(len(LARGE))), *pieces, body())).connect() as client:
        client.request()
        assert client.response()[2] == LARGE


def test_a_reader_that_takes_nothing_of_a_body(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    gone, after = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=str(len(LARGE) * 10)))
        for _ in range(9):
            await send(body(LARGE, True))
        assert (await receive())["type"] == "http.request"  # which is there, and empty
        assert (await receive())["type"] == "http.disconnect"
        gone.set()
        await send(body(LARGE))
        after.set()

    with serve(app, network_timeout=0.2).connect() as client:
        client.request()
        assert gone.wait(30), "what takes nothing for the timeout has left"
        assert after.wait(30), "and the application goes on undisturbed"
        assert len(client.rest()) < 10 * len(LARGE)
    assert "failed" not in caplog.text


# What goes wrong in applications


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers nothing."""


@pytest.mark.parametrize("app", [broken, silent])
def test_an_application_that_does_not_answer(serve: Serve, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serve(app).connect() as client:
        client.request()
        status, headers, data = client.response()
        assert (status, headers["connection"], data) == (500, "close", b"")
        assert client.rest() == b""
    assert ("ZeroDivisionError" in caplog.text) is (app is broken)


WRONG = [
    [start(content_length="5"), body(b"he", True)],  # and then returns
    [start(content_length="5"), body(b"he")],
    [start(content_length="5"), body(b"hello!")],
    [start(), body(b"he", True), start()],
    [start(), body(b"he", True), {"type": "http.response.informational", "status": 104}],
    [start(), body(b"he", True), {"type": "what"}],
]


@pytest.mark.parametrize("messages", WRONG, ids=range(len(WRONG)))
def test_a_response_that_is_cut_short_does_not_look_whole(serve: Serve, messages: list[dict[str, Any]]) -> None:
    with serve(answers(*messages)).connect() as client:
        client.request()
        data = client.rest()
        assert data.startswith(b"HTTP/1.1 200 OK\r\n") or not data
        assert not data.endswith(b"0\r\n\r\n") and b"hello" not in data


def test_a_message_that_comes_too_early_or_too_late(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(answers(body(b"x"))).connect() as client:
        client.request()
        assert client.response()[0] == 500
    with serve(answers(start(content_length="0"), body(), body())).connect() as client:
        for _ in range(2):
            client.request()
            assert client.response()[0] == 200, "what was answered stays answered"
        until(lambda: len(caplog.records) == 3)
    assert all("can't be sent now" in str(record.exc_info) for record in caplog.records)


INJECTIONS = [(b"a", b"b\r\nevil: c"), (b"a", b"b\nevil: c"), (b"a\r\nevil", b"c"), (b"a", b"evil\0"), (b"a", b"evil\r")]


@pytest.mark.parametrize("pair", INJECTIONS)
@pytest.mark.parametrize("kind", ["http.response.start", "http.response.informational"])
def test_nobody_injects_headers(serve: Serve, pair: tuple[bytes, bytes], kind: str) -> None:
    with serve(answers({"type": kind, "status": 200, "headers": [pair]}, body())).connect() as client:
        client.request()
        data = client.rest()
        assert b"evil" not in data
        assert data == b"" or data.startswith(b"HTTP/1.1 500 ")


# Bodies


@pytest.mark.parametrize("app", [echo, pump])
@pytest.mark.parametrize("size", [0, 5, 100_000, len(LARGE)])
def test_bodies_and_keep_alive(serve: Serve, app: Any, size: int) -> None:
    data = LARGE[:size]
    with serve(app).connect() as client:
        for _ in range(2):
            client.request("PUT", "/", data)
            assert client.response()[::2] == (200, data)
            client.send(b"PUT / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send((b"%x\r\n%s\r\n" % (size, data) if size else b"") + b"0\r\nTrailer: x\r\n\r\n")
            assert client.response()[::2] == (200, data)


@pytest.mark.parametrize("app", [echo, pump])
@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_requests_behind_a_body(serve: Serve, app: Any, size: int) -> None:
    """Pipelined, one write for all."""
    request = b"PUT / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size + LARGE[:size]
    with serve(app).connect() as client:
        sending = threading.Thread(target=client.send, args=(request * 3,))
        sending.start()
        for _ in range(3):
            assert client.response()[::2] == (200, LARGE[:size])
        sending.join()


def test_many_requests_ahead_of_the_answers(serve: Serve) -> None:
    count = 20_000
    with serve(answers(start(content_length="0"), body())).connect() as client:
        sending = threading.Thread(target=client.send, args=(b"\r\nGET / HTTP/1.1\r\nHost: here\r\n\r\n" * count,))
        sending.start()
        for _ in range(count):
            client.until(b"\r\n\r\n")
        sending.join()


@pytest.mark.parametrize("app", [echo, pump])
def test_a_client_that_waits_for_100_continue(serve: Serve, app: Any) -> None:
    with serve(app).connect() as client:
        for _ in range(2):
            client.send(b"PUT / HTTP/1.1\r\nHost: here\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
            assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"hello")
            assert client.response()[::2] == (200, b"hello")


def test_a_refused_client_is_told_and_not_listened_to(serve: Serve) -> None:
    with serve(answers(start(413, content_length="0"), body())).connect() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        status, headers, _ = client.response()
        assert (status, headers["connection"]) == (413, "close"), "and no 100"
    with serve(answers(start(413, content_length="0"), body())).connect() as client:
        client.request("PUT", "/", None, "Content-Length: 1000000000")
        client.send(LARGE)
        status, headers, _ = client.response()
        assert (status, headers["connection"]) == (413, "close")
        assert client.rest() == b""


@pytest.mark.parametrize("app", [echo, pump])
def test_a_half_closed_client_with_bytes_missing_is_answered(serve: Serve, app: Any) -> None:
    with serve(app).connect() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nhello")
        client.sock.shutdown(socket.SHUT_WR)
        status, _, data = client.response()
        assert (status, data) == (400, b"cut" if app is echo else b"hello")
        assert client.rest() == b""


@pytest.mark.parametrize("app", [echo, pump])
def test_a_half_closed_client_with_everything_sent_is_answered(serve: Serve, app: Any) -> None:
    with serve(app).connect() as client:
        client.request("PUT", "/", b"first")
        client.request("PUT", "/", b"second")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.response()[2] == b"first"
        assert client.response()[2] == b"second"
        assert client.rest() == b""


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n", b"\n\n\r\n\r\n"])
def test_blank_lines_of_a_half_closed_client_are_no_request(serve: Serve, blank: bytes) -> None:
    with serve(echo).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" + blank)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.response()[0] == 200
        assert client.rest() == b""
    with serve(echo).connect() as client:
        client.send(blank)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""


@pytest.mark.parametrize("app", [echo, pump])
def test_broken_chunks(serve: Serve, app: Any) -> None:
    with serve(app).connect() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\noops\r\n")
        status, headers, data = client.response()
        assert (status, headers["connection"], data) == (400, "close", b"cut" if app is echo else b"hello")


def test_an_application_hears_that_its_client_has_left(serve: Serve) -> None:
    waiting, heard = threading.Event(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        waiting.set()
        heard.append(await receive())
        heard.append(await receive())
        await send(start())  # into the void

    with serve(app).connect() as client:
        client.request("PUT", "/", b"hello")
        assert waiting.wait(30)
        client.reset()
        until(lambda: len(heard) == 2)
    assert heard == [{"type": "http.disconnect"}] * 2


def test_an_application_that_waits_after_its_answer_is_told_the_same(serve: Serve) -> None:
    heard: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send(start(content_length="0"))
        await send(body())
        heard.append(await listening)
        heard.append(await receive())

    with serve(app).connect() as client:
        client.request()
        assert client.response()[0] == 200
        until(lambda: len(heard) == 2)
    assert heard == [{"type": "http.disconnect"}] * 2


# Zero-copy


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(LARGE)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


def extent(file: int, offset: int, count: int, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.zerocopysend", "file": file, "offset": offset, "count": count, "more_body": more}


@pytest.mark.parametrize("ending", [True, False])
def test_a_file_is_sent(serve: Serve, file: int, ending: bool) -> None:
    messages = [start(content_length=str(len(LARGE))), extent(file, 0, len(LARGE), ending)]
    with serve(answers(*messages, *([body()] if ending else []))).connect() as client:
        for _ in range(2):
            client.request()
            assert client.response()[2] == LARGE


def test_several_extents(serve: Serve, file: int) -> None:
    half = len(LARGE) // 2
    messages = [
        start(content_length=str(len(LARGE) + 8)),
        body(b"head", True),
        extent(file, half, len(LARGE) - half),
        extent(file, 0, half),
        body(b"tail"),
    ]
    with serve(answers(*messages)).connect() as client:
        client.request()
        assert client.response()[2] == b"head" + LARGE[half:] + LARGE[:half] + b"tail"


def test_a_slow_reader_gets_it_all(serve: Serve, file: int) -> None:
    server = serve(answers(start(content_length=str(len(LARGE))), extent(file, 0, len(LARGE), False)))
    client = Client.__new__(Client)
    client.sock, client._buffer = socket.socket(), b""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sock.settimeout(30)
    client.sock.connect(server.address)
    with client:
        client.request()
        for _ in range(5):  # longer than a thread waits
            client.exactly(1000)
            threading.Event().wait(0.03)
        client.exactly(len(LARGE) - 5000)  # and the head's length is still to come


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_reader_that_leaves(serve: Serve, file: int, how: str, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=str(len(LARGE) * 10)))
        for _ in range(10):
            await send(extent(file, 0, len(LARGE)))
        await send(body())
        done.set()

    with serve(app).connect() as client:
        client.request()
        client.exactly(1000)
        client.reset() if how == "reset" else client.sock.close()
        assert done.wait(30), "and the application goes on undisturbed"
    assert "failed" not in caplog.text


def test_a_reader_that_takes_nothing(serve: Serve, file: int) -> None:
    done = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=str(len(LARGE) * 10)))
        for _ in range(10):
            await send(extent(file, 0, len(LARGE)))
        await send(body())
        done.set()

    with serve(app, network_timeout=0.2).connect() as client:
        client.request()
        assert done.wait(30)
        assert len(client.rest()) < 10 * len(LARGE)


def test_a_file_that_is_too_short(serve: Serve, file: int, caplog: pytest.LogCaptureFixture) -> None:
    size = len(LARGE) + 10
    with serve(answers(start(content_length=str(size)), extent(file, 0, size, False))).connect() as client:
        client.request()
        data = client.rest()
        assert len(data.partition(b"\r\n\r\n")[2]) == len(LARGE)
    assert "10 bytes early" in caplog.text


@pytest.mark.parametrize("head", [start(content_length="5"), start()])
def test_a_file_that_is_longer_than_the_response(serve: Serve, file: int, head: dict[str, Any]) -> None:
    """In a chunked response, too: bare bytes would be read as chunks."""
    with serve(answers(head, extent(file, 0, 10, False))).connect() as client:
        client.request()
        assert client.rest().partition(b"\r\n\r\n")[2] == b""


def test_a_head_has_no_file(serve: Serve, file: int) -> None:
    with serve(answers(start(content_length="10"), extent(file, 0, 10, False))).connect() as client:
        for _ in range(2):
            client.request("HEAD")
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n"), "nothing in between"


# Requests that never reach an application

REFUSED = [
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    (b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
    (b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
    (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, 431),
]


@pytest.mark.parametrize(("request_", "status"), REFUSED, ids=range(len(REFUSED)))
def test_refused_requests(serve: Serve, request_: bytes, status: int) -> None:
    with serve(echo).connect() as client:
        client.send(request_)
        found, headers, _ = client.response()
        assert (found, headers["connection"]) == (status, "close")
        assert client.rest() == b""


def test_an_upgrade_that_nobody_wants_is_a_request(serve: Serve) -> None:
    with serve(echo).connect() as client:
        client.request("GET", "/", None, "Connection: upgrade", "Upgrade: websocket")
        assert client.response()[0] == 200


def test_a_head_in_pieces(serve: Serve) -> None:
    with serve(echo).connect() as client:
        for _ in range(2):
            for byte in b"\r\nPUT / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nok":
                client.send(bytes([byte]))
            assert client.response()[2] == b"ok"


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n"])
def test_a_client_that_never_ends_its_head(serve: Serve, data: bytes) -> None:
    with serve(echo, network_timeout=0.1).connect() as client:
        client.send(data)
        assert client.rest() == b""


def test_a_client_that_says_nothing_more(serve: Serve) -> None:
    with serve(echo, network_timeout=0.1).connect() as client:
        client.request("PUT", "/", b"x")
        assert client.response()[0] == 200
        assert client.rest() == b""


# Stopping


def test_stopping_closes_idle_connections_and_lets_answers_end(serve: Serve) -> None:
    asked, go = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            asked.set()
            await asyncio.to_thread(go.wait, 30)
        await send(start(content_length="0"))
        await send(body())

    server = serve(app)
    with server.connect() as idle, server.connect() as busy:
        idle.request()
        idle.response()
        busy.request("GET", "/slow")
        assert asked.wait(30)
        server.uvicorn.should_exit = True
        assert idle.rest() == b""
        go.set()
        assert busy.head()[1]["connection"] == "close"
        assert busy.rest() == b""


def test_an_application_that_is_cancelled_cuts_the_connection(serve: Serve) -> None:
    asked = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await asyncio.sleep(30)

    server = serve(app, timeout_graceful_shutdown=0)
    with server.connect() as client:
        client.request()
        assert asked.wait(30)
        server.uvicorn.should_exit = True
        assert client.rest() == b""
