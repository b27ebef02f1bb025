"""Records in memory: for tests and for embedding. Keeps every promise of the port but survival."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.failures import UploadExists, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["MemoryInfoStore"]


class MemoryInfoStore:
    """An `InfoStore` in memory. Tombstones stay."""

    def __init__(self, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._records: dict[str, Upload] = {}
        self._tombstones: set[str] = set()
        self._waiting: dict[str, dict[str, None]] = {}  # partial -> finals, in the order they came

    def __repr__(self) -> str:
        return f"<MemoryInfoStore {len(self._records)} records>"

    def place(self, upload_id: str) -> Mapping[str, str]:
        return {}

    async def create(self, upload: Upload) -> None:
        if upload.id in self._records:
            raise UploadExists(f"there is a record of {upload.id!r} already")
        self._put(upload)

    async def load(self, upload_id: str) -> Upload:
        try:
            return self._records[upload_id]
        except KeyError:
            raise UploadNotFound(f"no record of {upload_id!r}") from None

    async def replace(self, upload: Upload, *, synced: bool = False) -> None:
        self._put(upload)

    async def commit_offset(self, upload: Upload) -> None:
        self._put((await self.load(upload.id)).evolve(offset=upload.offset))

    def _put(self, upload: Upload) -> None:
        self._records[upload.id] = upload.evolve(active_at=self._clock())

    async def sync(self, upload: Upload) -> None:
        """Nothing here survives anything."""

    async def remove(self, upload_id: str, *, tombstone: bool = False, durable: bool = False) -> None:
        self._records.pop(upload_id, None)
        if tombstone:
            self._tombstones.add(upload_id)

    async def without_record(self, upload_ids: Sequence[str]) -> Sequence[str]:
        return [upload_id for upload_id in upload_ids if upload_id not in self._records]

    async def is_gone(self, upload_id: str) -> bool:
        return upload_id in self._tombstones

    async def expect(self, final: Upload) -> None:
        for partial_id in final.partials or ():
            self._waiting.setdefault(partial_id, {})[final.id] = None

    async def expected_by(self, partial_id: str) -> tuple[str, ...]:
        return tuple(self._waiting.get(partial_id, ()))

    async def unexpect(self, final: Upload) -> None:
        for partial_id in final.partials or ():
            finals = self._waiting.get(partial_id, {})
            finals.pop(final.id, None)
            if not finals:
                self._waiting.pop(partial_id, None)

    async def waiting_finals(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(final_id for finals in self._waiting.values() for final_id in finals))

    async def ids(self) -> AsyncIterator[str]:
        for upload_id in list(self._records):
            yield upload_id

    async def tidy(self) -> None:
        """No crash leaves anything behind here."""
