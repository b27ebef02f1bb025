"""Slowing ingest down while clients are busy."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

from tusd_py_cas.serving.courtesy import Courtesy

__all__ = ["Paced", "Pacer"]

SHARE = 1 / 16
"""Of the processors: what ingest takes while clients are busy."""

LOOK = 0.1
"""Seconds between two looks whether they are."""

LINGER = 5.0
"""Seconds that they count as busy after a look that found them so: what they have sent has to reach the disk, and the next
piece to come."""

PATIENCE = 300.0
"""Seconds for which ingest is slowed down, until it has had nothing to do for once. Who uploads for longer than that would have
more and more uploads wait, with -cas=replace twice on the disk."""


class Paced(Protocol):
    """The ingest process, as far as it is needed here."""

    working: asyncio.Event
    """Set while there is something to do."""

    def pace(self, share: float | None) -> None:
        """Take no more than `share` processors, or as many as there are."""


class Pacer:
    """Looks at clients while there is something to ingest. Ingest is not slowed down while `is_awaited` says that something
    waits for it, which would cost more without it."""

    def __init__(self, courtesy: Courtesy, process: Paced, is_awaited: Callable[[], bool] = lambda: False) -> None:
        self._courtesy, self._process, self._is_awaited = courtesy, process, is_awaited
        self._share = SHARE * len(os.sched_getaffinity(0))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._process.working.wait()
            await self._watch()

    async def _watch(self) -> None:
        """Until there is nothing to do."""
        slow, looked, busy_until = 0.0, time.monotonic(), 0.0  # seconds for which it has been slowed down
        while self._process.working.is_set():
            now = time.monotonic()
            if self._courtesy.is_busy():
                busy_until = now + LINGER
            is_slow = now < busy_until and slow < PATIENCE and not self._is_awaited()
            self._process.pace(self._share if is_slow else None)
            await asyncio.sleep(LOOK)
            slow, looked = slow + is_slow * (time.monotonic() - looked), time.monotonic()
