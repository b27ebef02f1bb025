"""Events that outlive the process that noticed them: a durable outbox, and who takes from it.

An event is written down before the fact that it reports can be seen (`prepare`), and counts once the fact is there
(`confirm`). Uploads are files and the outbox is not, so no transaction holds both; but whatever moment a process dies at, each
event is either confirmed, or is found prepared after the restart, when the upload itself tells whether it came true.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tusd_py.protocol.hooks import HookEvent, HookType

__all__ = ["AFFINITY", "Backlog", "Consumer", "EventState", "Outbox", "StoredEvent"]


AFFINITY = 5.0
"""Seconds that a due event is left to the process that confirmed it, while that process lives."""


class EventState(StrEnum):
    """Where an event is on its way to one consumer."""

    PREPARED = "prepared"
    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event on its way to one consumer. Times in seconds since the epoch; `error` says why the last attempt failed."""

    event: HookEvent
    consumer: str
    state: EventState
    created_at: float
    due_at: float
    attempts: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a consumer has still to get: how many events, and when the first of them came true (seconds since the epoch)."""

    count: int
    oldest: float | None


class Outbox(Protocol):
    """Events by id and consumer. Safe to be used by several tasks and by several processes at once.

    Raises `StorageFailure` and `OutOfSpace` like the stores; then nothing has changed.
    """

    async def prepare(self, events: Sequence[HookEvent], consumers: Collection[str]) -> None:
        """Write down events that are about to come true; on return they would survive a power cut. Concurrent calls share work.

        Idempotent: an event of the same upload and type that is prepared already is replaced. Where `request` is `NO_REQUEST`,
        that of the replaced one stays.
        """

    async def confirm(self, event: HookEvent, consumers: Collection[str], *, only_prepared: bool = False) -> None:
        """The event has come true, as `event` says: it is due now, behind all earlier events of its upload.

        One that was not prepared is added, unless `only_prepared`, or there is one of its upload and type already; of those
        that bring an id of their own, unless there is one of that id. Where `event.request` is `NO_REQUEST`, the prepared
        one's stays; the id that counts is the prepared one's. Survives the end of the process; a power cut may take it back
        to being prepared.

        A creation that is still prepared when bytes arrived, or the upload is finished, has come true as well, and comes before
        that: a power cut may have taken back that it was confirmed.

        A post-receive takes the place of one of the same upload that is due and not claimed: progress that nobody has heard
        of is superseded, so that a consumer which is away does not make the outbox grow.
        """

    async def withdraw(self, upload_id: str, types: Collection[HookType]) -> None:
        """Forget prepared events that did not come true. Confirmed ones stay."""

    def prepared(self, before: float) -> AsyncIterator[StoredEvent]:
        """All events that were prepared before `before` and not confirmed, oldest first, read in pages: there may be as many as
        there are unfinished uploads. Those that are confirmed or withdrawn meanwhile may or may not be among them."""

    async def claim(self, consumer: str, count: int) -> Sequence[StoredEvent]:
        """Up to `count` events that are due, at most one per upload, and none of an upload with an earlier event still due.

        Nobody else gets them until `settle`, or until this process is gone. Of several live processes, the one that confirmed
        an event comes first: others get it only after `AFFINITY` seconds, as an answer (StopUpload) concerns who is receiving.
        """

    async def settle(self, delivered: Sequence[StoredEvent], failed: Sequence[StoredEvent]) -> None:
        """End claims. `failed` are stored as given (attempts, due_at, error, state DUE or DEAD)."""

    async def next_due(self, consumer: str) -> float | None:
        """When the next event that is not claimed becomes due; None where there is none."""

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        """How many events of this upload consumers other than `besides` have still to get: those that are due, those that were
        given up, which may be replayed, and those that were prepared and not confirmed, but for its removal."""

    async def backlog(self, consumer: str) -> Backlog:
        """How far a consumer is behind, counting what is claimed."""

    async def tidy(self) -> None:
        """Drop delivered events that are old enough, and let go of what died with other processes."""

    async def close(self) -> None:
        """Let go. Never raises; idempotent."""


class Consumer(Protocol):
    """Who takes events from the outbox: hooks, or an extension. May be called for different uploads at once."""

    @property
    def name(self) -> str:
        """Under which the outbox keeps what this consumer has still to get; stable between versions."""

    @property
    def types(self) -> frozenset[HookType]:
        """The events that it wants."""

    async def deliver(self, event: HookEvent) -> None:
        """Take an event, perhaps not for the first time. Whatever it raises, the event is tried again later."""
