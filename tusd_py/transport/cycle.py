"""One request and its response: the application's `receive` and `send` on our transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from tusd_py.transport.body import TransportBody
from tusd_py.transport.flow import Flow
from tusd_py.transport.sending import send_file

__all__ = ["Cycle", "status_line"]

_log = logging.getLogger("tusd_py.transport")

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_PHRASES |= {104: "Upload Resumption Supported", 460: "Checksum Mismatch"}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in _PHRASES.items()}

_ERROR = {"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0"), (b"connection", b"close")]}
_NO_BODY = (204, 304)

INFORMATIONAL = "http.response.informational"
ZERO_COPY = "http.response.zerocopysend"


def status_line(status: int) -> bytes:
    """With tus's own phrase for 460, which HTTP libraries don't know (K03)."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


class Cycle:
    """Runs the application for one request. `on_response` is called once the response is complete."""

    __slots__ = (
        "_chunked",
        "_default_headers",
        "_expected",
        "_flow",
        "_gone",
        "_is_head",
        "_on_response",
        "_transport",
        "body",
        "disconnected",
        "expects_continue",
        "keep_alive",
        "network_timeout",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(
        self,
        scope: dict[str, Any],
        transport: asyncio.Transport,
        flow: Flow,
        body: TransportBody,
        *,
        default_headers: list[tuple[bytes, bytes]],
        expects_continue: bool,
        keep_alive: bool,
        network_timeout: float,
        on_response: Callable[[], None],
    ) -> None:
        self.scope, self.body = scope, body
        self._transport, self._flow = transport, flow
        self._default_headers, self._on_response = default_headers, on_response
        self._is_head = scope["method"] == "HEAD"
        self.expects_continue, self.keep_alive = expects_continue, keep_alive
        self.network_timeout = network_timeout
        self.disconnected = self.response_started = self.response_complete = False
        self._chunked = False
        self._expected = 0  # bytes of body that Content-Length still promises
        self._gone: asyncio.Future[None] | None = None

    async def run(self, app: Callable[..., Any]) -> None:
        """Call the application; whatever it does, the connection is left in a defined state."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception as failure:
            if not self.disconnected:
                _log.error("the application failed", exc_info=failure)
        if self.disconnected or self.response_complete:
            return
        if self.response_started:
            self._transport.abort()  # a body that is cut short must not look whole
        else:
            await self.send(_ERROR)
            await self.send({"type": "http.response.body"})

    def disconnect(self) -> None:
        """The connection is lost."""
        self.disconnected = True
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    # ASGI

    async def receive(self) -> dict[str, Any]:
        """For applications that don't know our body: its payload, then `http.disconnect` when the client leaves."""
        if not self.response_complete and not self.body.handed_out:
            piece = await self.body.receive_piece()
            if piece is None:  # a client that has only half closed still reads the answer, so that nobody need wait for its end
                return {"type": "http.disconnect"}
            data, more = piece
            self.body.handed_out = not more
            return {"type": "http.request", "body": data, "more_body": more}
        if not self.disconnected and not self.response_complete:
            self._gone = self._gone or asyncio.get_running_loop().create_future()
            await asyncio.wait((self._gone,))
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self._flow.write_paused and not self.disconnected:
            await self._drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._send_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        elif kind == ZERO_COPY and self.response_started and not self.response_complete:
            await self._send_file(message)
        elif kind == INFORMATIONAL and not self.response_started:
            self._write_head(message["status"], [*message.get("headers", ())])
        else:
            raise RuntimeError(f"ASGI message {kind!r} can't be sent now")

    # Inside

    def _send_head(self, status: int, headers: Any) -> None:
        self.response_started = True
        self.expects_continue = False
        pairs = [*self._default_headers, *headers]
        sized = closing = False
        for name, value in pairs:
            if name == b"content-length":
                sized, self._expected = True, int(value)
            elif name == b"transfer-encoding":
                sized = self._chunked = True
            elif name == b"connection" and b"close" in value.lower():
                closing = True
        if closing or not self.body.complete:  # we don't swallow what is left of a body to reach the next request
            self.keep_alive = False
        if not self.keep_alive and not closing:
            pairs.append((b"connection", b"close"))
        if not sized and not self._is_head and status not in _NO_BODY:
            self._chunked = True
            pairs.append((b"transfer-encoding", b"chunked"))
        self._write_head(status, pairs)

    def _write_head(self, status: int, pairs: list[tuple[bytes, bytes]]) -> None:
        lines = [status_line(status)]
        for name, value in pairs:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(pairs) + 2 or head.count(b"\r") != len(pairs) + 2 or b"\0" in head:
            raise ValueError("a response header contains a line break or NUL")
        self._transport.write(head)

    def _send_body(self, data: bytes, more: bool) -> None:
        if self._is_head:
            self._expected = 0
        elif self._chunked:
            parts = [b"%x\r\n" % len(data), data, b"\r\n"] if data else []
            if not more:
                parts.append(b"0\r\n\r\n")
            self._transport.write(b"".join(parts))
        else:
            if len(data) > self._expected:
                raise RuntimeError("the response body is longer than its Content-Length")
            self._expected -= len(data)
            if data:
                self._transport.write(data)
        if not more:
            self._finish()

    async def _send_file(self, message: dict[str, Any]) -> None:
        count = 0 if self._is_head else message["count"]
        if count > self._expected:  # nor is there a place for it in a chunked body
            raise RuntimeError("the response body is longer than its Content-Length")
        fd = self._transport.get_extra_info("socket").fileno()
        self._transport.set_write_buffer_limits(high=0)
        if self._transport.get_write_buffer_size():
            await self._drain()  # the head goes out first
        self._transport.set_write_buffer_limits()
        if self.disconnected:
            return
        try:
            await send_file(
                fd, message["file"], message.get("offset", 0), count, self.network_timeout, lambda: self.disconnected
            )
        except ConnectionError:
            self.disconnected = True
            self._transport.abort()
            return
        self._expected = 0 if self._is_head else self._expected - count
        if not message.get("more_body", False):
            self._finish()

    async def _drain(self) -> None:
        """Wait until the client has taken enough of what was written. One that takes nothing for the network timeout is gone:
        what is being sent to it would be held for ever."""
        while self._flow.write_paused and not self.disconnected:
            left = self._transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self.network_timeout):
                    await self._flow.drain()
            except TimeoutError:
                if self._transport.get_write_buffer_size() >= left:
                    self.disconnected = True
                    self._transport.abort()

    def _finish(self) -> None:
        if self._expected:
            raise RuntimeError(f"the response body is {self._expected} bytes shorter than its Content-Length")
        self.response_complete = True
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self._on_response()
