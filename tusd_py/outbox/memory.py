"""The outbox in memory: for tests, and for those who want events told but not kept (`-events=fire-and-forget`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from tusd_py.outbox.identity import AFTER_CREATION, new_event_id
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.events import Backlog, EventState, StoredEvent
from tusd_py.ports.failures import OutOfSpace
from tusd_py.protocol.exchange import NO_REQUEST
from tusd_py.protocol.hooks import HookEvent, HookType

__all__ = ["LIMIT", "MemoryOutbox"]

LIMIT = 10_000
"""Events of each kind (prepared, due, settled) that are kept: tens of megabytes. It takes consumers that are far slower than
uploads to reach it."""

_Place = tuple[str, str]  # upload, consumer


@dataclass(slots=True)
class _Entry:
    """An event that came true, in the queue of its upload and consumer or behind it."""

    stored: StoredEvent
    confirmed_at: float
    claimed: bool = False
    settled_at: float | None = None


class MemoryOutbox:
    """An `Outbox` of one process, which ends with it. `retention` is how long delivered and dead events are kept, in seconds.

    It never holds more than `limit` events: when as many are confirmed, further ones raise `OutOfSpace`; of those prepared, the
    oldest is forgotten, which costs it the request that was known.
    """

    def __init__(self, *, retention: float = 0.0, limit: int = LIMIT, clock: Clock = system_clock) -> None:
        self._retention, self._limit, self._clock = retention, limit, clock
        self._intents: dict[tuple[str, HookType], dict[str, StoredEvent]] = {}  # the oldest first; by consumer
        self._queues: dict[_Place, list[_Entry]] = {}  # of what is due
        self._settled: dict[tuple[str, str], _Entry] = {}  # by id and consumer
        self._count = 0

    def __repr__(self) -> str:
        return f"<MemoryOutbox {len(self._intents)} prepared, {self._count} due, {len(self._settled)} settled>"

    async def prepare(self, events: Sequence[HookEvent], consumers: Collection[str]) -> None:
        now = self._clock()
        for event in events:
            key = (event.upload.id, event.type)
            intents = self._intents.pop(key, {})
            named = replace(event, id=_id_of(intents) or event.id or new_event_id(now))
            if intents and named.request == NO_REQUEST:
                named = replace(named, request=next(iter(intents.values())).event.request)
            for consumer in consumers:
                intents[consumer] = StoredEvent(
                    event=named, consumer=consumer, state=EventState.PREPARED, created_at=now, due_at=now
                )
            self._intents[key] = intents
        while len(self._intents) > self._limit:
            del self._intents[next(iter(self._intents))]

    async def confirm(self, event: HookEvent, consumers: Collection[str], *, only_prepared: bool = False) -> None:
        now = self._clock()
        key = (event.upload.id, event.type)
        named = bool(event.id)
        intents = self._intents.get(key, {})
        others = set() if only_prepared else set(consumers) - intents.keys()
        if self._count + len(intents) + len(others) > self._limit:
            raise OutOfSpace(f"{self._count} events wait to be delivered: no more are kept in memory")
        if event.type in AFTER_CREATION:
            self._confirm_creation(event.upload.id, now)
        event = replace(event, id=_id_of(intents) or event.id or new_event_id(now))
        if intents and event.request == NO_REQUEST:
            event = replace(event, request=next(iter(intents.values())).event.request)
        self._intents.pop(key, None)
        for intent in intents.values():
            self._add(event, intent.consumer, intent.created_at, now)
        for consumer in sorted(others):
            if not self._supersede(event, consumer, now) and not self._has_happened(event, consumer, named=named):
                self._add(event, consumer, now, now)

    def _confirm_creation(self, upload_id: str, now: float) -> None:
        """The upload is there. Where that has been confirmed before, another one was to be made under its id."""
        intents = self._intents.get((upload_id, HookType.POST_CREATE), {})
        for consumer, intent in list(intents.items()):
            if not self._has_happened(intent.event, consumer):
                self._add(intent.event, consumer, intent.created_at, now)
                del intents[consumer]
        if not intents:
            self._intents.pop((upload_id, HookType.POST_CREATE), None)

    def _add(self, event: HookEvent, consumer: str, created_at: float, now: float) -> None:
        stored = StoredEvent(event=event, consumer=consumer, state=EventState.DUE, created_at=created_at, due_at=now)
        self._queues.setdefault((event.upload.id, consumer), []).append(_Entry(stored, now))
        self._count += 1

    def _supersede(self, event: HookEvent, consumer: str, now: float) -> bool:
        if event.type is not HookType.POST_RECEIVE:
            return False
        for entry in reversed(self._queues.get((event.upload.id, consumer), ())):
            if entry.stored.event.type is event.type and not entry.claimed:
                entry.stored = replace(entry.stored, event=event, created_at=now)
                return True
        return False

    def _has_happened(self, event: HookEvent, consumer: str, *, named: bool = False) -> bool:
        """`named` says that the event's id is its own: it has happened if one of that id has."""
        if event.type is HookType.POST_RECEIVE:
            return False
        queue = self._queues.get((event.upload.id, consumer), ())
        settled = (entry for entry in self._settled.values() if entry.stored.consumer == consumer)
        known = [entry.stored.event for entry in (*queue, *settled)]
        if named:
            return any(one.id == event.id for one in known)
        return any(one.type is event.type and one.upload.id == event.upload.id for one in known)

    async def withdraw(self, upload_id: str, types: Collection[HookType]) -> None:
        for kind in types:
            self._intents.pop((upload_id, kind), None)

    async def prepared(self, before: float) -> AsyncIterator[StoredEvent]:
        for stored in [stored for intents in self._intents.values() for stored in intents.values()]:
            if stored.created_at < before:
                yield stored

    def _claimable(self, consumer: str) -> Iterator[_Entry]:
        """The first in each queue, unless it is claimed."""
        for (_, name), queue in self._queues.items():
            if name == consumer and not queue[0].claimed:
                yield queue[0]

    async def claim(self, consumer: str, count: int) -> Sequence[StoredEvent]:
        now = self._clock()
        found = sorted((entry for entry in self._claimable(consumer) if entry.stored.due_at <= now), key=_due_at)[:count]
        for entry in found:
            entry.claimed = True
        return [entry.stored for entry in found]

    async def settle(self, delivered: Sequence[StoredEvent], failed: Sequence[StoredEvent]) -> None:
        for stored in delivered:
            self._settle(replace(stored, state=EventState.DELIVERED, error=None))
        for stored in failed:
            self._settle(stored)

    def _settle(self, stored: StoredEvent) -> None:
        place = (stored.event.upload.id, stored.consumer)
        queue = self._queues.get(place)
        if not queue or not queue[0].claimed or queue[0].stored.event.id != stored.event.id:
            return
        entry = queue[0]
        entry.stored, entry.claimed = stored, False
        if stored.state is EventState.DUE:
            return
        queue.pop(0)
        self._count -= 1
        if not queue:
            del self._queues[place]
        progress = stored.state is EventState.DELIVERED and stored.event.type is HookType.POST_RECEIVE
        if self._retention and not progress and len(self._settled) < self._limit:
            entry.settled_at = self._clock()
            self._settled[stored.event.id, stored.consumer] = entry

    async def next_due(self, consumer: str) -> float | None:
        return min((entry.stored.due_at for entry in self._claimable(consumer)), default=None)

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        due = sum(len(queue) for (upload, name), queue in self._queues.items() if upload == upload_id and name != besides)
        dead = sum(
            entry.stored.state is EventState.DEAD and entry.stored.event.upload.id == upload_id and name != besides
            for (_, name), entry in self._settled.items()
        )
        prepared = sum(
            name != besides
            for (upload, kind), intents in self._intents.items()
            if upload == upload_id and kind is not HookType.POST_TERMINATE
            for name in intents
        )
        return due + dead + prepared

    async def backlog(self, consumer: str) -> Backlog:
        times = [entry.confirmed_at for (_, name), queue in self._queues.items() if name == consumer for entry in queue]
        return Backlog(count=len(times), oldest=min(times, default=None))

    async def tidy(self) -> None:
        before = self._clock() - self._retention
        self._settled = {
            key: entry for key, entry in self._settled.items() if entry.settled_at is None or entry.settled_at > before
        }

    async def close(self) -> None:
        """There is nothing to let go of."""


def _id_of(intents: dict[str, StoredEvent]) -> str | None:
    return next((stored.event.id for stored in intents.values()), None)


def _due_at(entry: _Entry) -> float:
    return entry.stored.due_at
