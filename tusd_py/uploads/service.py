"""Create, append, describe, read, terminate: the use cases, over ports.

One append, in order: lock (asking a present holder to let go), load, check, receive, commit the offset, make durable, answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum

from tusd_py.ports.body import Body
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.datastore import Content, DataStore, Writer
from tusd_py.ports.failures import LockTimeout, ReadOnlyStorage, RecordDamaged, StorageFailure, UploadNotFound
from tusd_py.ports.infostore import InfoStore
from tusd_py.ports.locker import Lease, Locker, ignore
from tusd_py.protocol.commands import Append, Create, Payload
from tusd_py.protocol.refusals import (
    LockTimedOut,
    ModifyFinal,
    NotReady,
    PartialInUse,
    ReadTimeout,
    ServerShutdown,
    UnexpectedEof,
    UploadDamaged,
    UploadFailed,
    UploadGone,
    UploadMissing,
)
from tusd_py.protocol.rules import Policy, append_limit, check_append, check_create, check_partials, is_expired
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.assembling import IN_ONE_GO, Assembler, release_all
from tusd_py.uploads.holding import Hold, Holds
from tusd_py.uploads.receiving import receive

__all__ = ["Durability", "Uploads"]

_log = logging.getLogger("tusd_py.uploads")

ASSEMBLY_WAIT = 0.1
"""Seconds that the POST of a final waits for its bytes to be put together: long enough for most, and for telling of a full
disk. A larger final is answered all the same, read from its partials meanwhile, and put together in the background."""


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
        durability: Durability = Durability.FINAL,
        lock_timeout: float = 20.0,
        clock: Clock = system_clock,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self.policy = policy or Policy()
        self._data, self._info, self._locker = data, info, locker
        self._durability, self._lock_timeout = durability, lock_timeout
        self._clock, self._new_id = clock, new_id
        self._holds = Holds()
        self._assembler = Assembler(data, info, locker, self.policy, clock, durable=durability is not Durability.NONE)

    def __repr__(self) -> str:
        return f"<Uploads receiving={len(self._holds)} durability={self._durability.value}>"

    async def create(self, command: Create, body: Body) -> Upload:
        """Make an upload; `body` brings the first bytes if `command.payload` says so (creation-with-upload).

        A creation that is refused leaves nothing behind: its client never learned a URL to resume at (W04).
        """
        limit = check_create(command, self.policy)
        if command.partials is not None:
            return await self._create_final(command, command.partials)
        upload = self._new_upload(command)
        if command.payload is None or command.payload.length == 0:
            return await self._create_empty(upload)
        hold = self._holds.begin(body)
        lease: Lease | None = None
        try:
            if not body.ready:  # nobody can know the id yet but the sweeper, which the lock keeps away from a slow body
                lease = await self._lock(upload.id, hold.interrupt)
            return await self._create_with_upload(upload, command.payload, body, limit, hold)
        finally:
            self._holds.end(hold)
            if lease is not None:
                await lease.release()

    async def append(self, command: Append, body: Body) -> Upload:
        """Add a body to an upload; returns the record afterwards."""
        hold = self._holds.begin(body)
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
            self._holds.end(hold)

    async def describe(self, upload_id: str, *, takeover: bool) -> Upload:
        """The record. With `takeover`, who asks is about to resume: a request that is still sending is stopped first (H08)."""
        upload = await self._load(upload_id)
        if takeover and not upload.finished and not upload.is_final:
            upload = await self._take_over(upload)
        if upload.failure is not None:
            raise UploadFailed(f"the final upload can't be finished: {upload.failure}")
        return upload

    async def _take_over(self, upload: Upload) -> Upload:
        """The record once nobody is sending any more. On storage that can't be written, nobody is."""
        try:
            lease = await self._lock(upload.id, ignore)
        except ReadOnlyStorage:
            return upload
        try:
            return await self._load(upload.id)
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

    async def terminate(self, upload_id: str) -> None:
        """Remove an upload; a request that is sending to it is stopped first (T04)."""
        leases = [await self._lock(upload_id, ignore)]
        try:
            upload = await self._load(upload_id)
            if upload.is_partial:
                finals = await self._assembler.hold_finals(upload_id)
                if finals is None:
                    raise PartialInUse(headers={"Retry-After": "1"})
                leases += finals
            await self._remove(upload)
        finally:
            await release_all(leases)
        if upload.is_partial:
            await self._assembler.partial_changed(upload_id)

    async def recover(self) -> None:
        """Finish what a crash has left undone. Called once at start; serving need not wait for it."""
        await self.tidy()
        await self._assembler.recover()

    async def tidy(self) -> None:
        """Free what crashes have left behind."""
        await self._info.tidy()

    async def sweep(self) -> int:
        """Remove what has expired; returns how many. Spares what somebody holds (X08) and what is finished (X09)."""
        count = 0
        async for upload_id in self._info.ids():
            await asyncio.sleep(0)  # a directory may be long; requests go first
            try:
                if is_expired(await self._info.load(upload_id), self.policy, self._clock()):
                    count += await self._expire(upload_id)
            except (UploadNotFound, RecordDamaged):
                continue
            except StorageFailure:
                _log.exception("an expired upload could not be removed", extra={"fields": {"id": upload_id}})
        return count

    def begin_shutdown(self) -> None:
        """Stop every request that is receiving a body; what it received is kept. New ones are refused."""
        self._holds.close()

    async def close(self) -> None:
        """Let go of everything. Called when no request is running any more."""
        await self._assembler.close()
        await self._locker.close()

    # Creation

    def _new_upload(self, command: Create) -> Upload:
        upload_id = self._new_id()
        return Upload(
            id=upload_id,
            length=command.length,
            metadata=command.metadata,
            is_partial=command.is_partial,
            partials=command.partials,
            concat=command.concat,
            active_at=self._clock(),
            storage=self._data.place(upload_id),
        )

    async def _allocate(self, upload: Upload, *, verified: bool = True) -> Writer:
        """The record, then a place for the bytes: an upload is there once both are."""
        await self._info.create(upload)
        try:
            return await self._data.create(upload, verified=verified)
        except BaseException:
            await self._forget_record(upload)
            raise

    async def _create_empty(self, upload: Upload, *, promised: bool = False) -> Upload:
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
        return upload

    async def _create_with_upload(self, upload: Upload, payload: Payload, body: Body, limit: int, hold: Hold) -> Upload:
        writer = await self._allocate(upload, verified=payload.verified)
        try:
            return await self._receive_into(upload, payload, body, writer, limit, hold, created=True)
        except (UnexpectedEof, ReadTimeout, ServerShutdown):
            if not payload.verified:
                await self._forget(upload)
            raise  # what came before the connection broke is kept, as tusd does (W06)
        except BaseException:
            await self._forget(upload)
            raise

    async def _create_final(self, command: Create, partial_ids: tuple[str, ...]) -> Upload:
        partials: dict[str, Upload] = {}
        for number, partial_id in enumerate(set(partial_ids), 1):
            partials[partial_id] = await self._load(partial_id)
            if number % IN_ONE_GO == 0:
                await asyncio.sleep(0)
        length = check_partials((partials[partial_id] for partial_id in partial_ids), self.policy)
        final = self._new_upload(command).evolve(length=length)
        await self._create_empty(final, promised=all(partial.finished for partial in partials.values()))
        if final.finished:
            return final
        try:
            await self._info.expect(final)
            await self._assembler.settle(final.id, ASSEMBLY_WAIT)
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
        if hold.refusal is not None:
            raise hold.refusal
        if length != upload.length:
            declared = upload.evolve(length=length)
            await self._info.replace(declared)
            if declared.finished:
                declared = await self._finish_by_declaration(upload, declared)
                if command.payload.length == 0 and command.payload.verified:
                    return declared
            upload = declared  # finished or not: what comes, chunked, is too much (P13), and a digest is checked (K03, K09)
        limit = append_limit(upload.offset, upload.length, self.policy)
        writer = await self._data.open_writer(upload, verified=command.payload.verified)
        return await self._receive_into(upload, command.payload, body, writer, limit, hold)

    async def _receive_into(
        self, upload: Upload, payload: Payload, body: Body, writer: Writer, limit: int, hold: Hold, *, created: bool = False
    ) -> Upload:
        before = upload
        try:
            reception = await receive(body, payload, writer, limit)
            if reception.position != upload.offset:
                upload = upload.evolve(offset=reception.position, active_at=self._clock())
                await self._info.commit_offset(upload)
            if created or upload is not before:
                await self._make_durable(before, upload, writer)
        finally:
            await writer.close()
        if upload.is_partial and upload.finished and not before.finished:
            await self._assembler.partial_changed(upload.id)
        reception.check(hold.refusal)
        return upload

    async def _make_durable(self, before: Upload, upload: Upload, writer: Writer) -> None:
        """Sync bytes and record where the durability level asks for it. When that fails, the upload is as it was before."""
        if not self._must_sync(upload):
            return
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

    async def _finish_by_declaration(self, before: Upload, upload: Upload) -> Upload:
        """All bytes were there already when the length was declared (D04)."""
        if self._must_sync(upload):
            try:
                await self._data.sync(upload)
                await self._info.sync(upload)
            except StorageFailure:
                await self._info.replace(before)
                raise
        if upload.is_partial:
            await self._assembler.partial_changed(upload.id)
        return upload

    def _must_sync(self, upload: Upload) -> bool:
        if self._durability is Durability.FINAL:
            return upload.finished
        return self._durability is Durability.EVERY_PATCH

    # Common

    async def _lock(self, upload_id: str, on_release_request: Callable[[], None]) -> Lease:
        try:
            return await self._locker.acquire(upload_id, on_release_request, self._lock_timeout)
        except LockTimeout:
            raise LockTimedOut from None

    async def _load(self, upload_id: str) -> Upload:
        """The record of an upload that is still alive. Raises `UploadMissing`, `UploadGone`, `UploadDamaged`."""
        try:
            upload = await self._info.load(upload_id)
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

    async def _look_at_final(self, upload: Upload) -> Upload:
        """A final that is not put together: keep that going, and see it as it was promised."""
        await self._keep_going(upload.id)
        return await self._assembler.as_promised(upload)

    async def _keep_going(self, final_id: str) -> None:
        with suppress(StorageFailure):  # logged, and tried again later
            await self._assembler.settle(final_id, wait=0)

    async def _remove(self, upload: Upload, *, tombstone: bool = False) -> None:
        """Bytes first: a crash in between leaves a record without bytes, which is small and counts as missing."""
        await self._data.remove(upload)
        await self._info.remove(upload.id, tombstone=tombstone)
        if upload.is_final:
            await self._info.unexpect(upload)

    async def _expire(self, upload_id: str) -> bool:
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return False
        try:
            # bytes may have come between the look and the lock; and a final may be finished though it is not put together
            upload = await self._assembler.as_promised(await self._info.load(upload_id))
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
