"""How the server ends: signals, what becomes of running requests, and the exit status (section 4.3 of the reference)."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, Connection
from tests.wire import stored

SHUTDOWN = "ERR_SERVER_SHUTDOWN: request has been interrupted because the server is shutting down\n"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
WORKERS = pytest.mark.parametrize("args", [(), ("-workers=2",)], ids=["1-worker", "2-workers"])
LARGE = 256 << 20


def data_of(server: ServerProcess, path: str) -> Path:
    return server.upload_dir / path.rsplit("/", 1)[1]


def is_listening(server: ServerProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), 5).close()
    except OSError:
        return False
    return True


def begin_patch(server: ServerProcess, connection: Connection, path: str, body: bytes, length: int = 100) -> None:
    """Send a PATCH of `length` bytes, of which only `body` for now; return when that much is in the file."""
    connection.send_head("PATCH", path, {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": length})
    connection.send(body)
    until(lambda: data_of(server, path).stat().st_size == len(body))


def begin_endless_download(server: ServerProcess, connection: Connection) -> None:
    """A download that hangs, because nobody reads it: more than all buffers on the way can take."""
    client = server.client()
    path = client.create(LARGE)
    with data_of(server, path).open("r+b") as data:
        data.truncate(LARGE)
    assert client.offset(path) == LARGE
    connection.send_head("GET", path, tus=False)
    assert connection._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_idle_server_ends(start_server: StartServer) -> None:
    server = start_server()
    assert server.terminate() == 0
    assert "Traceback" not in server.log


@SIGNALS
@WORKERS
def test_running_patch(start_server: StartServer, args: tuple[str, ...], number: signal.Signals) -> None:
    server = start_server(*args)
    path = server.client().create(100)
    with server.client().connect() as patch:
        begin_patch(server, patch, path, b"x" * 40)
        server.signal(number)
        answer = patch.answer("PATCH")
        assert (answer.status, answer.text) == (503, SHUTDOWN)
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert patch.is_closed()
    assert server.wait() == 0
    assert stored(server, path) == b"x" * 40
    client = start_server().client()
    assert client.offset(path) == 40
    assert client.patch(path, 40, b"y" * 60).offset == 100


def test_running_post(start_server: StartServer) -> None:
    server = start_server()
    with server.client().connect() as post:
        post.send_head("POST", "/files/", {"Upload-Length": 100, "Content-Type": OFFSET_STREAM, "Content-Length": 100})
        post.send(b"x" * 40)
        until(lambda: sum(file.stat().st_size for file in server.upload_dir.iterdir() if len(file.name) == 32) == 40)
        server.signal(signal.SIGTERM)
        answer = post.answer("POST")
        assert (answer.status, answer.text) == (503, SHUTDOWN)
    assert server.wait() == 0
    assert [file.read_bytes() for file in server.upload_dir.iterdir() if len(file.name) == 32] == [b"x" * 40]


def test_many_running_patches(start_server: StartServer) -> None:
    server = start_server()
    client = server.client()
    connections = [client.connect() for _ in range(30)]
    paths = [client.create(100) for _ in connections]
    for number, (connection, path) in enumerate(zip(connections, paths, strict=True)):
        begin_patch(server, connection, path, b"x" * number)
    server.signal(signal.SIGTERM)
    assert [connection.answer("PATCH").status for connection in connections] == [503] * 30
    assert server.wait() == 0
    assert [data_of(server, path).stat().st_size for path in paths] == list(range(30))
    for connection in connections:
        connection.sock.close()


@WORKERS
def test_idle_connections_are_closed(start_server: StartServer, args: tuple[str, ...]) -> None:
    server = start_server(*args)
    with server.client().connect() as used, server.client().connect() as fresh:
        assert used.request("OPTIONS", "/files/").status == 200
        server.signal(signal.SIGTERM)
        assert used.is_closed()
        assert fresh.is_closed()
    assert server.wait() == 0
    assert not is_listening(server)


def test_connection_with_half_a_head_is_closed(start_server: StartServer) -> None:
    server = start_server()
    with server.client().connect() as half:
        assert half.request("OPTIONS", "/files/").status == 200
        half.send(b"OPTIONS /files/ HTTP/1.1\r\nHost: x\r\n")
        server.signal(signal.SIGTERM)
        assert half.is_closed()
    assert server.wait() == 0


def test_running_download_is_waited_for(start_server: StartServer) -> None:
    """What only reads is let finish, as long as the timeout allows."""
    server = start_server("-shutdown-timeout=60s")
    with server.client().connect() as download:
        begin_endless_download(server, download)
        server.signal(signal.SIGTERM)
        until(lambda: not is_listening(server))
        received = len(download.buffer)
        while piece := download.sock.recv(1 << 20):
            received += len(piece)
        assert received == LARGE
    assert server.wait() == 0


@pytest.mark.parametrize("timeout", ["0", "0s", "300ms"])
def test_shutdown_timeout(start_server: StartServer, timeout: str) -> None:
    """After it, nothing is waited for: neither a download that hangs nor anything else."""
    server = start_server(f"-shutdown-timeout={timeout}")
    with server.client().connect() as download:
        begin_endless_download(server, download)
        assert server.terminate() == 0


def test_shutdown_timeout_of_0_keeps_the_bytes(start_server: StartServer) -> None:
    server = start_server("-shutdown-timeout=0")
    path = server.client().create(100)
    with server.client().connect() as patch:
        begin_patch(server, patch, path, b"x" * 40)
        assert server.terminate() == 0
    assert stored(server, path) == b"x" * 40
    assert start_server().client().offset(path) == 40


@WORKERS
def test_second_signal(start_server: StartServer, args: tuple[str, ...]) -> None:
    """It ends at once, whatever hangs. Only the second signal can give status 1 before the timeout gives 0."""
    server = start_server(*args, "-shutdown-timeout=60s")
    with server.client().connect() as download:
        begin_endless_download(server, download)
        server.signal(signal.SIGTERM)
        until(lambda: not is_listening(server))
        assert server.process is not None
        assert server.process.poll() is None
        server.signal(signal.SIGTERM)
        assert server.wait() == 1


def test_new_server_takes_over_the_directory(start_server: StartServer) -> None:
    """A restart while a client is in the middle of a file: it goes on where it was, not a byte lost or doubled."""
    data = bytes(range(256)) * 4000
    server = start_server()
    path = server.client().create(len(data))
    offset = 0
    for _ in range(3):
        with server.client().connect() as patch:
            head = {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM, "Content-Length": len(data) - offset}
            patch.send_head("PATCH", path, head)
            patch.send(data[offset : offset + 200_000])
            file = data_of(server, path)
            until(lambda file=file, size=offset + 200_000: file.stat().st_size == size)  # type: ignore[misc]
            server.signal(signal.SIGTERM)
            assert patch.answer("PATCH").status == 503
        assert server.wait() == 0
        server = start_server()
        offset = server.client().offset(path)
        assert offset == data_of(server, path).stat().st_size
    assert offset == 600_000
    assert server.client().patch(path, offset, data[offset:]).offset == len(data)
    assert stored(server, path) == data
