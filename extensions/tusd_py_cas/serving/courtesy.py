"""Letting clients go first: what can wait does so while many small uploads, or large ones, come in."""

from __future__ import annotations

import asyncio
import os
import time

from tusd_py.ports.extension import Host, Received

__all__ = ["Courtesy"]

MANY = 200.0
"""Bodies a second. Taking in as many as that costs the event loop a tenth of its time."""

FAST = 50e6
"""Bytes a second, for each processor. Receiving as many takes a thirtieth of one, and what sends them, another process or a
proxy, about as much again; it also keeps a disk busy."""

LOOK = 0.05
"""Seconds that a count has to be about, and between two looks."""

PATIENCE = 0.5
"""Seconds that a rush holds up what comes by the outbox: no more than some tens a second are taken in during one."""


class Courtesy:
    """`host` is set before anything is asked for."""

    host: Host

    def __init__(self, processors: int | None = None) -> None:
        self._fast = FAST * (processors or len(os.sched_getaffinity(0)))
        self._at, self._received = time.monotonic(), Received(0, 0)
        self._bodies, self._bytes = 0.0, 0.0  # a second

    async def give_way(self) -> None:
        """Return when no more than `MANY` uploads come in, or after `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while self.is_rush() and time.monotonic() < deadline:  # noqa: ASYNC110 - requests tell nobody of themselves
            await asyncio.sleep(LOOK)

    def is_rush(self) -> bool:
        """Whether more than `MANY` uploads come in, of late. Large uploads are few, and are not in the way of small ones that
        are to be taken in: their bytes are received by others than the event loop."""
        self._measure()
        return self._bodies > MANY

    def is_busy(self) -> bool:
        """Whether there is a rush, or so many bytes come in, of late, that whoever computes or writes is in the way."""
        return self.is_rush() or self._bytes > self._fast

    def _measure(self) -> None:
        now, received = time.monotonic(), self.host.received
        if (passed := now - self._at) >= LOOK:
            self._bodies = (received.bodies - self._received.bodies) / passed
            self._bytes = (received.bytes - self._received.bytes) / passed
            self._at, self._received = now, received
