"""Creation: the upload to be, what hooks make of it, what it needs, and its first bytes.

A creation that is refused leaves nothing behind: its client never learned a URL to resume at (W04).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from tusd_py.ports.body import Body
from tusd_py.ports.call import Call
from tusd_py.ports.datastore import Writer
from tusd_py.ports.failures import StorageFailure, UploadExists
from tusd_py.ports.locker import Lease
from tusd_py.protocol.commands import Create, Payload
from tusd_py.protocol.hooks import FileInfoChanges
from tusd_py.protocol.metadata import Metadata, build_metadata
from tusd_py.protocol.refusals import Forbidden, HookFailed, ReadTimeout, ServerShutdown, TooSlow, UnexpectedEof
from tusd_py.protocol.rules import check_create, check_partials
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.assembling import IN_ONE_GO, Assembler
from tusd_py.uploads.committing import Committer
from tusd_py.uploads.finishing import Finisher
from tusd_py.uploads.holding import Hold, Holds
from tusd_py.uploads.parts import Parts
from tusd_py.uploads.records import Records
from tusd_py.uploads.reserving import Reservation

__all__ = ["Creator", "random_id"]

_log = logging.getLogger("tusd_py.uploads")

ASSEMBLY_WAIT = 0.03
"""Seconds that the POST of a final waits for its bytes to be put together: long enough for most, and for telling of a full
disk. A larger final is answered all the same, read from its partials meanwhile, and put together in the background."""

GATED_ASSEMBLY_WAIT = 600.0
"""Seconds that it waits where a pre-finish hook or the types that are allowed decide on the bytes: as long as a patient client
would."""


_ID_BYTES = 16
_ids: list[str] = []


def random_id() -> str:
    """tusd's form: 16 random bytes as 32 lower-case hex digits. The system is asked for many at once: each question costs."""
    if not _ids:
        text = os.urandom(_ID_BYTES * 64).hex()
        _ids.extend(text[start : start + 2 * _ID_BYTES] for start in range(0, len(text), 2 * _ID_BYTES))
    return _ids.pop()


os.register_at_fork(after_in_child=_ids.clear)  # or parent and child would give out the same ids


_NEW = Upload(id="", length=None)


