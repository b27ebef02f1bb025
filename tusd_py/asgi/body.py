"""A request's body from any ASGI server, through `receive()`. Slower than our transport's own, and the same to its users."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.types import Receive

from tusd_py.ports.body import BodyEnd, Sink
from tusd_py.protocol.headers import collect_headers

__all__ = ["AsgiBody"]

INLINE_BYTES = 64 * 1024
"""Pieces up to this size are written on the event loop: the hop to a thread costs more than the write (architecture, 3)."""


class AsgiBody:
    """`tusd_py.ports.body.Body` over `receive`.

    `pairs` is the server's own list of headers: uvicorn's httptools protocol appends trailers to it while the body comes in,
    which is how they are told apart from headers (K17). `early` are trailers that were there from the beginning.
    """

    def __init__(
        self,
        receive: Receive,
        length: int | None,
        pairs: Sequence[tuple[bytes, bytes]],
        early: Mapping[bytes, bytes],
        timeout: float,
    ) -> None:
        self._receive, self._length, self._timeout = receive, length, timeout
        self._pairs, self._header_count, self._early = pairs, len(pairs), early
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.complete = length == 0

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def ready(self) -> bool:
        return self.complete

    @property
    def trailers(self) -> Mapping[bytes, bytes]:
        late = ((name.lower(), value) for name, value in self._pairs[self._header_count :])
        return collect_headers((*self._early.items(), *late))

    def stop(self) -> None:
        if not self._stop.done():
            self._stop.set_result(None)

    async def pump(self, sink: Sink, limit: int) -> BodyEnd:
        if self.complete:
            return BodyEnd.COMPLETE
        while not self._stop.done():
            message = await self._next()
            if message is None:
                return BodyEnd.STOPPED if self._stop.done() else BodyEnd.STALLED
            if message["type"] == "http.disconnect":
                return BodyEnd.CUT
            piece = message.get("body", b"")
            excess = len(piece) > limit
            await _write(sink.write, piece[:limit] if excess else piece)
            limit -= len(piece)
            if excess:
                return BodyEnd.EXCESS
            if not message.get("more_body", False):
                self.complete = True
                return BodyEnd.COMPLETE
        return BodyEnd.STOPPED

    async def _next(self) -> Mapping[str, Any] | None:
        """The next message; None when we are stopped or nothing came in time."""
        receiving = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((receiving, self._stop), timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else None
        finally:
            receiving.cancel()


async def _write(write: Callable[[bytes], None], piece: bytes) -> None:
    if len(piece) <= INLINE_BYTES:
        if piece:
            write(piece)
        return
    writing = asyncio.get_running_loop().run_in_executor(None, write, piece)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        while not writing.done():  # nobody may touch the sink while a thread is in it, however often we are cancelled
            with suppress(asyncio.CancelledError):
                await asyncio.wait((writing,))
        raise
