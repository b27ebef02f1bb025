"""Counting chunks as stored for several threads at once: those that ask while others are served share the next time.

A transaction that waits for the disk costs the same for one chunk and for a thousand, so many small contents at once are as
cheap as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from tusd_py_cas.model import StoredChunk
from tusd_py_cas.repository import Repository

__all__ = ["Committer"]


class _Request:
    __slots__ = ("chunks", "done", "error", "missing")

    def __init__(self, chunks: Sequence[StoredChunk]) -> None:
        self.chunks = chunks
        self.done = False
        self.error: BaseException | None = None
        self.missing: frozenset[bytes] = frozenset()


class Committer:
    """For all threads of a process."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._lock = Lock()  # guards the list
        self._waiting: list[_Request] = []
        self._turn = Lock()  # held by whoever serves those in the list

    def commit(self, chunks: Sequence[StoredChunk]) -> frozenset[bytes]:
        """Make chunks count whose files have been written. Returns the names of those that a collector took in between, which
        are to be written again. Raises `OutOfSpace`, `StorageFailure`: then none of them may count."""
        request = _Request(chunks)
        with self._lock:
            self._waiting.append(request)
        with self._turn:
            if not request.done:
                with self._lock:
                    requests, self._waiting = self._waiting, []
                self._serve(requests)
        if request.error is not None:
            raise request.error
        return request.missing

    def _serve(self, requests: Sequence[_Request]) -> None:
        chunks = {chunk.name: chunk for request in requests for chunk in request.chunks}
        missing: frozenset[bytes] = frozenset()
        error: BaseException | None = None
        try:
            self._repository.chunks.sync_directories(chunks)
            again = self._repository.index.add_chunks(list(chunks.values()), self._repository.chunks.exists)
            missing = frozenset(chunk.name for chunk in again)
        except BaseException as failure:  # of whatever kind: each `commit` raises it
            error = failure
        for request in requests:
            request.missing, request.error = missing & {chunk.name for chunk in request.chunks}, error
            request.done = True
