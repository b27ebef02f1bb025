"""Telling consumers: takes events from the outbox, delivers them, and tries again, ever more rarely, what did not work.

For each consumer there is one task that claims and settles, and one for each delivery that is under way. A consumer that fails
holds up nobody but itself, and an event only its own upload. Events of other processes are found by looking now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.events import Consumer, EventState, Outbox, StoredEvent
from tusd_py.ports.failures import StorageFailure

__all__ = ["Delivery", "Pending"]

_log = logging.getLogger("tusd_py.uploads")

LOOK = 2.0
"""Seconds between two looks for what nobody told us of: events of other processes, and those that were replayed by hand."""

SHORTEST = 0.005
"""Seconds that pass at least before the outbox is asked again when it had nothing: it and the clock may not quite agree."""

TIDY = 60.0
"""Seconds between two rounds of tidying."""

RETRY = 1.0
LONGEST_RETRY = 30.0
"""Seconds until the outbox is tried again after it has failed; doubling up to the second figure."""

STUBBORN = 1.0
"""Seconds that a delivery has to end when it is cancelled."""

LONGEST_ERROR = 1000
"""Characters of an error message that are kept: some quote whole pages."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What a consumer has still to get: how many events, and for how many seconds the first of them has been waiting."""

    consumer: str
    count: int
    age: float


