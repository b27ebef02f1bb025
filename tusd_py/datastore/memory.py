"""Bytes in memory: for tests and for embedding. Keeps every promise of the port but survival."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import count

from tusd_py.ports.datastore import PlainContent
from tusd_py.ports.failures import StorageFailure, UploadExists, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["MemoryContent", "MemoryStore", "MemoryWriter"]


class _Bytes:
    """The bytes of one upload, and when and for the how-manieth time they changed."""

    __slots__ = ("data", "modified", "version")

    _versions = count(1)

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.changed()

    def changed(self) -> None:
        self.modified = time.time()
        self.version = next(self._versions)


class MemoryWriter:
    """A `Writer`; the unverified kind keeps its bytes to itself until `commit`."""

    def __init__(self, target: _Bytes, start: int, *, verified: bool) -> None:
        self._target, self._start = target, start
        self._pending: bytearray | None = None if verified else bytearray()
        self.position = start

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        if self._pending is None:
            self._put(data)
        else:
            self._pending += data
            self.position += len(data)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        end = self.position + len(data)
        self._target.data[self.position : end] = data
        self._target.changed()
        self.position = end

    async def commit(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self.position = self._start
            self._put(pending)

    async def sync(self) -> None:
        """Nothing here survives anything."""

    async def rollback(self) -> None:
        if len(self._target.data) > self._start:
            del self._target.data[self._start :]
            self._target.changed()
        self.position = self._start
        self._drop()

    async def close(self) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._pending is not None:
            self._pending = bytearray()


class MemoryContent(PlainContent):
    """A copy of the bytes as they were at opening."""

    def __init__(self, source: _Bytes) -> None:
        self._data = bytes(source.data)
        self.size = len(self._data)
        self.modified = source.modified
        self.version = f"{source.version:x}-{self.size:x}"

    def extents(self, offset: int, count: int) -> None:
        return None

    async def read(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]

    async def close(self) -> None:
        self._data = b""


class MemoryStore:
    """A `DataStore` in memory."""

    def __init__(self) -> None:
        self._uploads: dict[str, _Bytes] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._uploads)} uploads>"

    def place(self, upload_id: str, path: str | None = None) -> Mapping[str, str]:
        if path is not None:
            raise StorageFailure(f"{path!r}: bytes in memory have no path")
        return {"Type": "memory"}

    async def create(self, upload: Upload, *, verified: bool = True, fresh: bool = False) -> MemoryWriter:
        if upload.id in self._uploads:
            raise UploadExists(f"{upload.id!r} is there already")
        target = self._uploads[upload.id] = _Bytes()
        return MemoryWriter(target, 0, verified=verified)

    async def open_writer(self, upload: Upload, *, verified: bool = True) -> MemoryWriter:
        target = self._find(upload)
        if len(target.data) < upload.offset:
            raise StorageFailure(f"{upload.id!r} has {len(target.data)} bytes, its record says {upload.offset}")
        del target.data[upload.offset :]
        return MemoryWriter(target, upload.offset, verified=verified)

    async def open_content(self, upload: Upload) -> MemoryContent:
        return MemoryContent(self._find(upload))

    async def concatenate(self, final: Upload, partials: Sequence[Upload], *, durable: bool = True) -> None:
        parts = [bytes(self._find(partial).data[: partial.offset]) for partial in partials]
        for partial, part in zip(partials, parts, strict=True):
            if len(part) < partial.offset:
                raise StorageFailure(f"{partial.id!r} has {len(part)} bytes, its record says {partial.offset}")
        self._find(final)
        self._uploads[final.id] = _Bytes(b"".join(parts))

    async def sync(self, upload: Upload) -> None:
        """Nothing here survives anything."""

    async def remove(self, upload: Upload) -> None:
        self._uploads.pop(upload.id, None)

    def _find(self, upload: Upload) -> _Bytes:
        try:
            return self._uploads[upload.id]
        except KeyError:
            raise UploadNotFound(f"no bytes of {upload.id!r}") from None
