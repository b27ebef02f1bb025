"""The records of uploads as they count at this moment, and the locks on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from tusd_py.ports.failures import LockTimeout, RecordDamaged, StorageFailure, UploadNotFound
from tusd_py.ports.locker import Lease
from tusd_py.protocol.refusals import LockTimedOut, UploadDamaged, UploadFailed, UploadGone, UploadMissing
from tusd_py.protocol.rules import is_expired
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.assembling import Assembler
from tusd_py.uploads.finishing import Finisher
from tusd_py.uploads.parts import Parts

__all__ = ["Records", "check_failure"]

_log = logging.getLogger("tusd_py.uploads")


class Records:
    """Looks records up. `lock_timeout` in seconds bounds the wait for a lock."""

    def __init__(self, parts: Parts, finisher: Finisher, assembler: Assembler, lock_timeout: float) -> None:
        self._info, self._locker, self._finisher, self._assembler = parts.info, parts.locker, finisher, assembler
        self._policy, self._clock, self._observer = parts.policy, parts.clock, parts.observer
        self._lock_timeout = lock_timeout

    async def load(self, upload_id: str) -> Upload:
        """The record of an upload that is still alive. Raises `UploadMissing`, `UploadGone`, `UploadDamaged`."""
        try:
            upload = await self.stored(upload_id)
        except UploadNotFound:
            raise (UploadGone if await self._info.is_gone(upload_id) else UploadMissing) from None
        except RecordDamaged as damage:
            _log.error("a record can't be read: %s", damage, extra={"fields": {"id": upload_id}})
            raise UploadDamaged from None
        if upload.is_final and not upload.finished:
            upload = await self._look_at_final(upload)
        if is_expired(upload, self._policy, self._clock()):
            raise UploadGone
        return upload

    async def stored(self, upload_id: str) -> Upload:
        """The record as it is stored, expired or not. Raises `UploadNotFound`, `RecordDamaged`."""
        return self._finisher.seen(await self._info.load(upload_id))

    async def has(self, upload_id: str) -> bool:
        """Whether there is a record, whatever is the matter with it."""
        try:
            await self._info.load(upload_id)
        except UploadNotFound:
            return False
        except StorageFailure:
            return True
        return True

    async def lock(self, upload_id: str, on_release_request: Callable[[], None]) -> Lease:
        """The lock of an upload, which its present holder is asked for. Raises `LockTimedOut`."""
        started = perf_counter()
        try:
            lease = await self._locker.acquire(upload_id, on_release_request, self._lock_timeout)
            self._observer.took_over(perf_counter() - started)
            return lease
        except LockTimeout:
            raise LockTimedOut from None

    async def keep_going(self, final_id: str) -> None:
        """See to a final upload that may be due."""
        with suppress(StorageFailure):  # logged, and tried again later
            await self._assembler.settle(final_id, wait=0)

    async def _look_at_final(self, upload: Upload) -> Upload:
        """A final that is not put together: keep that going, and see it as it was promised."""
        await self.keep_going(upload.id)
        return await self._assembler.as_promised(upload)


def check_failure(upload: Upload) -> None:
    """Raises `UploadFailed` for what can never be finished."""
    if upload.failure is not None:
        what = "the final upload" if upload.is_final else "the upload"
        raise UploadFailed(f"{what} can't be finished: {upload.failure}")
