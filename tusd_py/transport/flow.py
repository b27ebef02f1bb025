"""Pausing and resuming a connection in both directions. uvicorn's class does the same with an `asyncio.Event` per connection,
which alone is a twentieth of what a slow upload may cost."""

from __future__ import annotations

import asyncio

__all__ = ["Flow"]


class Flow:
    """Flow control of one transport; idempotent, since several parties pause and resume."""

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        self._writable: asyncio.Future[None] | None = None

    def pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    async def drain(self) -> None:
        """Return once the transport's buffer is below its low-water mark, or the connection is lost."""
        while self.write_paused:
            if self._writable is None:
                self._writable = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writable)
