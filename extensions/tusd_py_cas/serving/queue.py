"""Finished uploads that have still to be taken in: several at once, the oldest first, and again what could not be. Versions of
one object come one after the other, so that their numbers are in the order in which the uploads were finished.

In memory and bounded. What does not fit in, or goes with the process, the `Finder` finds: every finished upload that is no
version is one that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tusd_py.ports.failures import StorageFailure

__all__ = ["IntakeQueue"]

_log = logging.getLogger("tusd_py.cas")

AT_ONCE = 16
"""Uploads that are taken in at once: small ones share transactions and syncs. How many are read at once `Intake` bounds."""

LIMIT = 50_000
"""Uploads that are remembered, at some 200 bytes each: thousands come in a second where all are small."""

ROOM = 2 * AT_ONCE
"""Of what the `Finder` has found, so many wait here, so that what has just been finished does not wait behind a million."""

FAILED = 1000
"""Failures with which the `Finder` waits for some to come to an end: on a full disk all would fail, and all be told."""

PATIENCE = 30.0
"""Seconds that an upload gives way to a rush of clients. A longer rush is no rush: what comes in has to be taken in, or more
and more would wait."""

LOOK = 0.1
"""Seconds between two looks whether a rush is over."""

ATTEMPTS = 10
RETRY, LONGEST_RETRY = 1.0, 600.0
"""Seconds until a failure is tried again, doubling up to the second figure; after `ATTEMPTS` it is left to the `Finder`."""


@dataclass(order=True, slots=True)
class _Waiting:
    """An upload in the queue; `since` and `due` by the monotonic clock. The others of its `series` wait until it is done."""

    due: float
    upload_id: str = field(compare=False)
    since: float = field(compare=False)
    series: int | None = field(default=None, compare=False)
    attempts: int = field(default=0, compare=False)


class IntakeQueue:
    """Calls `take` for each upload; it raises `StorageFailure` for what is to be tried again. While `is_rush` says that clients
    are in a hurry, all wait for `PATIENCE` seconds but those that are urgent. Belongs to an event loop."""

    def __init__(self, take: Callable[[str], Awaitable[None]], is_rush: Callable[[], bool] = lambda: False) -> None:
        self._take, self._is_rush = take, is_rush
        self.missed = True
        """Whether there may be uploads that nobody remembers: at first, and when there were too many. For others to reset."""
        self._remembered: dict[int, _Waiting] = {}  # all of them, wherever they are, the oldest first; by `id`
        self._waiting: dict[str, _Waiting] = {}  # in the order of their turns
        self._urgent: dict[str, None] = {}  # ids of some of these
        self._gives_way = False
        self._series: dict[int, deque[_Waiting]] = {}  # what waits behind the one that is running or waiting
        self._failed: list[_Waiting] = []  # a heap, by when they are due
        self._running: dict[asyncio.Task[bool], _Waiting] = {}
        self._wake, self._room = asyncio.Event(), asyncio.Event()

    def __repr__(self) -> str:
        return f"<IntakeQueue {len(self._running)} running, {len(self._waiting)} waiting, {len(self._failed)} failed>"

    @property
    def depth(self) -> int:
        """Uploads that have still to be taken in, as far as they are remembered."""
        return len(self._remembered)

    @property
    def age(self) -> float:
        """Seconds that the oldest of them has been here."""
        oldest = next(iter(self._remembered.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.since

    def add(self, upload_id: str, series: int | None = None, *, urgent: bool = False) -> None:
        """Have an upload taken in, after those of its series that were added before. Returns at once."""
        if upload_id in self._waiting:
            return
        if len(self._remembered) - len(self._running) >= LIMIT:
            self.missed = True
            return
        now = time.monotonic()
        waiting = _Waiting(now, upload_id, now, series)
        self._remembered[id(waiting)] = waiting
        if series in self._series:
            self._series[series].append(waiting)
            return
        if series is not None:
            self._series[series] = deque()
        self._waiting[upload_id] = waiting
        if urgent:
            self._urgent[upload_id] = None
        if len(self._running) < AT_ONCE and (urgent or not self._gives_way):
            self._wake.set()

    async def put(self, upload_id: str) -> None:
        """`add_again`, once there is not much that waits or has failed."""
        while len(self._waiting) >= ROOM or len(self._failed) >= FAILED:
            self._room.clear()
            await self._room.wait()
        self.add_again(upload_id)

    def add_again(self, upload_id: str) -> None:
        """`add`, unless it is going to be tried again anyway."""
        if all(failed.upload_id != upload_id for failed in self._failed):
            self.add(upload_id)

    async def run(self) -> None:
        """Until cancelled; what is being taken in then is given up, and waits again."""
        try:
            while True:
                self._wake.clear()
                pause = self._begin()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _begin(self) -> float | None:
        """Begin with as many as may run; returns in how many seconds there is more to do, if nothing happens before."""
        now = time.monotonic()
        while self._failed and self._failed[0].due <= now:
            again = heapq.heappop(self._failed)
            if self._waiting.setdefault(again.upload_id, again) is not again:
                self._forget(again)
        self._gives_way = False
        while self._waiting and len(self._running) < AT_ONCE and not self._gives_way:
            if (waiting := self._next(now)) is not None:
                task = asyncio.create_task(self._try(waiting))
                self._running[task] = waiting
                task.add_done_callback(self._ended)
        if len(self._waiting) < ROOM:
            self._room.set()
        pauses = [*([self._failed[0].due - now] if self._failed else []), *([LOOK] if self._gives_way else [])]
        return min(pauses, default=None)

    def _next(self, now: float) -> _Waiting | None:
        """Whose turn it is; None where they give way."""
        if self._urgent:
            upload_id = next(iter(self._urgent))
            del self._urgent[upload_id]
            return self._waiting.pop(upload_id)
        first = next(iter(self._waiting.values()))
        self._gives_way = now - first.since < PATIENCE and self._is_rush()
        return None if self._gives_way else self._waiting.pop(first.upload_id)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        waiting = self._running.pop(task)
        self._wake.set()
        if task.cancelled() and waiting.upload_id not in self._waiting:
            self._waiting[waiting.upload_id] = waiting
            return
        if task.cancelled() or not task.result():
            self._forget(waiting)
        if waiting.series is not None:
            self._go_on(waiting.series)
            waiting.series = None  # if it has failed, the others do not wait for it

    def _go_on(self, series: int) -> None:
        """One is done: the next one's turn, if there is any that does not wait for another reason already."""
        behind = self._series[series]
        while behind:
            following = behind.popleft()
            if self._waiting.setdefault(following.upload_id, following) is following:
                return
            self._forget(following)
        del self._series[series]

    def _forget(self, waiting: _Waiting) -> None:
        del self._remembered[id(waiting)]

    async def _try(self, waiting: _Waiting) -> bool:
        """Whether it is to be tried again."""
        try:
            await self._take(waiting.upload_id)
        except StorageFailure as failure:
            return self._put_off(waiting, failure)
        except Exception as mistake:  # a mistake of ours: the other uploads must not wait for a restart
            _log.exception("an upload could not be taken in", extra={"fields": {"id": waiting.upload_id}})
            return self._put_off(waiting, mistake)
        return False

    def _put_off(self, waiting: _Waiting, why: Exception) -> bool:
        attempts = waiting.attempts + 1
        fields = {"id": waiting.upload_id, "error": str(why), "attempts": attempts}
        if attempts >= ATTEMPTS:
            _log.error("an upload is left for the next look at all uploads", extra={"fields": fields})
            return False
        delay = min(RETRY * 2.0**waiting.attempts, LONGEST_RETRY) * (1 - random.random() / 2)
        _log.warning("an upload could not be taken in", extra={"fields": {**fields, "retry": round(delay, 3)}})
        waiting.attempts, waiting.due = attempts, time.monotonic() + delay
        heapq.heappush(self._failed, waiting)
        return True
