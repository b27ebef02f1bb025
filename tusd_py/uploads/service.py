"""Create, append, describe, read, terminate: the use cases, over ports.

One append, in order: lock (asking a present holder to let go), load, check, receive, commit the offset, make durable, answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from time import monotonic, perf_counter

from tusd_py.ports.body import Body
from tusd_py.ports.call import NO_CALL, Call
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.datastore import Content, DataStore, Writer
from tusd_py.ports.failures import (
    LockTimeout,
    ReadOnlyStorage,
    RecordDamaged,
    StorageFailure,
    UploadExists,
    UploadNotFound,
)
from tusd_py.ports.infostore import InfoStore
from tusd_py.ports.limits import Limiter
from tusd_py.ports.locker import Lease, Locker, ignore
from tusd_py.ports.observer import NO_OBSERVER, Observer
from tusd_py.protocol.commands import Append, Create, Payload
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import FileInfoChanges
from tusd_py.protocol.metadata import Metadata, build_metadata
from tusd_py.protocol.refusals import (
    Forbidden,
    HookFailed,
    LockTimedOut,
    ModifyFinal,
    NotAccepted,
    NotReady,
    PartialInUse,
    ReadTimeout,
    ServerShutdown,
    TooSlow,
    UnexpectedEof,
    UploadDamaged,
    UploadFailed,
    UploadGone,
    UploadMissing,
    UploadStopped,
)
from tusd_py.protocol.rules import Policy, append_limit, check_append, check_create, check_partials, is_expired
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.announcing import Announcer, Found
from tusd_py.uploads.assembling import IN_ONE_GO, Assembler, release_all
from tusd_py.uploads.finishing import Finisher
from tusd_py.uploads.gates import Gates
from tusd_py.uploads.holding import Hold, Holds, Running
from tusd_py.uploads.receiving import receive
from tusd_py.uploads.reserving import Reservation

__all__ = ["Durability", "Uploads"]

_log = logging.getLogger("tusd_py.uploads")

ASSEMBLY_WAIT = 0.1
"""Seconds that the POST of a final waits for its bytes to be put together: long enough for most, and for telling of a full
disk. A larger final is answered all the same, read from its partials meanwhile, and put together in the background."""

GATED_ASSEMBLY_WAIT = 600.0
"""Seconds that it waits where a pre-finish hook has to see the bytes and say yes or no: as long as a patient client would."""


class Durability(Enum):
    """When bytes and record are synced to disk (architecture, section 2)."""

    NONE = "none"
    FINAL = "final"
    EVERY_PATCH = "every-patch"


def random_id() -> str:
    """tusd's form: 16 random bytes as 32 lower-case hex digits."""
    return os.urandom(16).hex()


