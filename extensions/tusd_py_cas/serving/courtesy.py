"""Letting clients go first: what can wait does so while many small uploads come in."""

from __future__ import annotations

import asyncio
import time

from tusd_py.ports.extension import Host

__all__ = ["Courtesy"]

MANY = 200.0
"""Bodies a second. Taking in as many as that costs the event loop a tenth of its time."""

LOOK = 0.05
"""Seconds that a count has to be about, and between two looks."""

PATIENCE = 0.5
"""Seconds that a rush holds up what comes by the outbox: no more than some tens a second are taken in during one."""


class Courtesy:
    """`host` is set before anything is asked for. Large uploads are few, and are not in the way: their bytes are received, and
    taken in, by others than the event loop."""

    host: Host

    def __init__(self) -> None:
        self._at, self._count, self._rate = time.monotonic(), 0, 0.0

    async def give_way(self) -> None:
        """Return when no more than `MANY` uploads come in, or after `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while self.is_rush() and time.monotonic() < deadline:  # noqa: ASYNC110 - requests tell nobody of themselves
            await asyncio.sleep(LOOK)

    def is_rush(self) -> bool:
        """Whether more than `MANY` uploads come in, of late."""
        return self._measure() > MANY

    def _measure(self) -> float:
        """Bodies a second, of late."""
        now, count = time.monotonic(), self.host.received
        if now - self._at >= LOOK:
            self._rate = (count - self._count) / (now - self._at)
            self._at, self._count = now, count
        return self._rate