class Delivery:
    """Delivers from `outbox` to `consumers`, from `start` to `close`. Belongs to an event loop.

    A failed event is tried again `backoff` seconds later, then after twice that, up to `max_backoff`, each time shortened by up
    to a half at random. After `max_attempts` it is given up. `concurrency` deliveries are under way at once per consumer.
    """

    def __init__(
        self,
        outbox: Outbox,
        consumers: Sequence[Consumer],
        clock: Clock = system_clock,
        *,
        max_attempts: int = 20,
        backoff: float = 1.0,
        max_backoff: float = 600.0,
        concurrency: int = 16,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox, self._clock = outbox, clock
        self._max_attempts, self._backoff, self._max_backoff = max_attempts, backoff, max_backoff
        self._chance = chance
        self._lanes = [_Lane(self, consumer, concurrency) for consumer in consumers]
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Delivery to {', '.join(lane.consumer.name for lane in self._lanes) or 'nobody'}>"

    def start(self) -> None:
        """Begin, with what is due from before."""
        self._tasks = [asyncio.create_task(lane.run()) for lane in self._lanes]
        if self._lanes:
            self._tasks.append(asyncio.create_task(self._tidy()))

    def notify(self) -> None:
        """Something has been confirmed. Cheap; may be called at any time."""
        for lane in self._lanes:
            lane.wake.set()

    async def close(self, grace: float = 5.0) -> None:
        """Take nothing more, give what is under way `grace` seconds, and leave the rest to the next start.

        Never raises; idempotent. What is cut off after that may have reached its consumer, and will be delivered again.
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(lane.finish(grace) for lane in self._lanes))

    async def pending(self) -> list[Pending]:
        """How far each consumer is behind, for metrics. Raises `StorageFailure`."""
        now, found = self._clock(), []
        for lane in self._lanes:
            backlog = await self._outbox.backlog(lane.consumer.name)
            age = 0.0 if backlog.oldest is None else max(0.0, now - backlog.oldest)
            found.append(Pending(lane.consumer.name, backlog.count, age))
        return found

    async def _tidy(self) -> None:
        while True:
            try:
                await self._outbox.tidy()
            except Exception as failure:  # as with the lanes
                log = _log.warning if isinstance(failure, StorageFailure) else _log.exception
                log("the outbox could not be tidied", extra={"fields": {"error": str(failure)}})
            await asyncio.sleep(TIDY)

    def failed(self, stored: StoredEvent, error: BaseException) -> StoredEvent:
        """What becomes of an event after an attempt that failed: tried again, or dead."""
        attempts = stored.attempts + 1
        told = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
        fields = {
            "event": stored.event.id,
            "type": stored.event.type.value,
            "id": stored.event.upload.id,
            "consumer": stored.consumer,
            "attempts": attempts,
            "error": told,
        }
        if attempts >= self._max_attempts:
            _log.error("an event was given up", extra={"fields": fields})
            return replace(stored, attempts=attempts, error=told, state=EventState.DEAD)
        delay = min(self._backoff * 2.0 ** min(attempts - 1, 60), self._max_backoff) * (1 - self._chance() / 2)
        _log.warning("an event was not delivered", extra={"fields": {**fields, "retry": round(delay, 3)}})
        return replace(stored, attempts=attempts, error=told, due_at=self._clock() + delay)


class _Lane:
    """What goes to one consumer."""

    def __init__(self, delivery: Delivery, consumer: Consumer, concurrency: int) -> None:
        self._delivery, self.consumer, self._concurrency = delivery, consumer, concurrency
        self._outbox, self._clock = delivery._outbox, delivery._clock
        self.wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._delivered: list[StoredEvent] = []
        self._failed: list[StoredEvent] = []
        self._retry = RETRY

    async def run(self) -> None:
        """Never ends by itself, whatever consumers and storage do."""
        while True:
            self.wake.clear()
            try:
                await self._settle()
                pause = await self._take()
                self._retry = RETRY
            except Exception as failure:  # even a mistake of ours: whoever waits for events must not wait for a restart
                log = _log.error if isinstance(failure, StorageFailure) else _log.exception
                log("the outbox failed", extra={"fields": {"consumer": self.consumer.name, "error": str(failure)}})
                await asyncio.sleep(self._retry)
                self._retry = min(2 * self._retry, LONGEST_RETRY)
                continue
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self.wake.wait()

    async def _take(self) -> float:
        """Begin to deliver what is due; returns for how many seconds there is nothing to do, unless something happens."""
        room = self._concurrency - len(self._running)
        if not room:
            return LOOK
        claimed = await self._outbox.claim(self.consumer.name, room)
        for stored in claimed:
            task = asyncio.create_task(self._deliver(stored))
            self._running.add(task)
            task.add_done_callback(self._ended)
        if claimed:
            return 0.0  # there may be more
        due = await self._outbox.next_due(self.consumer.name)
        return LOOK if due is None else min(LOOK, max(SHORTEST, due - self._clock()))

    async def _deliver(self, stored: StoredEvent) -> None:
        try:
            await self.consumer.deliver(stored.event)
        except asyncio.CancelledError as cancelled:
            if _is_wanted(cancelled):
                self._failed.append(stored)  # as it was: for somebody else, at once
                return
            self._failed.append(self._delivery.failed(stored, cancelled))
        except Exception as error:  # a consumer is anybody's code
            self._failed.append(self._delivery.failed(stored, error))
        else:
            attempts, state = stored.attempts + 1, EventState.DELIVERED
            self._delivered.append(replace(stored, attempts=attempts, state=state, error=None))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake.set()  # not before there is room again

    async def _settle(self) -> None:
        """Write down all that has been delivered or not since the last time; kept for the next time if that fails."""
        delivered, failed = tuple(self._delivered), tuple(self._failed)
        if delivered or failed:
            await self._outbox.settle(delivered, failed)
            del self._delivered[: len(delivered)], self._failed[: len(failed)]

    async def finish(self, grace: float) -> None:
        """Let what is under way end, or end it; write down what became of it."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in list(self._running):
            task.cancel(_ENOUGH)
        if self._running and (await asyncio.wait(self._running, timeout=STUBBORN))[1]:
            _log.warning("deliveries go on although they were ended", extra={"fields": {"consumer": self.consumer.name}})
        try:
            await self._settle()
        except StorageFailure as failure:  # it will be delivered again
            _log.warning("what was delivered could not be written down", extra={"fields": {"error": str(failure)}})


_ENOUGH = "the server stops"


def _is_wanted(cancelled: asyncio.CancelledError) -> bool:
    """Whether it was us who cancelled a delivery, and not the consumer by some accident."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
