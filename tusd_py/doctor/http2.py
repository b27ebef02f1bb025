"""One request over HTTP/2. Needs the package h2, which the extra `doctor` brings."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Self

from tusd_py.doctor.http1 import Answer, NoAnswer

__all__ = ["NotSpoken", "Stream"]

_PIECE = 1 << 16
_HOP_BY_HOP = ("host", "connection", "transfer-encoding", "expect")


class NotSpoken(Exception):
    """The other side does not speak HTTP/2, or we don't. The message says which."""


class Stream:
    """A connection that carries one request."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        try:
            from h2.config import H2Configuration
            from h2.connection import H2Connection
        except ImportError:
            sock.close()
            raise NotSpoken("the Python package h2 is missing: install tusd-py[doctor]") from None
        self.sock, self.timeout = sock, timeout
        if not isinstance(sock, ssl.SSLSocket) or sock.selected_alpn_protocol() != "h2":
            sock.close()
            raise NotSpoken("the address does not speak HTTP/2")
        self._h2: Any = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._id: int = self._h2.get_next_available_stream_id()
        self._headers: list[tuple[str, str]] = []
        self._body, self._ended, self._reset = b"", False, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send_head(self, method: str, target: str, headers: list[tuple[str, str]], *, end: bool = False) -> None:
        fields = [(name.lower(), value) for name, value in headers]
        authority = dict(fields)["host"]
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", target)]
        self._h2.send_headers(self._id, [*pseudo, *(one for one in fields if one[0] not in _HOP_BY_HOP)], end_stream=end)
        self._flush()

    def send(self, data: bytes) -> bool:
        """Send as the other side's window lets us; false if an answer or a reset came before the end."""
        rest = memoryview(data)
        while rest:
            window = min(self._h2.local_flow_control_window(self._id), self._h2.max_outbound_frame_size, len(rest))
            if window:
                self._h2.send_data(self._id, bytes(rest[:window]))
                self._flush()
                rest = rest[window:]
            elif not self._hear(self.timeout):
                return False
        return True

    def end(self) -> None:
        self._h2.end_stream(self._id)
        self._flush()

    def answer(self) -> Answer:
        """The whole answer. Raises `NoAnswer`."""
        deadline = time.monotonic() + self.timeout
        while not self._ended and not (self._reset and self._headers):
            left = deadline - time.monotonic()
            if self._reset or left <= 0:
                raise NoAnswer("the stream was reset without an answer" if self._reset else "no answer in time")
            self._hear(left)
        pairs = dict(self._headers)
        return Answer(int(pairs[":status"]), tuple(self._headers), self._body)

    def _hear(self, timeout: float) -> bool:
        """Take in what comes next; whether the request may go on."""
        from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
        from h2.exceptions import ProtocolError

        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(_PIECE)
            events = self._h2.receive_data(data) if data else []
        except (TimeoutError, ProtocolError) as error:
            raise NoAnswer(str(error) or "no answer in time") from None
        if not data:
            raise NoAnswer("the connection was closed without an answer")
        for event in events:
            if isinstance(event, ResponseReceived):
                self._headers = [(str(name), str(value)) for name, value in event.headers or ()]
            elif isinstance(event, DataReceived):
                self._body += event.data or b""
                self._h2.acknowledge_received_data(event.flow_controlled_length, self._id)
            elif isinstance(event, StreamEnded):
                self._ended = True
            elif isinstance(event, StreamReset):
                self._reset = True
        self._flush()
        return not (self._headers or self._reset)

    def _flush(self) -> None:
        self.sock.settimeout(self.timeout)
        self.sock.sendall(self._h2.data_to_send())
