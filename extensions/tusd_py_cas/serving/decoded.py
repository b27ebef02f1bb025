"""Chunks that have been read, verified and decompressed for downloads that are under way.

A chunk is more than one piece of a download, and the next one is read ahead. What is kept is bounded for all downloads
together, however many there are and however slow their clients: beyond that, chunks are read again. Nothing outlives its
download, so that the next one notices damage.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from tusd_py_cas.model import StoredChunk
from tusd_py_cas.reading import read_chunk
from tusd_py_cas.serving.access import Access

__all__ = ["DecodedChunks", "Shelf"]

LIMIT = 64 << 20
"""Bytes that are kept: about 50 chunks of the usual size."""

EACH = 3
"""Chunks that one download has at most."""

AHEAD = 8
"""Chunks that are being read ahead at once for all downloads: more would be no sooner there than with fewer."""

Key = tuple["DecodedChunks", bytes]


class Shelf:
    """What all downloads of an event loop keep together."""

    def __init__(self, access: Access, limit: int = LIMIT) -> None:
        self._access, self._limit = access, limit
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._size = 0
        self._coming: dict[Key, asyncio.Future[bytes]] = {}

    def __repr__(self) -> str:
        return f"<Shelf {len(self._kept)} kept, {self._size} bytes, {len(self._coming)} coming>"

    def find(self, key: Key) -> bytes | None:
        """What is kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    async def fetch(self, key: Key, chunk: StoredChunk) -> bytes:
        """Raises `ChunkDamaged`, `RepositoryError`, `StorageFailure`."""
        return await asyncio.shield(self._coming.get(key) or self._begin(key, chunk))  # it may have been begun ahead

    def foresee(self, key: Key, chunk: StoredChunk) -> None:
        """Somebody is about to want this chunk. What goes wrong is told to whom it may concern then."""
        if key not in self._kept and key not in self._coming and len(self._coming) < AHEAD:
            self._begin(key, chunk)

    def drop(self, key: Key) -> None:
        """Nobody is going to want it."""
        self._size -= len(self._kept.pop(key, b""))

    def _begin(self, key: Key, chunk: StoredChunk) -> asyncio.Future[bytes]:
        repository = self._access.repository
        coming = self._coming[key] = self._access.begin(lambda: read_chunk(repository, chunk))
        coming.add_done_callback(lambda done: self._come(key, done))
        return coming

    def _come(self, key: Key, done: asyncio.Future[bytes]) -> None:
        del self._coming[key]
        if done.cancelled() or done.exception() is not None or not key[0].wants(key[1]):
            return
        data = self._kept[key] = done.result()
        self._size += len(data)
        while self._size > self._limit:
            self._size -= len(self._kept.popitem(last=False)[1])


class DecodedChunks:
    """Those of one download."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._names: OrderedDict[bytes, None] = OrderedDict()

    def wants(self, name: bytes) -> bool:
        """Whether this chunk is still of use."""
        return name in self._names

    async def get(self, chunk: StoredChunk) -> bytes:
        """The chunk's bytes. Raises `ChunkDamaged`, `RepositoryError`, `StorageFailure`."""
        self._remember(chunk.name)
        kept = self._shelf.find((self, chunk.name))
        return await self._shelf.fetch((self, chunk.name), chunk) if kept is None else kept

    def foresee(self, chunk: StoredChunk) -> None:
        """This chunk is going to be wanted next."""
        self._remember(chunk.name)
        self._shelf.foresee((self, chunk.name), chunk)

    def close(self) -> None:
        """Let go of all. Idempotent."""
        while self._names:
            self._forget()

    def _remember(self, name: bytes) -> None:
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > EACH:
            self._forget()

    def _forget(self) -> None:
        name, _ = self._names.popitem(last=False)
        self._shelf.drop((self, name))
