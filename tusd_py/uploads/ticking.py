"""What is looked at again and again while bodies come in: progress to be told, uploads that are too slow, room that is used.

One task for all of them, which reads two numbers of each upload and touches no lock.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

from tusd_py.ports.limits import Limiter
from tusd_py.protocol.refusals import TooSlow
from tusd_py.protocol.throughput import GRACE, too_slow
from tusd_py.uploads.announcing import Announcer
from tusd_py.uploads.holding import Hold, Holds

__all__ = ["Ticker"]

LOOK = 1.0
"""Seconds between two looks at throughput and room."""


class Ticker:
    """Looks at all bodies of this process. `interval` in seconds is how often progress is told, `min_rate` in bytes per second
    how fast an upload must be; 0 is any speed."""

    def __init__(
        self, holds: Holds, announcer: Announcer | None, limiter: Limiter | None, *, interval: float, min_rate: int
    ) -> None:
        self._holds, self._limiter = holds, limiter
        self._announcer = announcer if announcer is not None and announcer.progress else None
        self._interval, self._min_rate = interval, min_rate
        self._noted: WeakKeyDictionary[Hold, int] = WeakKeyDictionary()
        self._marks: WeakKeyDictionary[Hold, tuple[int, float]] = WeakKeyDictionary()

    @property
    def needed(self) -> bool:
        """Whether there is anything to look at."""
        return self._announcer is not None or self._limiter is not None or self._min_rate > 0

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._announcer is not None:
                group.create_task(self._tell(self._announcer))
            if self._limiter is not None or self._min_rate:
                group.create_task(self._look())

    async def _tell(self, announcer: Announcer) -> None:
        while True:
            await asyncio.sleep(self._interval)
            for hold in self._holds.receiving():
                upload, position = hold.upload, hold.position
                if upload is not None and position != hold.told:
                    hold.told = position
                    await announcer.received(upload.evolve(offset=position), hold.call)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for hold in self._holds.receiving():
                if self._min_rate:
                    self._check_rate(hold)
                if self._limiter is not None and hold.upload is not None and self._noted.get(hold) != hold.position:
                    self._noted[hold] = hold.position
                    await self._limiter.progress(hold.upload.evolve(offset=hold.position))

    def _check_rate(self, hold: Hold) -> None:
        now, position = time.monotonic(), hold.position
        mark, since = self._marks.setdefault(hold, (position, now))
        if now - since < GRACE:
            return
        if too_slow(position - mark, now - since, self._min_rate):
            hold.stop(TooSlow())
        self._marks[hold] = (position, now)
