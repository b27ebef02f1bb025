"""Chunks that have been read, verified and decompressed, for all downloads together.

A chunk is some five pieces of a download, and clients that look around in a video come back to the same chunks. What is kept
is bounded for all downloads together, however many there are and however slow: beyond that, chunks are read again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from tusd_py_cas.model import StoredChunk
from tusd_py_cas.reading import read_chunk
from tusd_py_cas.serving.access import Access

__all__ = ["DecodedChunks"]

LIMIT = 64 << 20
"""Bytes that are kept: about 50 chunks of the usual size."""

AHEAD = 8
"""Chunks that are being read at once before somebody asked for them: more would be no sooner there than with fewer."""


class DecodedChunks:
    """By name, which says all about the bytes. Belongs to an event loop."""

    def __init__(self, access: Access, limit: int = LIMIT) -> None:
        self._access, self._limit = access, limit
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._coming: dict[bytes, asyncio.Future[bytes]] = {}

    def __repr__(self) -> str:
        return f"<DecodedChunks {len(self._kept)} kept, {self._size} bytes, {len(self._coming)} coming>"

    async def get(self, chunk: StoredChunk) -> bytes:
        """The chunk's bytes. Raises `ChunkDamaged`, `RepositoryError`, `StorageFailure`."""
        kept = self._kept.get(chunk.name)
        if kept is not None:
            self._kept.move_to_end(chunk.name)
            return kept
        return await asyncio.shield(self._coming.get(chunk.name) or self._begin(chunk))  # others may wait for it too

    def foresee(self, chunk: StoredChunk) -> None:
        """Somebody is about to want this chunk. What goes wrong is told to whom it may concern then."""
        if chunk.name not in self._kept and chunk.name not in self._coming and len(self._coming) < AHEAD:
            self._begin(chunk)

    def _begin(self, chunk: StoredChunk) -> asyncio.Future[bytes]:
        repository = self._access.repository
        coming = self._access.begin(lambda: read_chunk(repository, chunk))
        self._coming[chunk.name] = coming
        coming.add_done_callback(lambda done: self._come(chunk.name, done))
        return coming

    def _come(self, name: bytes, done: asyncio.Future[bytes]) -> None:
        self._coming.pop(name, None)
        if done.cancelled() or done.exception() is not None:
            return
        data = done.result()
        self._kept[name] = data
        self._size += len(data)
        while self._size > self._limit:
            self._size -= len(self._kept.popitem(last=False)[1])
