"""What metrics show of the extension."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from tusd_py.ports.failures import StorageFailure
from tusd_py.ports.readings import Reading
from tusd_py_cas.index import Totals
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.queue import IntakeQueue

__all__ = ["TotalsKept", "readings"]

_log = logging.getLogger("tusd_py.cas")

FRESH = 60.0
"""Seconds that totals count as new: to add them up takes a second for some millions of chunks."""


class TotalsKept:
    """The index's totals as they were not long ago. Who asks gets what is there, and has newer ones added up."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access, self._clock = access, clock
        self._totals = Totals()
        self._asked_at = float("-inf")
        self.adding: asyncio.Task[None] | None = None

    def __call__(self) -> Totals:
        if self._clock() - self._asked_at >= FRESH and (self.adding is None or self.adding.done()):
            self._asked_at = self._clock()
            self.adding = asyncio.get_running_loop().create_task(self._add())
        return self._totals

    async def _add(self) -> None:
        index = self._access.repository.index
        try:
            self._totals = await self._access.look(index.totals)
        except StorageFailure as failure:
            _log.warning("the totals of the repository can't be told", extra={"fields": {"error": str(failure)}})

    async def close(self) -> None:
        """Idempotent."""
        if self.adding is not None:
            self.adding.cancel()
            await asyncio.gather(self.adding, return_exceptions=True)


def readings(counts: Counts, totals: Callable[[], Totals], queue: IntakeQueue) -> Sequence[Reading]:
    """Counters and the queue are of this process; the totals are the same for all."""

    def counter(name: str, help: str, read: Callable[[], float]) -> Reading:
        return Reading(name=f"tusd_py_cas_{name}_total", help=help, read=read, kind="counter")

    def total(name: str, help: str, read: Callable[[], float]) -> Reading:
        return Reading(name=f"tusd_py_cas_{name}", help=help, read=read, across="max")

    return (
        Reading(
            name="tusd_py_cas_queue",
            help="Finished uploads that have still to be taken in.",
            read=lambda: queue.depth,
        ),
        total("queue_oldest_seconds", "How long the first of them has been waiting.", lambda: queue.age),
        counter("ingested", "Uploads that were taken in.", lambda: counts.ingested),
        counter("ingest_failures", "Attempts to take an upload in that failed.", lambda: counts.failures),
        counter("bytes_in", "Bytes of uploads that were taken in.", lambda: counts.bytes_in),
        counter("bytes_deduplicated", "Bytes of them that were stored already.", lambda: counts.bytes_deduplicated),
        counter("bytes_stored", "Bytes written to disk for the others.", lambda: counts.bytes_stored),
        counter("damaged_chunks", "Times that a chunk was found damaged when it was to be served.", lambda: counts.damaged),
        counter("gc_freed_bytes", "Bytes on disk that collecting has freed.", lambda: counts.freed),
        total("raw_files_waiting", "Uploads whose own files are to go and can't yet.", lambda: counts.waiting),
        total("chunks", "Chunks that are stored.", lambda: totals().chunks),
        total("logical_bytes", "Bytes that all versions have together.", lambda: totals().logical),
        total("unique_bytes", "Bytes of their chunks, each once.", lambda: totals().unique),
        total("stored_bytes", "Bytes on disk of these chunks.", lambda: totals().stored),
    )
