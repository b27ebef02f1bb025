"""Create, append, describe, read, terminate: the use cases, over ports.

One append, in order: lock (asking a present holder to let go), load, check, receive, commit the offset, make durable, answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator

from tusd_py.ports.body import Body
from tusd_py.ports.call import NO_CALL, Call
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.datastore import Content, DataStore
from tusd_py.ports.failures import (
    ReadOnlyStorage,
    RecordDamaged,
    StorageFailure,
    UploadNotFound,
)
from tusd_py.ports.infostore import InfoStore
from tusd_py.ports.limits import Limiter
from tusd_py.ports.locker import Lease, Locker, ignore
from tusd_py.ports.observer import NO_OBSERVER, Observer
from tusd_py.protocol.commands import Append, Create
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.refusals import (
    ModifyFinal,
    NotAccepted,
    NotReady,
    PartialInUse,
    TypeNotAllowed,
    UploadMissing,
    UploadStopped,
)
from tusd_py.protocol.rules import Policy, append_limit, check_append, is_expired
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.announcing import Announcer, Found
from tusd_py.uploads.assembling import Assembler, release_all
from tusd_py.uploads.committing import Committer
from tusd_py.uploads.creating import Creator, random_id
from tusd_py.uploads.finishing import Finisher
from tusd_py.uploads.gates import Gates
from tusd_py.uploads.holding import Hold, Holds, Running
from tusd_py.uploads.hosting import UploadHost
from tusd_py.uploads.parts import Durability, Parts
from tusd_py.uploads.records import Records, check_failure
from tusd_py.uploads.sniffing import TypeGate

__all__ = ["Durability", "Uploads"]

_log = logging.getLogger("tusd_py.uploads")


ROUNDS = 60
"""Rounds of `Uploads.keep_deciding` until all events are looked at again."""


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
        types: TypeGate | None = None,
        observer: Observer = NO_OBSERVER,
        durability: Durability = Durability.FINAL,
        lock_timeout: float = 20.0,
        clock: Clock = system_clock,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self.policy = policy or Policy()
        self.holds = Holds(observer)
        parts = Parts(
            data=data,
            info=info,
            locker=locker,
            policy=self.policy,
            gates=gates or Gates(),
            announcer=announcer,
            limiter=limiter,
            types=types,
            observer=observer,
            durability=durability,
            clock=clock,
        )
        self._parts, self._data, self._info, self._locker, self._clock = parts, data, info, locker, clock
        self._gates, self._announcer, self._limiter, self._observer = parts.gates, announcer, limiter, observer
        self._finisher = Finisher(parts)
        self._assembler = Assembler(parts, self._finisher)
        self._records = Records(parts, self._finisher, self._assembler, lock_timeout)
        self.host = UploadHost(parts, self._records, self.holds)
        self._committer = Committer(parts, self._finisher, self._assembler)
        self._creator = Creator(
            parts, self._records, self._committer, self._finisher, self._assembler, self.holds, new_id
        )

    def __repr__(self) -> str:
        return f"<Uploads receiving={len(self.holds)} durability={self._parts.durability.value}>"

    async def create(self, command: Create, body: Body, call: Call = NO_CALL) -> Upload:
        """Make an upload; `body` brings the first bytes if `command.payload` says so (creation-with-upload).

        A creation that is refused leaves nothing behind: its client never learned a URL to resume at (W04).
        """
        return await self._creator.create(command, body, call)

    async def append(self, command: Append, body: Body, call: Call = NO_CALL) -> Upload:
        """Add a body to an upload; returns the record afterwards."""
        hold = self.holds.begin(body, call)
        try:
            lease = await self._lock_for_append(command.upload_id, hold)
            try:
                return await self._append_locked(command, body, hold)
            except (UploadStopped, TypeNotAllowed):
                stopped = await self._records.stored(command.upload_id)
                await self._remove(stopped, call)
                if stopped.is_partial:
                    await self._assembler.partial_changed(stopped.id)
                raise
            finally:
                await lease.release()
        except ModifyFinal:
            await self._records.keep_going(command.upload_id)  # who wanted to put it together relied on us, who had its lock
            raise
        finally:
            self.holds.end(hold)

    async def look(self, upload_id: str) -> Upload:
        """The record as it is, without a lock and without disturbing anybody. Raises `UploadMissing`, `UploadGone`."""
        return await self._records.load(upload_id)

    async def describe(self, upload_id: str, call: Call = NO_CALL, *, takeover: bool) -> Upload:
        """The record. With `takeover`, who asks is about to resume: a request that is still sending is stopped first (H08)."""
        upload = await self._records.load(upload_id)
        if takeover and not upload.finished and not upload.is_final:
            upload = await self._take_over(upload, call)
        check_failure(upload)
        if upload.held and upload.complete:
            raise NotAccepted(headers={"Retry-After": "1"})
        return upload

    async def _take_over(self, upload: Upload, call: Call) -> Upload:
        """The record once nobody is sending any more. On storage that can't be written, nobody is."""
        try:
            lease = await self._records.lock(upload.id, ignore)
        except ReadOnlyStorage:
            return upload
        try:
            upload = await self._records.load(upload.id)
            if upload.held and upload.complete and upload.failure is None:
                upload = await self._committer.finish(upload, call)  # nobody got an answer from the hook, or it failed
            return upload
        finally:
            await lease.release()

    async def open_content(self, upload_id: str) -> tuple[Upload, Content]:
        """The record and the bytes there are, to read. Takes no lock and disturbs nobody."""
        upload = await self.describe(upload_id, takeover=False)
        if upload.is_final and not upload.finished:
            raise NotReady(headers={"Retry-After": "1"})
        try:
            return upload, await self._open(upload)
        except UploadNotFound:
            raise UploadMissing from None

    async def _open(self, upload: Upload) -> Content:
        content = await self._data.open_content(upload)
        if not upload.is_final or content.size == upload.length:
            return content
        await content.close()
        try:
            return await self._assembler.open_partials(upload)
        except UploadNotFound:
            now = await self._records.stored(upload.id)
            if not now.finished:
                raise
            return await self._data.open_content(now)  # a partial may go as soon as the final is together

    async def terminate(self, upload_id: str, call: Call = NO_CALL) -> None:
        """Remove an upload; a request that is sending to it is stopped first (T04)."""
        if self._gates.termination:  # before anybody is disturbed, and without a lock that the hook might need
            await self._gates.before_termination(await self._records.load(upload_id), call)
        leases = [await self._records.lock(upload_id, ignore)]
        try:
            upload = await self._records.load(upload_id)
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
        """Finish what a crash, or a full disk, has left undone: finals, for nobody may ever ask for them again. Free what is of
        no use. Called at start, which serving need not wait for, and now and then."""
        await self._info.tidy()
        await self._assembler.recover()

    async def recount(self) -> None:
        """Make the account of room that limits are judged by true again. Called once at start, too."""
        if self._limiter is not None:
            await self._limiter.recover()

    async def decide_events(self) -> None:
        """See what has become of events that a crash, or a full disk, has left undecided."""
        if self._announcer is not None:
            await self._announcer.decide(self._clock(), self._find)

    async def keep_deciding(self, interval: float) -> None:
        """Decide upon all events at once, and then every `interval` seconds upon what could not be confirmed, until cancelled.

        All of them are looked at but rarely: as many as there are unfinished uploads are waiting for their uploads to finish.
        """
        rounds = 0
        while True:
            try:
                if rounds % ROUNDS == 0:
                    await self.decide_events()
                elif self._announcer is not None:
                    await self._announcer.confirm_again()
            except StorageFailure:
                _log.exception("events could not be decided upon")
            rounds += 1
            await asyncio.sleep(interval)

    async def _find(self, upload_id: str) -> Found:
        """What there is of an upload, looked at while nobody is at work on it."""
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return Found(busy=True)
        try:
            return Found(await self._records.stored(upload_id))
        except UploadNotFound:
            return Found()
        except RecordDamaged:
            return Found(busy=True)  # whoever repairs it will want to hear of it
        except StorageFailure:  # others must not wait for this one
            _log.exception("an upload could not be looked at", extra={"fields": {"id": upload_id}})
            return Found(busy=True)
        finally:
            await lease.release()

    async def sweep(self) -> int:
        """Remove what has expired; returns how many. Spares what somebody holds (X08) and what is finished (X09)."""
        count = 0
        async for upload_id in self._info.ids():
            await asyncio.sleep(0)  # a directory may be long; requests go first
            try:
                if is_expired(await self._records.stored(upload_id), self.policy, self._clock()):
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

    # Appending

    async def _lock_for_append(self, upload_id: str, hold: Hold) -> Lease:
        lease = await self._locker.try_acquire(upload_id, hold.interrupt)
        if lease is None:
            # before a holder is disturbed: is there anything to append to?
            if (await self._records.load(upload_id)).is_final:
                raise ModifyFinal
            lease = await self._records.lock(upload_id, hold.interrupt)
        return lease

    async def _append_locked(self, command: Append, body: Body, hold: Hold) -> Upload:
        upload = await self._records.load(command.upload_id)
        length = check_append(command, upload, self.policy)
        check_failure(upload)
        if hold.refusal is not None:
            raise hold.refusal
        upload = await self._finisher.hold(upload)
        if self._announcer is not None and not upload.finished:
            await self._announcer.before_bytes(upload, hold.call)
        if length != upload.length:
            declared = upload.evolve(length=length)
            if declared.complete:
                await self._finisher.check_type(declared)
            if self._limiter is not None:
                await self._limiter.extend(upload, declared)
            try:
                await self._info.replace(declared)
            except StorageFailure:
                if self._limiter is not None:
                    await self._limiter.progress(upload)
                raise
            if declared.complete:
                declared = await self._committer.finish_by_declaration(upload, declared, hold.call)
                if command.payload.length == 0 and command.payload.verified:
                    return declared
            upload = declared  # finished or not: what comes, chunked, is too much (P13), and a digest is checked (K03, K09)
        limit = append_limit(upload, upload.length, self.policy)
        writer = await self._data.open_writer(upload, verified=command.payload.verified)
        return await self._committer.receive(upload, command.payload, body, writer, limit, hold)

    async def _remove(self, upload: Upload, call: Call = NO_CALL, *, tombstone: bool = False) -> None:
        """Bytes first: a crash in between leaves a record without bytes, which is small and counts as missing."""
        if self._announcer is not None:
            await self._announcer.before_removal(upload, call)
        if upload.relocated:
            await self._remove_relocated(upload, tombstone=tombstone)
        else:
            await self._data.remove(upload)
            await self._info.remove(upload.id, tombstone=tombstone)
        if upload.is_final:
            await self._info.unexpect(upload)
        self._observer.upload_terminated(call, upload)
        if self._announcer is not None:
            await self._announcer.removed(upload, call)
        if self._limiter is not None:
            await self._limiter.forget(upload.id)

    async def _remove_relocated(self, upload: Upload, *, tombstone: bool) -> None:
        """The record first: it says by itself that the bytes are there, so it must not outlive them, not by a power cut either.
        What is left behind in between is found by whoever has the bytes (`Host.clear_away`)."""
        await self._info.remove(upload.id, tombstone=tombstone, durable=self._parts.durable)
        try:
            await self._data.remove(upload)
        except StorageFailure as failure:
            fields = {"id": upload.id, "error": str(failure)}
            _log.warning("the bytes of an upload that was removed stay for now", extra={"fields": fields})

    async def _expire(self, upload_id: str) -> bool:
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return False
        try:
            # bytes may have come between the look and the lock; and a final may be finished though it is not put together
            upload = await self._assembler.as_promised(await self._records.stored(upload_id))
            expired = is_expired(upload, self.policy, self._clock())
            if expired:
                await self._remove(upload, tombstone=True)
        finally:
            await lease.release()
        if upload.is_partial and expired:
            await self._assembler.partial_changed(upload_id)
        if upload.is_final and not expired:
            await self._records.keep_going(upload_id)  # as in `append`
        return expired


