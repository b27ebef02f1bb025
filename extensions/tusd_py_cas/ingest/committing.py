"""Making chunks and contents count, for several threads at once: many small contents cost as few transactions as one."""

from __future__ import annotations

from collections.abc import Sequence

from tusd_py_cas.index import NewContent
from tusd_py_cas.ingest.together import Together
from tusd_py_cas.model import Manifest, StoredChunk
from tusd_py_cas.repository import Repository

__all__ = ["Committer"]


class Committer:
    """For all threads of a process."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._chunks = Together(self._commit_chunks)
        self._contents = Together(repository.index.add_contents)

    def commit(self, chunks: Sequence[StoredChunk]) -> frozenset[bytes]:
        """Make chunks count whose files have been written. Returns the names of those that a collector took in between, which
        are to be written again. Raises `OutOfSpace`, `StorageFailure`: then none of them may count."""
        return self._chunks.ask(chunks)

    def add(self, content: NewContent) -> Manifest:
        """Raises `ChunksMissing`, `OutOfSpace`, `StorageFailure`, `IndexDamaged`."""
        return self._contents.ask(content)

    def _commit_chunks(self, batches: Sequence[Sequence[StoredChunk]]) -> list[frozenset[bytes] | BaseException]:
        chunks = {chunk.name: chunk for batch in batches for chunk in batch}
        self._repository.chunks.sync_directories(chunks)
        again = self._repository.index.add_chunks(list(chunks.values()), self._repository.chunks.exists)
        missing = frozenset(chunk.name for chunk in again)
        return [missing & {chunk.name for chunk in batch} for batch in batches]