class Creator:
    """Makes uploads."""

    def __init__(
        self,
        parts: Parts,
        records: Records,
        committer: Committer,
        finisher: Finisher,
        assembler: Assembler,
        holds: Holds,
        new_id: Callable[[], str],
    ) -> None:
        self._data, self._info, self._records, self._committer = parts.data, parts.info, records, committer
        self._finisher, self._assembler, self._holds, self._policy = finisher, assembler, holds, parts.policy
        self._gates, self._announcer, self._limiter, self._observer = (
            parts.gates, parts.announcer, parts.limiter, parts.observer,
        )  # fmt: skip
        self._types, self._clock, self._new_id, self._durable = parts.types, parts.clock, new_id, parts.durable

    async def create(self, command: Create, body: Body, call: Call) -> Upload:
        """`Uploads.create`."""
        limit = check_create(command, self._policy, call.max_size)
        partials = None if command.partials is None else await self._load_partials(command.partials, call)
        upload = self._new_upload(command, call)
        if partials is not None:
            upload = upload.evolve(length=check_partials(partials, self._policy))
        drawn = upload.id
        if self._gates.creation:
            changes = await self._gates.before_creation(upload.evolve(id="", storage={}), call)
            upload = await self._changed(upload, changes)
        if self._types is not None:
            self._types.check_declared(upload)
        if self._limiter is None and self._announcer is None and call.claim is None:
            return await self._store(upload, command, partials, body, limit, call, None)
        reservation = Reservation(upload, call, self._limiter, self._announcer)
        try:
            if upload.id != drawn:
                await self._own(upload.id, reservation)
            await reservation.take()
            try:
                return await self._store(upload, command, partials, body, limit, call, reservation)
            except BaseException:
                if not await self._records.has(upload.id):  # else what came before the connection broke is kept
                    await reservation.give_back()
                raise
        finally:
            await reservation.release()

    async def _own(self, upload_id: str, reservation: Reservation) -> None:
        """Lock an id that a hook chose before anything is noted about it: another upload of this id may be about to be made, or
        to go, and what is noted about the one must not be taken for the other's. Raises `UploadExists`."""
        reservation.lease = await self._records.lock(upload_id, lambda: reservation.interrupt())
        if await self._records.has(upload_id):
            raise UploadExists(f"the pre-create hook chose the id {upload_id!r}, which is in use")

    def _new_upload(self, command: Create, call: Call) -> Upload:
        upload_id = self._new_id()
        return _NEW.evolve(
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
        if changes.id and await self._records.has(changes.id):  # before anything is noted about it
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
            partial = await self._records.load(partial_id)
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
        hold = self._holds.begin(body, call)
        lease: Lease | None = None
        try:
            if reservation is not None and reservation.lease is not None:
                reservation.interrupt = hold.interrupt
            elif not body.ready:  # nobody can know the id yet but the sweeper, which the lock keeps away from a slow body
                lease = await self._records.lock(upload.id, hold.interrupt)
            return await self._create_with_upload(upload, payload, body, limit, hold, reservation)
        finally:
            self._holds.end(hold)
            if lease is not None:
                await lease.release()

    async def _announce(self, upload: Upload, call: Call, reservation: Reservation | None) -> None:
        """The upload is there."""
        self._observer.upload_created(call, upload)
        if reservation is not None:
            await reservation.announce(upload)

    async def _allocate(self, upload: Upload, *, verified: bool = True) -> Writer:
        """The record, then a place for the bytes: an upload is there once both are. Only a hook chooses ids that may have been
        in use."""
        await self._info.create(upload)
        try:
            return await self._data.create(upload, verified=verified, fresh=not self._gates.creation)
        except BaseException:
            await self._forget_record(upload)
            raise

    async def _create_empty(self, upload: Upload, call: Call, reservation: Reservation | None) -> Upload:
        await self._create_record(upload)
        try:
            await self._announce(upload, call, reservation)
            return await self._committer.finish(upload, call) if upload.complete else upload
        except BaseException:
            await self._forget(upload, reservation)
            raise

    async def _create_record(self, upload: Upload, *, promised: bool = False) -> None:
        """`promised` says of a final that its partials are finished, and so is it for its client: its record is to last."""
        writer = await self._allocate(upload)
        try:
            if self._committer.must_sync(upload) or (promised and self._durable):
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
            return await self._committer.receive(upload, payload, body, writer, limit, hold, created=True)
        except (UnexpectedEof, ReadTimeout, TooSlow, ServerShutdown):
            if not payload.verified:
                await self._forget(upload, reservation)
            raise  # what came before the connection broke is kept, as tusd does (W06)
        except BaseException:
            await writer.close()
            await self._forget(upload, reservation)
            raise

    async def _create_final(
        self, final: Upload, partials: list[Upload], call: Call, reservation: Reservation | None
    ) -> Upload:
        await self._create_record(final, promised=all(partial.finished for partial in partials))
        try:
            await self._announce(final, call, reservation)
            if reservation is not None:
                await reservation.release()  # who puts it together wants the lock
            if final.complete:
                return await self._committer.finish(final, call)
            await self._info.expect(final)
            with self._finisher.asked_by(final.id, call):
                judged = final.held or self._types is not None
                await self._assembler.settle(final.id, GATED_ASSEMBLY_WAIT if judged else ASSEMBLY_WAIT)
            return await self._records.load(final.id)
        except Exception:
            with suppress(StorageFailure):  # a final that is not there is waited for by nobody
                await self._info.unexpect(final)
            await self._forget(final, reservation)
            raise

    async def _forget(self, upload: Upload, reservation: Reservation | None = None) -> None:
        """Remove what no client was told about; `reservation` is given where hooks may have been."""
        if reservation is not None:
            await reservation.before_forgetting()
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
