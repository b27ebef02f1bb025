"""What the server does for extensions: see `tusd_py.ports.extension.Host`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from tusd_py.ports.extension import Received
from tusd_py.ports.failures import RecordDamaged, StorageFailure, UploadNotFound
from tusd_py.protocol.hooks import HookEvent
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.holding import Holds
from tusd_py.uploads.parts import Parts
from tusd_py.uploads.records import Records

__all__ = ["UploadHost"]


class UploadHost:
    """A `Host` over the uploads of one store."""

    def __init__(self, parts: Parts, records: Records, holds: Holds) -> None:
        self._holds = holds
        self._info, self._locker, self._announcer = parts.info, parts.locker, parts.announcer
        self._durable, self._records = parts.durable, records

    @property
    def received(self) -> Received:
        return self._holds.count()

    async def look(self, upload_id: str) -> Upload | None:
        try:
            upload = await self._records.stored(upload_id)
        except (UploadNotFound, RecordDamaged):  # of the latter the store has told the log
            return None
        return upload if upload.finished else None

    async def relocate(
        self, upload_id: str, storage: Mapping[str, str], release: Callable[[Upload], Awaitable[None]]
    ) -> bool:
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return False
        try:
            upload = await self.look(upload_id)
            if upload is None:
                return False
            moved = upload.evolve(storage={**upload.storage, **storage})
            if moved.storage != upload.storage:
                await self._info.replace(moved, synced=True)
            if storage and self._durable:  # else the file may be gone and the record not know it; who wrote it may have died
                await self._info.sync(moved)
            await release(moved)
        finally:
            await lease.release()
        return True

    async def publish(self, event: HookEvent) -> None:
        if self._announcer is not None and self._announcer.wanted(event.type):
            await self._announcer.publish(event, await self.look(event.upload.id))

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        if self._announcer is None:
            raise StorageFailure("nobody is told of events here, so that nothing is known of what is undelivered")
        return await self._announcer.undelivered(upload_id, besides=besides)

    async def without_record(self, upload_ids: Sequence[str]) -> Sequence[str]:
        return await self._info.without_record(upload_ids)

    async def clear_away(self, upload_id: str, remove: Callable[[], Awaitable[None]]) -> bool:
        lease = await self._locker.try_acquire(upload_id)
        if lease is None:
            return False
        try:
            if not await self._info.without_record([upload_id]):
                return False
            await remove()
        finally:
            await lease.release()
        return True

    def ids(self) -> AsyncIterator[str]:
        return self._info.ids()
