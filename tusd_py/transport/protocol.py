"""Our HTTP protocol class for uvicorn: httptools parses heads, and bodies never pass through it.

What it does that the stock class does not: it hands bodies over at full speed (`tusd_py.transport.body`), keeps what was
received when a client disconnects, answers half-closed clients, closes after an early refusal instead of swallowing the rest,
caps the head, sends 1xx responses, and keeps trailers apart from headers. It leans on internals of uvicorn 0.54's
`HttpToolsProtocol`; `tusd_py.transport.http_protocol` falls back to the stock class with any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tusd_py.transport.body import HIGH_WATER, Connection, TransportBody
from tusd_py.transport.cycle import INFORMATIONAL, ZERO_COPY, Cycle, status_line
from tusd_py.transport.flow import Flow
from tusd_py.transport.framing import ChunkedFraming, LengthFraming

__all__ = ["BODY_EXTENSION", "UploadProtocol"]

BODY_EXTENSION = "tusd_py.body"
"""Name in `scope["extensions"]` of the request's `tusd_py.ports.body.Body`."""

MAX_HEAD = 1 << 20
"""Go's limit, and so tusd's: an Upload-Concat of thousands of partials fits; a client that never ends its head does not."""

LINGER = 2.0
"""Seconds that a refused client may go on sending before the connection is closed. Closing at once would reset it, and the
reset can overtake the answer that tells why."""

SHUTDOWN_LINGER = 0.1
"""The same while the server stops: enough for a client that reads, and nobody waits for one that does not."""

_END_OF_HEAD = b"\r\n\r\n"


class _Head:
    """What a request head says of the connection, while it is parsed."""

    __slots__ = ("chunked", "complete", "expects_continue", "keep_alive", "length", "unframed")

    def __init__(self) -> None:
        self.length = 0
        self.chunked = self.complete = self.expects_continue = self.keep_alive = self.unframed = False


