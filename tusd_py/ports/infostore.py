"""Where the records of uploads are. Its committed offset is the truth about how much of an upload there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from tusd_py.protocol.upload import Upload

__all__ = ["InfoStore"]


class InfoStore(Protocol):
    """Records by id. An upload's record is there as a whole, old or new, whatever happens. `create` comes before the place for
    the bytes: until both are there, there is no such upload."""

    def place(self, upload_id: str) -> Mapping[str, str]:
        """What `Upload.storage` says of where the record is, for those who are told about an upload. Makes nothing."""

    async def create(self, upload: Upload) -> None:
        """Add a record. Raises `UploadExists`, `OutOfSpace`, `StorageFailure`; then there is no new record."""

    async def load(self, upload_id: str) -> Upload:
        """The record, with the committed offset. Raises `UploadNotFound`, `RecordDamaged`, `StorageFailure`."""

    async def replace(self, upload: Upload, *, synced: bool = False) -> None:
        """Put a new record in the place of the old one. Raises `OutOfSpace`, `StorageFailure`; then the old one stands.

        With `synced`, the bytes up to `upload.offset` are known to survive a power cut, and the committed offset never goes
        back behind it; without, what was said of that before still stands.
        """

    async def commit_offset(self, upload: Upload) -> None:
        """Record that the bytes up to `upload.offset` are in the store. Called after the bytes, never before.

        A store that derives the offset from the bytes themselves (tusd's directory) has nothing to do. Such a store does not
        count the bytes of a commit that has begun and not ended, and after a power cut those that may not be what was sent.
        """

    async def sync(self, upload: Upload) -> None:
        """Return once the record would survive a power cut. Concurrent calls share work. Raises `StorageFailure`."""

    async def remove(self, upload_id: str, *, tombstone: bool = False, durable: bool = False) -> None:
        """Remove the record; nothing to remove is no failure. With `tombstone`, remember for a while that it was there; with
        `durable`, no power cut brings it back. Raises `StorageFailure`."""

    async def without_record(self, upload_ids: Sequence[str]) -> Sequence[str]:
        """Those of which there is certainly no record, nor a damaged one. Raises `StorageFailure` where that can't be told."""

    async def is_gone(self, upload_id: str) -> bool:
        """Whether a tombstone says that this upload was there once: 410 rather than 404 (X06)."""

    async def expect(self, final: Upload) -> None:
        """Remember, for each of the partials of `final`, that it waits for them (concatenation-unfinished). Idempotent.

        Kept apart from the partials' records, which a running request may be about to replace. Raises `StorageFailure`.
        """

    async def expected_by(self, partial_id: str) -> tuple[str, ...]:
        """Ids of the finals that wait for this partial. Cheap where there are none."""

    async def unexpect(self, final: Upload) -> None:
        """Forget what `expect` remembered. Idempotent."""

    async def waiting_finals(self) -> tuple[str, ...]:
        """Ids of all finals that wait for some partial; what a restart has to look at."""

    def ids(self) -> AsyncIterator[str]:
        """Ids of all records, in no order; those that come or go meanwhile may or may not be among them."""

    async def tidy(self) -> None:
        """Drop what crashes have left behind and tombstones that are old enough. Called at start and every hour."""
