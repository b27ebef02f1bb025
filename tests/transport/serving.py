"""A real uvicorn with our protocol class in a thread, and a client of bare bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Self

import uvicorn
import uvicorn.server

from tusd_py.transport import http_protocol

AGES = 30.0


class _Impatient(ModuleType):
    """asyncio for uvicorn's server, which looks only ten times a second whether it is to end and whether all are gone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay: float) -> None:
        await asyncio.sleep(delay / 10)


uvicorn.server.asyncio = _Impatient("asyncio")


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + AGES
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.001)


class Server:
    """An application served; as a context manager, until the block ends."""

    def __init__(
        self, app: Callable[..., Any], *, loop: str = "asyncio", network_timeout: float = AGES, **options: Any
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        config = uvicorn.Config(
            app,
            http=http_protocol(network_timeout=network_timeout),
            loop=loop,
            lifespan="off",
            log_config=None,
            access_log=False,
            **{"ws": "none", **options},
        )
        self.uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self.uvicorn.started)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self._thread.join(AGES)
        assert not self._thread.is_alive()
        self._socket.close()

    def connect(self) -> Client:
        return Client(self.address)


class Client:
    """A connection; bytes out, bytes in."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=AGES)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, method: str = "GET", path: str = "/", body: bytes | None = None, *headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            data = self.sock.recv(65536)
            assert data, f"closed after {self._buffer!r}"
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.sock.recv(65536)
            assert data, f"closed {size - len(self._buffer)} bytes early"
            self._buffer += data
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def head(self) -> tuple[int, dict[str, str]]:
        status, *lines = self.until(b"\r\n\r\n").decode("latin-1").rstrip().split("\r\n")
        headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert len(headers) == len(lines), "no header twice"
        return int(status.split(" ")[1]), headers

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next response to anything but a HEAD."""
        status, headers = self.head()
        if "content-length" in headers:
            return status, headers, self.exactly(int(headers["content-length"]))
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            assert self.exactly(2) == b"\r\n"
        return status, headers, body

    def rest(self) -> bytes:
        """Everything up to the end of the connection, however it ends."""
        try:
            while data := self.sock.recv(65536):
                self._buffer += data
        except ConnectionError:
            pass
        return self._buffer

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
