"""Storing the chunks of a window, those that are not stored yet.

Threads may come with the same new chunk at the same time, of one content or of several: one of them stores it, the others wait
until it has. Nobody waits who has not stored all that others may be waiting for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import LifoQueue
from threading import Lock

from blake3 import blake3

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.codec import Compressor, memory_of_compressor
from tusd_py_cas.ingest.committing import Committer
from tusd_py_cas.ingest.cutting import Cut
from tusd_py_cas.model import ChunkRef, StoredChunk
from tusd_py_cas.repository import Repository

__all__ = ["ATTEMPTS", "Stored", "Storing"]

ATTEMPTS = 5
"""How often a chunk is stored, or a content begun, in a row, if a collector takes away each time what nothing refers to yet.
With a grace period of more than moments this does not even happen once."""

COMPRESSORS = 72 << 20
"""Bytes that compressors may take together. At the highest levels each takes tens of MB, so there are fewer of them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The chunks of a window in order, all stored; and of those that were not before, their count, bytes, and bytes on disk."""

    chunks: Sequence[ChunkRef]
    new: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0


class Storing:
    """For all threads of a process. `processor` is held while hashing and compressing, by at most `threads` at once."""

    def __init__(
        self,
        repository: Repository,
        committer: Committer,
        level: int,
        processor: AbstractContextManager[object],
        threads: int,
    ) -> None:
        self._repository = repository
        self._committer = committer
        self._processor = processor
        self._compressors: LifoQueue[Compressor] = LifoQueue()  # the one that was used last has its memory already
        for _ in range(min(threads, max(1, COMPRESSORS // memory_of_compressor(level, repository.parameters.max_size)))):
            self._compressors.put(Compressor(level))
        self._lock = Lock()
        self._under_way: dict[bytes, Future[None]] = {}  # chunks that somebody is storing

    def store(self, window: memoryview, cuts: Sequence[Cut]) -> Stored:
        """Store the chunks of a window. Raises `OutOfSpace`, `StorageFailure`."""
        chunks, views = self._name(window, cuts)
        known = self._find_known(views)
        mine, others = self._claim(name for name in views if name not in known)
        try:
            stored = self._store({name: views[name] for name in mine})
        except BaseException as error:
            self._settle(mine, error)
            raise
        self._settle(mine, None)
        for other in others:
            other.result()
        size = sum(len(views[name]) for name in mine)
        return Stored(chunks, len(mine), size, sum(chunk.stored_size for chunk in stored))

    def _find_known(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """Those that are stored, as the index says and the directory bears out: the file that this content has now may be
        about to be given up, and would be the last to have what a disk has lost."""
        found = self._repository.index.find_chunks(list(names))
        lost = [chunk for chunk in found.values() if not self._repository.chunks.exists(chunk)]
        for chunk in lost:
            self._repository.damaged(chunk)
        return frozenset(found) - {chunk.name for chunk in lost}

    def _name(self, window: memoryview, cuts: Sequence[Cut]) -> tuple[list[ChunkRef], dict[bytes, memoryview]]:
        chunks, views = [], {}
        with self._processor:
            for cut in cuts:
                view = window[cut.start : cut.end]
                name = cut.name or blake3(view).digest()
                views[name] = view
                chunks.append(ChunkRef(name, cut.size))
        return chunks, views

    def _claim(self, names: Iterable[bytes]) -> tuple[list[bytes], list[Future[None]]]:
        """Those that nobody is storing, which is up to us now, and the others' futures."""
        mine, others = [], []
        with self._lock:
            for name in names:
                if (future := self._under_way.get(name)) is None:
                    self._under_way[name] = Future()
                    mine.append(name)
                else:
                    others.append(future)
        return mine, others

    def _settle(self, names: Iterable[bytes], error: BaseException | None) -> None:
        with self._lock:
            futures = [self._under_way.pop(name) for name in names]
        for future in futures:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _store(self, views: Mapping[bytes, memoryview]) -> list[StoredChunk]:
        chunks: dict[bytes, StoredChunk] = {}
        missing = frozenset(views)
        for _ in range(ATTEMPTS):
            if not missing:
                break
            chunks |= {name: self._write(name, views[name]) for name in missing}
            missing = self._committer.commit([chunks[name] for name in missing])
        if missing:
            raise StorageFailure(
                f"chunks were collected {ATTEMPTS} times as soon as they were stored: give collection more grace"
            )
        return list(chunks.values())

    def _write(self, name: bytes, view: memoryview) -> StoredChunk:
        with self._processor:
            compressor = self._compressors.get()
            try:
                codec, data = compressor.encode(view)
            finally:
                self._compressors.put(compressor)
        self._repository.chunks.write(name, codec, data)
        return StoredChunk(name, len(view), len(data), codec)
