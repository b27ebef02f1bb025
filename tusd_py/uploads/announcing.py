"""Events around the facts that they report: written down before, confirmed after, and decided upon after a crash.

Whatever moment the process dies at, an event is confirmed, or it is found prepared and the upload's own record tells whether
it came true (`tusd_py.ports.events`). What can't be confirmed just now (a full disk) is logged and decided upon later.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from tusd_py.ports.call import NO_CALL, Call
from tusd_py.ports.events import Consumer, Outbox
from tusd_py.ports.failures import OutOfSpace, StorageFailure
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.upload import Upload

__all__ = ["Announcer", "Found"]

_log = logging.getLogger("tusd_py.uploads")

REMEMBERED = 100_000
"""Unfinished uploads whose finish is known to be prepared: enough for all that are in progress, at about 100 bytes each.
One that is forgotten costs another `prepare`."""

UNCONFIRMED = 10_000
"""Events that wait in memory to be confirmed while the outbox can't be written; those beyond are decided upon at the next
start, like those of a process that was killed."""

CREATION_TIME = 600.0
"""Seconds that may lie between the preparation of a creation and its record. Another process may be in between; it takes far
less, so that what has no record after this long was never created."""


class Announcer:
    """Tells `consumers` about uploads through `outbox`; `notify` is called when something is due. `listeners` are told of what
    this process finishes, at once and by no more than a call: they make up by themselves for what they miss."""

    def __init__(
        self,
        outbox: Outbox,
        consumers: Sequence[Consumer],
        notify: Callable[[], None],
        listeners: Sequence[Callable[[Upload], None]] = (),
    ) -> None:
        self._outbox, self._notify, self._listeners = outbox, notify, listeners
        self._consumers = _by_type(consumers)
        self._prepared: dict[str, None] = {}  # ids, the oldest first
        self._unconfirmed: list[tuple[HookEvent, tuple[str, ...], bool]] = []

    @property
    def progress(self) -> bool:
        """Whether anybody wants to hear of progress."""
        return self.wanted(HookType.POST_RECEIVE)

    def wanted(self, kind: HookType) -> bool:
        """Whether anybody wants to hear of such events."""
        return kind in self._consumers

    async def before_creation(self, upload: Upload, call: Call) -> None:
        """Write down what will have happened once there is a record. Raises `StorageFailure`; then there must be none."""
        await self._prepare((HookType.POST_CREATE, HookType.POST_FINISH), upload, call)
        self._remember(upload.id)

    async def before_bytes(self, upload: Upload, call: Call) -> None:
        """Make sure that the finish of an upload is written down before its last byte can be: it may be from before there were
        consumers, or from another process."""
        if upload.id not in self._prepared:
            await self._prepare((HookType.POST_FINISH,), upload, call)
            self._remember(upload.id)

    async def before_removal(self, upload: Upload, call: Call) -> None:
        """Write down that an upload is about to go. On a full disk, which nothing but removals can free, it goes all the same:
        then the event is lost if the process dies before there is room to confirm it."""
        try:
            await self._prepare((HookType.POST_TERMINATE,), upload, call)
        except OutOfSpace:
            _log.warning("a removal could not be written down", extra={"fields": {"id": upload.id}})

    async def created(self, upload: Upload, call: Call) -> None:
        """There is a record."""
        await self._confirm(HookType.POST_CREATE, upload, call)

    async def received(self, upload: Upload, call: Call) -> None:
        """More bytes are here."""
        await self._confirm(HookType.POST_RECEIVE, upload, call)

    async def finished(self, upload: Upload, call: Call) -> None:
        """The upload is finished, durable and accepted."""
        self._prepared.pop(upload.id, None)  # whatever comes of this: it is not to be prepared again
        try:
            await self._confirm(HookType.POST_FINISH, upload, call)
        finally:  # who is cancelled meanwhile has finished it all the same
            for listener in self._listeners:
                listener(upload)

    async def removed(self, upload: Upload, call: Call) -> None:
        """The upload is gone. If nobody got to say that it was created, or finished, that comes first."""
        await self._confirm(HookType.POST_CREATE, upload, NO_CALL, only_prepared=True)
        if upload.finished:
            await self._confirm(HookType.POST_FINISH, upload, NO_CALL, only_prepared=True)
        await self._withdraw(upload.id, (HookType.POST_CREATE, HookType.POST_FINISH))
        await self._confirm(HookType.POST_TERMINATE, upload, call)

    async def not_removed(self, upload_id: str) -> None:
        """The removal came to nothing."""
        await self._withdraw(upload_id, (HookType.POST_TERMINATE,))

    async def rejected(self, upload_id: str) -> None:
        """The upload will never be finished."""
        await self._withdraw(upload_id, (HookType.POST_FINISH,))

    async def not_created(self, upload_id: str) -> None:
        """There is no upload after all, and nobody was told that there is."""
        await self._withdraw(upload_id, (HookType.POST_CREATE, HookType.POST_FINISH))

    async def publish(self, event: HookEvent, upload: Upload | None) -> None:
        """Tell of something that an extension has done; `event.id` tells a repetition. `upload` is the record, if it is
        finished: where nobody got to say so, that comes first. Raises `StorageFailure`, also while that can't be said."""
        if names := self._consumers.get(event.type):
            if any(earlier.upload.id == event.upload.id for earlier, _, _ in self._unconfirmed):
                raise StorageFailure(f"earlier events of {event.upload.id!r} have still to be confirmed")
            if upload is not None and (before := self._consumers.get(HookType.POST_FINISH)):
                finish = HookEvent(type=HookType.POST_FINISH, upload=upload)
                await self._outbox.confirm(finish, before, only_prepared=True)
            await self._outbox.confirm(event, names)
            self._notify()

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        """How many events of the upload consumers other than `besides` have still to get. Raises `StorageFailure`."""
        unconfirmed = sum(event.upload.id == upload_id for event, _, _ in self._unconfirmed)
        return unconfirmed + await self._outbox.undelivered(upload_id, besides=besides)

    # After a crash

    async def decide(self, before: float, find: Callable[[str], Awaitable[Found]]) -> int:
        """Decide upon events that were prepared before `before`; returns how many. `find` looks an upload up."""
        decided = 0
        async for stored in self._outbox.prepared(before):
            event = stored.event
            found = await find(event.upload.id)
            verdict = _VERDICTS.get(event.type, _unknown)(found, stored.created_at < before - CREATION_TIME)
            if verdict is Verdict.TRUE:
                upload = found.upload or event.upload
                await self._confirm(event.type, upload, NO_CALL, only_prepared=True)
            elif verdict is Verdict.FALSE:
                await self._withdraw(event.upload.id, (event.type,))
            decided += verdict is not Verdict.OPEN
        return decided

    # The outbox

    async def _prepare(self, kinds: Iterable[HookType], upload: Upload, call: Call) -> None:
        by_consumers: dict[tuple[str, ...], list[HookEvent]] = {}
        for kind in kinds:
            if names := self._consumers.get(kind):
                event = HookEvent(type=kind, upload=upload, request=call.http_request())
                by_consumers.setdefault(names, []).append(event)
        for names, events in by_consumers.items():
            await self._outbox.prepare(events, names)

    async def _confirm(self, kind: HookType, upload: Upload, call: Call, *, only_prepared: bool = False) -> None:
        names = self._consumers.get(kind)
        if names is None:
            return
        event = HookEvent(type=kind, upload=upload, request=call.http_request())
        if not await self._try_to_confirm(event, names, only_prepared) and kind is not HookType.POST_RECEIVE:
            self._unconfirmed = [*self._unconfirmed, (event, names, only_prepared)][-UNCONFIRMED:]

    async def _try_to_confirm(self, event: HookEvent, names: tuple[str, ...], only_prepared: bool) -> bool:
        try:
            await self._outbox.confirm(event, names, only_prepared=only_prepared)
        except StorageFailure as failure:
            fields = {"type": event.type, "id": event.upload.id}
            _log.error("an event waits to be confirmed: %s", failure, extra={"fields": fields})
            return False
        self._notify()
        return True

    async def confirm_again(self) -> None:
        """Confirm what could not be confirmed when it happened, in order, as far as that is possible now."""
        while self._unconfirmed:
            waiting, self._unconfirmed = self._unconfirmed, []
            for number, (event, names, only_prepared) in enumerate(waiting):
                if not await self._try_to_confirm(event, names, only_prepared):
                    self._unconfirmed = [*waiting[number:], *self._unconfirmed]
                    return

    async def _withdraw(self, upload_id: str, kinds: tuple[HookType, ...]) -> None:
        self._prepared.pop(upload_id, None)
        try:
            await self._outbox.withdraw(upload_id, kinds)
        except StorageFailure:
            _log.exception("an event that did not come true could not be withdrawn", extra={"fields": {"id": upload_id}})

    def _remember(self, upload_id: str) -> None:
        if len(self._prepared) >= REMEMBERED:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[upload_id] = None


