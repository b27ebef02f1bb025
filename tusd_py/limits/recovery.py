"""Making the account true after a crash: the records say which uploads there are. Runs beside serving, in any process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from tusd_py.limits.entries import Entry
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["GRACE", "Account", "Records", "drop_gone", "restore_all"]

_log = logging.getLogger("tusd_py.limits")

GRACE = 600.0
"""Seconds for which an entry without a record is believed: its upload may be about to be created, behind a slow hook."""

BATCH = 256
"""Records in one transaction: enough to make it cheap, few enough for creations to get their turn."""


class Records(Protocol):
    """Where the records are; an `InfoStore` is one."""

    def ids(self) -> AsyncIterator[str]:
        """Ids of all records."""

    async def load(self, upload_id: str) -> Upload:
        """A record. Raises `UploadNotFound`, `StorageFailure`."""


class Account(Protocol):
    """What recovery does to an account. `began` is when the recovery began, by the account's clock."""

    async def restore(self, entries: Sequence[Entry], began: float) -> list[str]:
        """Enter what the records say, unless there is newer; returns the ids that are new in the account."""

    async def unseen(self, began: float, created_before: float, after: str, count: int) -> list[str]:
        """Ids in order, behind `after`, that were created before that time and that no recovery since `began` has found."""

    async def drop(self, upload_ids: Sequence[str]) -> None:
        """Take uploads out of the account."""


async def restore_all(account: Account, records: Records, began: float) -> None:
    """Enter every record there is. Raises `StorageFailure` of the account; a record that can't be read is passed over."""
    batch: list[Entry] = []
    async for upload_id in records.ids():
        await asyncio.sleep(0)  # a directory may be long; requests go first
        try:
            upload = await records.load(upload_id)
        except StorageFailure:  # gone meanwhile, or damaged: what is entered for it stands until it is gone
            continue
        batch.append(Entry.of(upload, upload.active_at))
        if len(batch) == BATCH:
            await _restore(account, records, batch, began)
            batch = []
    await _restore(account, records, batch, began)


async def _restore(account: Account, records: Records, batch: list[Entry], began: float) -> None:
    """An upload that went between reading and entering was forgotten before it was entered: look again."""
    await _drop_missing(account, records, await account.restore(batch, began))


async def drop_gone(account: Account, records: Records, began: float, created_before: float) -> None:
    """Take out what has no record, of what was created before that time. Raises `StorageFailure` of the account."""
    last = ""
    while batch := await account.unseen(began, created_before, last, BATCH):
        last = batch[-1]
        await _drop_missing(account, records, batch)


async def _drop_missing(account: Account, records: Records, upload_ids: Sequence[str]) -> None:
    missing = [upload_id for upload_id in upload_ids if await _is_missing(records, upload_id)]
    if missing:
        await account.drop(missing)
        _log.info("uploads without a record were taken out of the account", extra={"fields": {"count": len(missing)}})


async def _is_missing(records: Records, upload_id: str) -> bool:
    await asyncio.sleep(0)
    try:
        await records.load(upload_id)
    except UploadNotFound:
        return True
    except StorageFailure:
        return False
    return False
