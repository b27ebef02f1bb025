"""Takes contents into a repository, several at once and with several threads.

    the caller's thread   reads windows of the content and finds the cuts in them; makes leaves of what is stored
    a thread per content  SHA-256 and BLAKE3 of the whole, window by window
    a pool                per window: names, looks up, compresses, writes and commits the chunks

Windows bound how far these get apart, and memory. Cutting, hashing and compressing are done by at most `threads` threads at
once; the others wait for the disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from threading import Semaphore

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.ingest.committing import Committer
from tusd_py_cas.ingest.digests import BothHashes
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.ingest.pace import Pace
from tusd_py_cas.ingest.source import Source
from tusd_py_cas.ingest.storing import ATTEMPTS, Storing
from tusd_py_cas.ingest.taking import Cancelled, IsCancelled, Shared, Taking, never
from tusd_py_cas.ingest.threads import started_pool
from tusd_py_cas.ingest.windows import Buffers
from tusd_py_cas.model import ChunksMissing, Manifest
from tusd_py_cas.options import DEFAULT_LEVEL
from tusd_py_cas.reading import Reader
from tusd_py_cas.repository import Repository

__all__ = ["Cancelled", "Engine"]

_log = logging.getLogger("tusd_py.cas")


class Engine:
    """May be used by several threads at once. All methods block.

    They raise `OutOfSpace`, `ReadOnlyStorage`, `StorageFailure` and `RepositoryError`. What has been stored until then is found
    stored by the next attempt, or collected if there is none.
    """

    def __init__(self, repository: Repository, *, level: int = DEFAULT_LEVEL, threads: int | None = None) -> None:
        """`level` is zstd's, 1 to 19; `threads` without a number is one per processor that this process may use. Raises
        `StorageFailure` where no threads can be started."""
        threads = threads or len(os.sched_getaffinity(0))
        self._repository = repository
        self._processor = Semaphore(threads)
        buffers = Buffers(repository.parameters.max_size)
        self._pool = started_pool(buffers.count, "storing")
        committer = Committer(repository)
        storing = Storing(repository, committer, level, self._processor, threads)
        self.pace = Pace()
        self._shared = Shared(repository, buffers, storing, committer, self._pool, self._processor, self.pace)

    def ingest(
        self, segments: Sequence[Segment], is_cancelled: IsCancelled = never, progress: Callable[[int], None] | None = None
    ) -> Ingested:
        """Store the content that the segments make up. Durable on return, but a collector may take it if no version comes.
        `is_cancelled` is asked now and then; where it says so, `Cancelled` is raised. `progress` is told in this thread up to
        which byte it has been read; if it has to be begun again, from the beginning."""
        for number in range(ATTEMPTS):
            try:
                return Taking(self._shared, Source(segments), is_cancelled, predict=number == 0).run(progress)
            except ChunksMissing as missing:
                _log.info("chunks were collected while content was taken in", extra={"fields": {"count": len(missing.names)}})
        raise StorageFailure(f"chunks were collected {ATTEMPTS} times while content was taken in: give collection more grace")

    def digest(self, manifest: Manifest, is_cancelled: IsCancelled = never) -> tuple[bytes, bytes]:
        """BLAKE3 and SHA-256 of a content that is stored, by reading it. Raises `ChunkDamaged` and `IndexDamaged`, too."""
        hashes = BothHashes()
        for data in Reader(self._repository, manifest).iter_bytes():
            self.pace.wait(len(data), is_cancelled)
            if is_cancelled():
                raise Cancelled
            with self._processor:
                hashes.update(data)
        return hashes.digests()

    def close(self) -> None:
        """End the threads; nothing else may be under way. Idempotent. The repository stays open."""
        self._pool.shutdown()
