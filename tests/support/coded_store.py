"""Uploads in memory that know what content-addressed storage knows of them: digests, names by content, and a zstd form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import zstandard

from tusd_py.datastore.memory import MemoryStore
from tusd_py.ports.datastore import Content, PlainContent
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["AT_ONCE", "MODIFIED", "CodedContent", "CodedStore", "compressed"]

MODIFIED = 1_700_000_000.5
AT_ONCE = 100_003
"""Bytes that a read gives at most, however many are asked for, as one from chunks does."""


def compressed(data: bytes) -> bytes:
    """`data` as one frame of zstd, the same each time."""
    return zstandard.ZstdCompressor(level=3).compress(data)


class CodedContent(PlainContent):
    """`data`, with a zstd form. Whatever is read at `broken_at` or beyond is a failure."""

    modified = MODIFIED

    def __init__(self, data: bytes, *, broken_at: int | None = None, coding: str = "") -> None:
        self.data, self.broken_at, self._coding = data, broken_at, coding
        self.size = len(data)
        self.version = hashlib.blake2b(data, digest_size=32).hexdigest() + coding
        self.reads = self.closed = 0

    @property
    def digests(self) -> Mapping[str, bytes]:
        return {} if self._coding else {"sha-256": hashlib.sha256(self.data).digest()}

    @property
    def is_named_by_content(self) -> bool:
        return True

    @property
    def encodings(self) -> Mapping[str, Content]:
        coded = compressed(self.data)
        if self._coding or len(coded) >= self.size:
            return {}
        return {"zstd": CodedContent(coded, broken_at=self.broken_at, coding="-zstd")}

    def extents(self, offset: int, count: int) -> None:
        return None

    async def read(self, offset: int, count: int) -> bytes:
        assert not self.closed, "it is open while somebody reads"
        self.reads += 1
        if self.broken_at is not None and offset + count > self.broken_at:
            count = self.broken_at - offset
            if count <= 0:
                raise StorageFailure(f"the chunk at {offset} is damaged")
        return self.data[offset : offset + min(count, AT_ONCE)]

    async def close(self) -> None:
        self.closed += 1


class CodedStore(MemoryStore):
    """A store whose uploads are opened as `CodedContent`, broken at `broken_at`; none can be opened while `shut`."""

    def __init__(self, *, broken_at: int | None = None) -> None:
        super().__init__()
        self.broken_at = broken_at
        self.shut = False
        self.opened: list[CodedContent] = []

    async def open_content(self, upload: Upload) -> CodedContent:  # type: ignore[override]
        if self.shut:
            raise StorageFailure("the index can't be read")
        found = self._uploads.get(upload.id)
        if found is None:
            raise UploadNotFound(f"no bytes of {upload.id!r}")
        self.opened.append(CodedContent(bytes(found.data), broken_at=self.broken_at))
        return self.opened[-1]