def _by_type(consumers: Iterable[Consumer]) -> dict[HookType, tuple[str, ...]]:
    """Names of those that want an event, for all events that anybody wants."""
    consumers = tuple(consumers)
    return {kind: names for kind in HookType if (names := tuple(one.name for one in consumers if kind in one.types))}


class Verdict(Enum):
    """Whether a prepared event came true; OPEN while that is still to be seen."""

    TRUE = "true"
    FALSE = "false"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of an upload: its record, if any; `busy` while a request is at work on it."""

    upload: Upload | None = None
    busy: bool = False


def _created(found: Found, old: bool) -> Verdict:
    if found.upload is not None:
        return Verdict.TRUE
    return Verdict.FALSE if old and not found.busy else Verdict.OPEN


def _finished(found: Found, old: bool) -> Verdict:
    if found.busy:
        return Verdict.OPEN
    if found.upload is None:
        return Verdict.FALSE if old else Verdict.OPEN
    if found.upload.failure is not None:
        return Verdict.FALSE
    return Verdict.TRUE if found.upload.finished else Verdict.OPEN


def _terminated(found: Found, _: bool) -> Verdict:
    if found.busy:
        return Verdict.OPEN
    return Verdict.TRUE if found.upload is None else Verdict.FALSE


def _unknown(_: Found, __: bool) -> Verdict:
    """Nobody prepares such events: a later version may have, and what came of it is for that to say."""
    return Verdict.OPEN


_VERDICTS: dict[HookType, Callable[[Found, bool], Verdict]] = {
    HookType.POST_CREATE: _created,
    HookType.POST_FINISH: _finished,
    HookType.POST_TERMINATE: _terminated,
}