class UploadProtocol(HttpToolsProtocol, Connection):
    """One connection: a head at a time, then its body, then its response, then the next head."""

    network_timeout: ClassVar[float] = 60.0
    _retiring: ClassVar[bool] = False

    flow: Flow  # type: ignore[assignment]

    # Class attributes until they differ: thousands of slow uploads are thousands of these objects.
    _head: bytes = b""  # of the next request, as far as it has come
    _body: TransportBody | None = None
    _cycle: Cycle | None = None
    _eof = False
    _lingering = False
    _linger = LINGER
    _deadline = 0.0
    _watch: asyncio.TimerHandle | None = None

    @classmethod
    def configure(cls, *, network_timeout: float) -> type[UploadProtocol]:
        """This class with its timeout, in seconds, set: between two pieces of a head or a body, and between requests."""
        return cast("type[UploadProtocol]", type(cls.__name__, (cls,), {"network_timeout": network_timeout}))

    @classmethod
    def retire(cls, connections: Iterable[object]) -> None:
        """Another process takes over: these connections, and those that are being made, get one more answer each.

        An idle connection is not closed, since its next request may be on the way already; that one's answer says `close`.
        """
        cls._retiring = True
        for one in connections:
            if isinstance(one, cls) and one._cycle is not None and not one._cycle.response_started:
                one._cycle.keep_alive = False

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = Flow(self.transport)
        self.parser = self.pipeline = None  # type: ignore[assignment]
        self._tls = self.scheme == "https"
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._body is not None and not self._body.complete:
            self._body.feed(data)
            return
        begins = not self._head
        self._head = data if begins else self._head + data
        if self._busy:
            if len(self._head) > HIGH_WATER:  # pipelined ahead of our answer; it can wait
                self.pause()
        else:
            self._next_request(begins)

    def eof_received(self) -> bool:  # type: ignore[override]
        self._eof = True
        waiting = self._busy or self._has_head
        if self._lingering or self._tls or not waiting:
            if self._body is not None:
                self._body.cut()
            return False
        if self._body is not None and not self._body.complete:
            self._body.cut()
        return True  # half-closed: the answers still go out (P17)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        if self._watch is not None:
            self._watch.cancel()
        if self._cycle is not None and not self._cycle.response_complete:
            self._cycle.disconnect()
        if self._body is not None:
            self._body.cut()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]

    def shutdown(self) -> None:
        self._linger = SHUTDOWN_LINGER
        if self._busy:
            assert self._cycle is not None
            self._cycle.keep_alive = False
        else:
            self.transport.close()

    # What a body needs (Connection)

    def send_continue(self) -> None:
        if self._cycle is not None and self._cycle.expects_continue:
            self._cycle.expects_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def pause(self) -> None:
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def resume(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def socket_fd(self) -> int | None:
        if self._tls or self.transport.is_closing():
            return None
        fd: int = self.transport.get_extra_info("socket").fileno()
        return None if fd < 0 else fd

    # Heads

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self._cycle is not None and not self._cycle.response_complete

    @property
    def _has_head(self) -> bool:
        """Whether the next request's head is here. Blank lines in front of it, which some clients send, are no part of it."""
        return _END_OF_HEAD in self._head.lstrip(b"\r\n")

    def _wait_for_head(self) -> None:
        """From now on, the client has the network timeout to send a whole head."""
        self._deadline = self.loop.time() + self.network_timeout
        if self._watch is None:
            self._watch = self.loop.call_later(self.network_timeout, self._check_deadline)

    def _check_deadline(self) -> None:
        """One timer a connection, not two calls a request: it sleeps again for what is left."""
        left = self._deadline - self.loop.time()
        if left > 0 or self._busy:
            self._watch = self.loop.call_later(left if left > 0 else self.network_timeout, self._check_deadline)
        elif not self.transport.is_closing():
            self.transport.close()

    def _next_request(self, begins: bool) -> None:
        """Begin with the next request if its head is complete. `begins` says that its first byte has just come."""
        data = self._head if self._head[:1] not in b"\r\n" else self._head.lstrip(b"\r\n")
        end = data.find(_END_OF_HEAD)
        if end < 0:
            self._head = data
            if len(data) > MAX_HEAD:
                self._refuse(431, f"the request head exceeds {MAX_HEAD} bytes")
            elif begins:
                self._wait_for_head()  # the whole head has to come in that time: a trickle must not hold us for ever
            return
        end += len(_END_OF_HEAD)
        self._head = data[end:]
        if end > MAX_HEAD:
            self._refuse(431, f"the request head exceeds {MAX_HEAD} bytes")
        else:
            self._parse(data[:end])

    def _parse(self, head: bytes) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self._facts = facts = _Head()
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
        except httptools.HttpParserError:
            self._refuse(400, "invalid HTTP request")
            return
        if not facts.complete or facts.unframed:
            self._refuse(400, "invalid HTTP request: there is no telling where its body ends")
            return
        self._begin(facts)
        self.parser = self._facts = None  # type: ignore[assignment]

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip(b" \t")  # the parser leaves blanks behind the value (RFC 9110, 5.5)
        if name == b"content-length":
            self._facts.length = int(value)  # the parser has seen to it that it is a number, and the only one
        elif name == b"transfer-encoding":
            self._facts.chunked = True
            if value.lower() != b"chunked":  # no other coding is ours to undo, and no two of them
                self._facts.unframed = True
        elif name == b"expect" and value.lower() == b"100-continue":
            self._facts.expects_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        facts = self._facts
        facts.complete = True
        facts.keep_alive = self.parser.should_keep_alive()  # behind the head, the parser is about the next one
        if self.parser.should_upgrade() and self._should_upgrade():
            self.scope = self._make_scope()  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._facts.unframed = True  # only a head is ever fed: the parser sees its end where we don't

    def on_message_complete(self) -> None:
        """Nothing: where a body ends is our business."""

    def _make_scope(self) -> dict[str, Any]:
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        path = raw_path.decode("ascii")
        extensions: dict[str, Any] = {INFORMATIONAL: {}} if self._tls else {INFORMATIONAL: {}, ZERO_COPY: {}}
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": self.parser.get_http_version(),
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": target.query or b"",
            "root_path": self.root_path,
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": self.app_state.copy(),
            "extensions": extensions,
        }

    def _begin(self, facts: _Head) -> None:
        """Start the application on the request whose head is parsed."""
        try:
            scope = self._make_scope()
        except (httptools.HttpParserError, UnicodeDecodeError):
            self._refuse(400, "invalid request target")
            return
        framing = ChunkedFraming() if facts.chunked else LengthFraming(facts.length)
        length = None if facts.chunked else facts.length
        self._body = body = TransportBody(self, framing, length, self.loop, self.network_timeout)
        scope["extensions"][BODY_EXTENSION] = body
        if self._head and not framing.finished:
            body.feed(self._head)
            self._head = b""
        if self._eof:
            body.cut()
        self._cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            body,
            default_headers=self.server_state.default_headers,
            expects_continue=facts.expects_continue and not framing.finished,
            keep_alive=scope["http_version"] != "1.0" and facts.keep_alive and not self._retiring,
            network_timeout=self.network_timeout,
            on_response=self._response_complete,
        )
        task = self.loop.create_task(self._cycle.run(self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # Ends

    def _response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        assert self._cycle is not None and self._body is not None
        if not self._cycle.keep_alive:
            self._close_gently()
            return
        self._head = self._body.leftover() + self._head
        self._body = None
        if self._eof and not self._has_head:
            self.transport.close()
            return
        self.flow.resume_reading()
        self._wait_for_head()
        if self._head:
            self.loop.call_soon(self._resume_pipeline)

    def _resume_pipeline(self) -> None:
        if not self._busy and not self.transport.is_closing() and self._head:
            self._next_request(begins=True)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that never reaches the application, and close."""
        text = reason.encode() + b"\n"
        fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(status_line(status) + fields + text)
        self._head = b""
        self._close_gently(linger=True)

    def _close_gently(self, *, linger: bool = False) -> None:
        """Close; if the client is still sending, only after it had the time to read why."""
        unread = linger or (self._body is not None and not self._body.complete)
        if not unread or self._eof or self._tls or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingering = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(self._linger, self.transport.close)
