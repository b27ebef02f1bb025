"""HTTP/1.1 one step at a time: a head, some bytes, a look whether an answer is there already, an end in mid-body."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult

import h11

__all__ = ["Answer", "Exchange", "NoAnswer", "connect"]

_PIECE = 1 << 16
_SIOCOUTQ = 0x5411


class NoAnswer(OSError):
    """The connection ended, or time ran out, before an answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of headers in lower case. `interim` are the statuses of 1xx answers before it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    interim: tuple[int, ...] = ()

    def header(self, name: str) -> str | None:
        return next((value for given, value in self.headers if given == name), None)

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given == name]


def connect(url: SplitResult, *, context: ssl.SSLContext | None, timeout: float) -> socket.socket:
    """A connection to the origin of the URL, by TLS where that is https. Raises OSError."""
    assert url.hostname
    one = socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return one
    try:
        return context.wrap_socket(one, server_hostname=url.hostname)
    except BaseException:
        one.close()
        raise


@dataclass
class Exchange:
    """One request and its answer on a connection of their own."""

    sock: socket.socket
    timeout: float
    _http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    _interim: list[int] = field(default_factory=list)
    _head: h11.Response | None = None
    _body: bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send_head(self, method: str, target: str, headers: list[tuple[str, str]]) -> None:
        head = h11.Request(method=method, target=target, headers=headers)
        self._send(self._http.send(head))

    def send(self, data: bytes) -> None:
        self._send(self._http.send(h11.Data(data=data)))

    def end(self) -> None:
        self._send(self._http.send(h11.EndOfMessage()))

    def _send(self, data: bytes | None) -> None:
        if data:
            self.sock.settimeout(self.timeout)
            self.sock.sendall(data)

    def answer(self, timeout: float | None = None) -> Answer:
        """Wait for the whole answer. Raises `NoAnswer`."""
        found = self._read(self.timeout if timeout is None else timeout, until_continue=False)
        if found is None:
            raise NoAnswer("no answer in time")
        return found

    def early(self, timeout: float) -> Answer | None:
        """The final answer if it comes within that time although the request has not ended. Raises `NoAnswer`."""
        return self._read(timeout, until_continue=False)

    def continued(self, timeout: float) -> Answer | bool:
        """True once `100 Continue` has come, the final answer if there is one instead, false if neither comes in time."""
        found = self._read(timeout, until_continue=True)
        return found if found is not None else 100 in self._interim

    def first_piece(self, timeout: float) -> bytes:
        """What has come of the body when the first of it is there; empty if nothing comes in time."""
        deadline = time.monotonic() + timeout
        while not self._body and (left := deadline - time.monotonic()) > 0:
            try:
                if self._step(left) is not None:
                    break
            except TimeoutError:
                break
        return self._body

    @property
    def head(self) -> Answer | None:
        """The answer's head, if it has come."""
        return None if self._head is None else self._made(self._head)

    def _read(self, timeout: float, *, until_continue: bool) -> Answer | None:
        deadline = time.monotonic() + timeout
        while not (until_continue and 100 in self._interim):
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                found = self._step(left)
            except TimeoutError:
                return None
            if found is not None:
                return found
        return None

    def _step(self, timeout: float) -> Answer | None:
        """Go on by one event, or by what one read brings."""
        try:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(self._receive(timeout))
            elif isinstance(event, h11.InformationalResponse):
                self._interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                return self._made(self._head)
            elif isinstance(event, h11.ConnectionClosed):
                raise NoAnswer("the connection was closed without an answer")
        except h11.RemoteProtocolError as error:
            raise NoAnswer(str(error)) from None
        return None

    def _receive(self, timeout: float) -> bytes:
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(_PIECE)
        except TimeoutError:
            raise
        except OSError as error:  # a reset
            raise NoAnswer(error.strerror or str(error)) from None

    def _made(self, head: h11.Response) -> Answer:
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
        return Answer(head.status_code, headers, self._body, tuple(self._interim))

    def cut(self) -> None:
        """End the connection in mid-request, once the other side's system has all that was sent."""
        self._wait_until_acknowledged()
        with suppress(OSError):
            # A reset: what a client that vanishes from its network looks like to the other side, at best.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _wait_until_acknowledged(self) -> None:
        if not sys.platform.startswith("linux"):
            return
        import fcntl

        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if struct.unpack("i", fcntl.ioctl(self.sock, _SIOCOUTQ, b"\0" * 4))[0] == 0:
                return
            time.sleep(0.01)