class Uploads:
    """The uploads of one store. All methods may be called concurrently, and in several processes over the same store.

    They raise `Refusal` for what the client can be told and `StorageFailure` for what only the log should see.
    """

    def __init__(
        self,
        data: DataStore,
        info: InfoStore,
        locker: Locker,
        *,
        policy: Policy | None = None,
        gates: Gates | None = None,
        announcer: Announcer | None = None,
        limiter: Limiter | None = None,
        observer: Observer = NO_OBSERVER,
        durability: Durability = Durability.FINAL,
        lock_timeout: float = 20.0,
        clock: Clock = system_clock,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self.policy = policy or Policy()
        self._data, self._info, self._locker = data, info, locker
        self._durability, self._lock_timeout = durability, lock_timeout
        self._clock, self._new_id = clock, new_id
        self._gates, self._announcer, self._limiter, self._observer = gates or Gates(), announcer, limiter, observer
        self.holds = Holds(observer)
        durable = durability is not Durability.NONE
        self._finisher = Finisher(info, self._gates, announcer, observer, durable=durable)
        self._assembler = Assembler(data, info, locker, self.policy, clock, self._finisher, durable=durable)

    def __repr__(self) -> str:
        return f"<Uploads receiving={len(self.holds)} durability={self._durability.value}>"

    async def create(self, command: Create, body: Body, call: Call = NO_CALL) -> Upload:
        """Make an upload; `body` brings the first bytes if `command.payload` says so (creation-with-upload).

        A creation that is refused leaves nothing behind: its client never learned a URL to resume at (W04).
        """
        limit = check_create(command, self.policy, call.max_size)
        partials = None if command.partials is None else await self._load_partials(command.partials, call)
        upload = self._new_upload(command, call)
        if partials is not None:
            upload = upload.evolve(length=check_partials(partials, self.policy))
        if self._gates.creation:
            changes = await self._gates.before_creation(upload.evolve(id="", storage={}), call)
            upload = await self._changed(upload, changes)
        if self._limiter is None and self._announcer is None and call.claim is None:
            return await self._store(upload, command, partials, body, limit, call, None)
        reservation = Reservation(upload, call, self._limiter, self._announcer)
        await reservation.take()
        try:
            return await self._store(upload, command, partials, body, limit, call, reservation)
        except BaseException:
            if not await self._is_there(upload.id):  # else what came before the connection broke is kept
                await reservation.give_back()
            raise

    async def append(self, command: Append, body: Body, call: Call = NO_CALL) -> Upload:
        """Add a body to an upload; returns the record afterwards."""
        hold = self.holds.begin(body, call)
        try:
            lease = await self._lock_for_append(command.upload_id, hold)
            try:
                return await self._append_locked(command, body, hold)
            finally:
                await lease.release()
        except ModifyFinal:
            await self._keep_going(command.upload_id)  # who wanted to put it together relied on us, who had its lock
            raise
        finally:
            self.holds.end(hold)

    async def look(self, upload_id: str) -> Upload:
        """The record as it is, without a lock and without disturbing anybody. Raises `UploadMissing`, `UploadGone`."""
        return await self._load(upload_id)

    async def describe(self, upload_id: str, call: Call = NO_CALL, *, takeover: bool) -> Upload:
        """The record. With `takeover`, who asks is about to resume: a request that is still sending is stopped first (H08)."""
        upload = await self._load(upload_id)
        if takeover and not upload.finished and not upload.is_final:
            upload = await self._take_over(upload, call)
        _check_failure(upload)
        if upload.held and upload.complete:
            raise NotAccepted(headers={"Retry-After": "1"})
        return upload

    async def _take_over(self, upload: Upload, call: Call) -> Upload:
        """The record once nobody is sending any more. On storage that can't be written, nobody is."""
        try:
            lease = await self._lock(upload.id, ignore)
        except ReadOnlyStorage:
            return upload
        try:
            upload = await self._load(upload.id)
            if upload.held and upload.complete and upload.failure is None:
                upload = await self._finish(upload, call)  # nobody got an answer from the hook, or it failed
            return upload
        finally:
            await lease.release()

    async def open_content(self, upload_id: str) -> tuple[Upload, Content]:
        """The record and the bytes there are, to read. Takes no lock and disturbs nobody."""
        upload = await self.describe(upload_id, takeover=False)
        if upload.is_final and not upload.finished:
            raise NotReady(headers={"Retry-After": "1"})
        try:
            content = await self._data.open_content(upload)
            if upload.is_final and content.size != upload.length:
                await content.close()
                content = await self._assembler.open_partials(upload)
        except UploadNotFound:
            raise UploadMissing from None
        return upload, content

    async def terminate(self, upload_id: str, call: Call = NO_CALL) -> None:
        """Remove an upload; a request that is sending to it is stopped first (T04)."""
        if self._gates.termination:  # before anybody is disturbed, and without a lock that the hook might need
            await self._gates.before_termination(await self._load(upload_id), call)
        leases = [await self._lock(upload_id, ignore)]
        try:
            upload = await self._load(upload_id)
            if upload.is_partial:
                finals = await self._assembler.hold_finals(upload_id)
                if finals is None:
                    raise PartialInUse(headers={"Retry-After": "1"})
                leases += finals
            await self._remove(upload, call)
        finally:
            await release_all(leases)
        if upload.is_partial:
            await self._assembler.partial_changed(upload_id)

    async def recover(self) -> None:
        """Finish what a crash has left undone. Called once at start; serving need not wait for it."""
        await self.tidy()
        await self._assembler.recover()

    async def recount(self) -> None:
        """Make the account of room that limits are judged by true again. Called once at start, too."""
        if self._limiter is not None:
            await self._limiter.recover()

    async def decide_events(self) -> None:
        """See what has become of events that a crash, or a full disk, has left undecided."""
        if self._announcer is not None:
            await self._announcer.decide(self._clock(), self._find)

    async def _find(self, upload_id: str) -> Found:
        """What there is of an upload, looked at while nobody is at work on it."""
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return Found(busy=True)
        try:
            return Found(await self._record(upload_id))
        except UploadNotFound:
            return Found()
        except RecordDamaged:
            return Found(busy=True)  # whoever repairs it will want to hear of it
        finally:
            await lease.release()

    async def tidy(self) -> None:
        """Free what crashes have left behind."""
        await self._info.tidy()

    async def sweep(self) -> int:
        """Remove what has expired; returns how many. Spares what somebody holds (X08) and what is finished (X09)."""
        count = 0
        async for upload_id in self._info.ids():
            await asyncio.sleep(0)  # a directory may be long; requests go first
            try:
                if is_expired(await self._record(upload_id), self.policy, self._clock()):
                    count += await self._expire(upload_id)
            except (UploadNotFound, RecordDamaged):
                continue
            except StorageFailure:
                _log.exception("an expired upload could not be removed", extra={"fields": {"id": upload_id}})
        return count

    def ids(self) -> AsyncIterator[str]:
        """Ids of all uploads, in no order; those that come or go meanwhile may or may not be among them."""
        return self._info.ids()

    def running(self) -> Iterator[Running]:
        """What this process is receiving at this moment."""
        for hold in self.holds.receiving():
            if hold.upload is not None:
                yield Running(hold.upload, hold.position, hold.started)

    def stop(self, upload_id: str, response: HttpResponse) -> None:
        """Stop a request that is receiving this upload; the upload is removed, and the answer is `UploadStopped`, shaped by
        `response`. Nothing happens where there is none: tusd's StopUpload is about requests, too."""
        for hold in self.holds.receiving():
            if hold.upload is not None and hold.upload.id == upload_id:
                self._observer.upload_stopped(upload_id)
                hold.stop(UploadStopped().shaped(response))

    def begin_shutdown(self) -> None:
        """Stop every request that is receiving a body; what it received is kept. New ones are refused."""
        self.holds.close()

    async def close(self) -> None:
        """Let go of everything. Called when no request is running any more."""
        await self._assembler.close()
        await self._locker.close()

    # Creation

    def _new_upload(self, command: Create, call: Call) -> Upload:
        upload_id = self._new_id()
        return Upload(
            id=upload_id,
            length=command.length,
            metadata=command.metadata,
            is_partial=command.is_partial,
            partials=command.partials,
            concat=command.concat,
            active_at=self._clock(),
            storage=self._place(upload_id),
            owner=call.owner,
            max_size=call.max_size,
            held=self._gates.finish,
        )

    def _place(self, upload_id: str, path: str | None = None) -> Mapping[str, str]:
        where = self._data.place(upload_id, path)
        return where if self._announcer is None else {**self._info.place(upload_id), **where}

    async def _changed(self, upload: Upload, changes: FileInfoChanges) -> Upload:
        """The upload to be, as the pre-create hook wants it. Raises `HookFailed` for a path that can't be."""
        if changes.metadata is not None:
            upload = upload.evolve(metadata=Metadata(changes.metadata, build_metadata(changes.metadata)))
        if changes.id and await self._is_there(changes.id):  # before anything is noted about it
            raise UploadExists(f"the pre-create hook chose the id {changes.id!r}, which is in use")
        if changes.id or changes.path:
            upload_id = changes.id or upload.id
            try:
                upload = upload.evolve(id=upload_id, storage=self._place(upload_id, changes.path))
            except StorageFailure:
                raise HookFailed(f"the pre-create hook chose the path {changes.path!r}, which can't hold an upload") from None
        return upload

    async def _load_partials(self, partial_ids: tuple[str, ...], call: Call) -> list[Upload]:
        """The partials of a final to be, in order. Raises `Forbidden` for those of other owners."""
        partials: dict[str, Upload] = {}
        for number, partial_id in enumerate(set(partial_ids), 1):
            partial = await self._load(partial_id)
            if partial.owner is not None and partial.owner != call.owner and not call.any_owner:
                raise Forbidden("one of the partial uploads belongs to somebody else")
            partials[partial_id] = partial
            if number % IN_ONE_GO == 0:
                await asyncio.sleep(0)
        return [partials[partial_id] for partial_id in partial_ids]

    async def _store(
        self,
        upload: Upload,
        command: Create,
        partials: list[Upload] | None,
        body: Body,
        limit: int,
        call: Call,
        reservation: Reservation | None,
    ) -> Upload:
        if partials is not None:
            return await self._create_final(upload, partials, call, reservation)
        payload = command.payload
        if payload is None or payload.length == 0:
            return await self._create_empty(upload, call, reservation)
        hold = self.holds.begin(body, call)
        lease: Lease | None = None
        try:
            if not body.ready:  # nobody can know the id yet but the sweeper, which the lock keeps away from a slow body
                lease = await self._lock(upload.id, hold.interrupt)
            return await self._create_with_upload(upload, payload, body, limit, hold, reservation)
        finally:
            self.holds.end(hold)
            if lease is not None:
                await lease.release()

    async def _is_there(self, upload_id: str) -> bool:
        try:
            await self._info.load(upload_id)
        except UploadNotFound:
            return False
        except StorageFailure:
            return True
        return True

    async def _announce(self, upload: Upload, call: Call, reservation: Reservation | None) -> None:
        """The upload is there."""
        self._observer.upload_created(call, upload)
        if reservation is not None:
            await reservation.announce(upload)

    async def _allocate(self, upload: Upload, *, verified: bool = True) -> Writer:
        """The record, then a place for the bytes: an upload is there once both are."""
        await self._info.create(upload)
        try:
            return await self._data.create(upload, verified=verified)
        except BaseException:
            await self._forget_record(upload)
            raise

    async def _create_empty(self, upload: Upload, call: Call, reservation: Reservation | None) -> Upload:
        await self._create_record(upload)
        try:
            await self._announce(upload, call, reservation)
            return await self._finish(upload, call) if upload.complete else upload
        except BaseException:
            await self._forget(upload)
            raise

    async def _create_record(self, upload: Upload, *, promised: bool = False) -> None:
        """`promised` says of a final that its partials are finished, and so is it for its client: its record is to last."""
        writer = await self._allocate(upload)
        try:
            if self._must_sync(upload) or (promised and self._durability is not Durability.NONE):
                await writer.sync()
                await self._info.sync(upload)
        except BaseException:
            await self._forget(upload)
            raise
        finally:
            await writer.close()

    async def _create_with_upload(
        self, upload: Upload, payload: Payload, body: Body, limit: int, hold: Hold, reservation: Reservation | None
    ) -> Upload:
        writer = await self._allocate(upload, verified=payload.verified)
        try:
            await self._announce(upload, hold.call, reservation)
            return await self._receive_into(upload, payload, body, writer, limit, hold, created=True)
        except (UnexpectedEof, ReadTimeout, TooSlow, ServerShutdown):
            if not payload.verified:
                await self._forget(upload)
            raise  # what came before the connection broke is kept, as tusd does (W06)
        except BaseException:
            await writer.close()
            await self._forget(upload)
            raise

    async def _create_final(
        self, final: Upload, partials: list[Upload], call: Call, reservation: Reservation | None
    ) -> Upload:
        await self._create_record(final, promised=all(partial.finished for partial in partials))
        try:
            await self._announce(final, call, reservation)
            if final.complete:
                return await self._finish(final, call)
            await self._info.expect(final)
            with self._finisher.asked_by(final.id, call):
                await self._assembler.settle(final.id, GATED_ASSEMBLY_WAIT if final.held else ASSEMBLY_WAIT)
            return await self._load(final.id)
        except Exception:
            with suppress(StorageFailure):  # a final that is not there is waited for by nobody
                await self._info.unexpect(final)
            await self._forget(final)
            raise

    async def _forget(self, upload: Upload) -> None:
        """Remove what nobody was told about."""
        await self._forget_record(upload)
        try:
            await self._data.remove(upload)
        except StorageFailure:
            _log.exception("the bytes of a refused upload could not be removed", extra={"fields": {"id": upload.id}})

    async def _forget_record(self, upload: Upload) -> None:
        try:
            await self._info.remove(upload.id)
        except StorageFailure:
            _log.exception("the record of a refused upload could not be removed", extra={"fields": {"id": upload.id}})

    # Appending

    async def _lock_for_append(self, upload_id: str, hold: Hold) -> Lease:
        lease = await self._locker.try_acquire(upload_id, hold.interrupt)
        if lease is None:
            # before a holder is disturbed: is there anything to append to?
            if (await self._load(upload_id)).is_final:
                raise ModifyFinal
            lease = await self._lock(upload_id, hold.interrupt)
        return lease

    async def _append_locked(self, command: Append, body: Body, hold: Hold) -> Upload:
        upload = await self._load(command.upload_id)
        length = check_append(command, upload, self.policy)
        _check_failure(upload)
        if hold.refusal is not None:
            raise hold.refusal
        upload = await self._finisher.hold(upload)
        if self._announcer is not None and not upload.finished:
            await self._announcer.before_bytes(upload, hold.call)
        if length != upload.length:
            declared = upload.evolve(length=length)
            if self._limiter is not None:
                await self._limiter.extend(upload, declared)
            await self._info.replace(declared)
            if declared.complete:
                declared = await self._finish_by_declaration(upload, declared, hold.call)
                if command.payload.length == 0 and command.payload.verified:
                    return declared
            upload = declared  # finished or not: what comes, chunked, is too much (P13), and a digest is checked (K03, K09)
        limit = append_limit(upload, upload.length, self.policy)
        writer = await self._data.open_writer(upload, verified=command.payload.verified)
        try:
            return await self._receive_into(upload, command.payload, body, writer, limit, hold)
        except UploadStopped:
            await self._remove(await self._load(upload.id), hold.call)
            raise

    async def _receive_into(
        self, upload: Upload, payload: Payload, body: Body, writer: Writer, limit: int, hold: Hold, *, created: bool = False
    ) -> Upload:
        before, call = upload, hold.call
        hold.receive(upload, writer)
        self._observer.chunk_started(call, upload, limit if payload.length is None else payload.length)
        try:
            reception = await receive(body, payload, writer, limit)
            if reception.position != upload.offset:
                upload = upload.evolve(offset=reception.position, active_at=self._clock())
                await self._info.commit_offset(upload)
            if created or upload is not before:
                await self._make_durable(before, upload, writer)
        finally:
            await writer.close()
        self._observer.chunk_complete(call, upload, upload.offset - before.offset, monotonic() - hold.started)
        if upload is not before:
            await self._received(upload, call)
        if upload.complete and not before.finished:
            upload = await self._finish(upload, call)
        reception.check(hold.refusal)
        return upload

    async def _received(self, upload: Upload, call: Call) -> None:
        """More of the upload is here."""
        if self._limiter is not None:
            await self._limiter.progress(upload)
        if self._announcer is not None:
            await self._announcer.received(upload, call)

    async def _finish(self, upload: Upload, call: Call) -> Upload:
        """The upload is complete and durable. Raises `FinishRejected`, `HookFailed`."""
        upload = await self._finisher.finish(upload, call)
        if upload.is_partial and upload.finished:
            await self._assembler.partial_changed(upload.id)
        return upload

    async def _make_durable(self, before: Upload, upload: Upload, writer: Writer) -> None:
        """Sync bytes and record where the durability level asks for it. When that fails, the upload is as it was before."""
        if not self._must_sync(upload):
            return
        started = perf_counter()
        try:
            if self._durability is Durability.EVERY_PATCH and upload.offset > before.offset:
                await writer.sync()
                await self._info.replace(upload, synced=True)  # a restart after a power cut keeps what it says
                await self._info.sync(upload)
            else:
                await _both(writer.sync(), self._info.sync(upload))
        except StorageFailure:
            await writer.rollback()
            await self._info.commit_offset(before)
            raise
        self._observer.synced(perf_counter() - started)

    async def _finish_by_declaration(self, before: Upload, upload: Upload, call: Call) -> Upload:
        """All bytes were there already when the length was declared (D04)."""
        if self._must_sync(upload):
            try:
                await self._data.sync(upload)
                await self._info.sync(upload)
            except StorageFailure:
                await self._info.replace(before)
                raise
        return await self._finish(upload, call)

    def _must_sync(self, upload: Upload) -> bool:
        if self._durability is Durability.FINAL:
            return upload.complete
        return self._durability is Durability.EVERY_PATCH

    # Common

    async def _lock(self, upload_id: str, on_release_request: Callable[[], None]) -> Lease:
        started = perf_counter()
        try:
            lease = await self._locker.acquire(upload_id, on_release_request, self._lock_timeout)
            self._observer.took_over(perf_counter() - started)
            return lease
        except LockTimeout:
            raise LockTimedOut from None

    async def _load(self, upload_id: str) -> Upload:
        """The record of an upload that is still alive. Raises `UploadMissing`, `UploadGone`, `UploadDamaged`."""
        try:
            upload = await self._record(upload_id)
        except UploadNotFound:
            raise (UploadGone if await self._info.is_gone(upload_id) else UploadMissing) from None
        except RecordDamaged as damage:
            _log.error("a record can't be read: %s", damage, extra={"fields": {"id": upload_id}})
            raise UploadDamaged from None
        if upload.is_final and not upload.finished:
            upload = await self._look_at_final(upload)
        if is_expired(upload, self.policy, self._clock()):
            raise UploadGone
        return upload

    async def _record(self, upload_id: str) -> Upload:
        """The record as it counts. Raises `UploadNotFound`, `RecordDamaged`."""
        return self._finisher.seen(await self._info.load(upload_id))

    async def _look_at_final(self, upload: Upload) -> Upload:
        """A final that is not put together: keep that going, and see it as it was promised."""
        await self._keep_going(upload.id)
        return await self._assembler.as_promised(upload)

    async def _keep_going(self, final_id: str) -> None:
        with suppress(StorageFailure):  # logged, and tried again later
            await self._assembler.settle(final_id, wait=0)

    async def _remove(self, upload: Upload, call: Call = NO_CALL, *, tombstone: bool = False) -> None:
        """Bytes first: a crash in between leaves a record without bytes, which is small and counts as missing."""
        if self._announcer is not None:
            await self._announcer.before_removal(upload, call)
        await self._data.remove(upload)
        await self._info.remove(upload.id, tombstone=tombstone)
        if upload.is_final:
            await self._info.unexpect(upload)
        self._observer.upload_terminated(call, upload)
        if self._announcer is not None:
            await self._announcer.removed(upload, call)
        if self._limiter is not None:
            await self._limiter.forget(upload.id)

    async def _expire(self, upload_id: str) -> bool:
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return False
        try:
            # bytes may have come between the look and the lock; and a final may be finished though it is not put together
            upload = await self._assembler.as_promised(await self._record(upload_id))
            expired = is_expired(upload, self.policy, self._clock())
            if expired:
                await self._remove(upload, tombstone=True)
        finally:
            await lease.release()
        if upload.is_partial and expired:
            await self._assembler.partial_changed(upload_id)
        if upload.is_final and not expired:
            await self._keep_going(upload_id)  # as in `append`
        return expired


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    """Return once both are done: what waits together is synced together. Raises the failure of the first that failed."""
    for done in await asyncio.gather(first, second, return_exceptions=True):
        if done is not None:
            raise done


def _check_failure(upload: Upload) -> None:
    """Raises `UploadFailed` for what can never be finished."""
    if upload.failure is not None:
        what = "the final upload" if upload.is_final else "the upload"
        raise UploadFailed(f"{what} can't be finished: {upload.failure}")
