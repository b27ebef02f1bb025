"""Watching uploads: one sampler for all watchers of a process.

Sampling runs while somebody watches. Uploads of an owner that other processes receive are found by reading all records again
and again, at most a tenth of the time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace

from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.refusals import ServerShutdown, TooManyStreams, UploadDamaged, UploadGone, UploadMissing
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.progress import Progress, ProgressSource, State, of_record, of_running, terminated
from tusd_py.uploads.watches import One, Subject, Watch, subjects_of

__all__ = ["Watchers"]

_log = logging.getLogger("tusd_py.uploads")

MAX_WATCHES = 1000
"""Watchers of one process. Each costs a connection, and mostly one look at a record in every interval."""

MAX_FOLLOWED = 10_000
"""Unfinished uploads whose last state is remembered, a few hundred bytes each; changes of more are not told."""

MAX_DISMISSED = 100_000
"""Ids of records that need not be read again; more are read again at every look through all records."""

IN_ONE_GO = 50
"""Records read on the event loop before requests get their turn."""

MIN_INTERVAL = 0.1
SCAN_INTERVALS = 2
SCAN_SHARE = 0.1
"""Looks through all records are at least two intervals apart, and take this share of the time at most."""

SMOOTHING = 5.0
"""Seconds over which the rate is smoothed."""


class Watchers:
    """All watches of a process. `interval` is seconds between two samples.

    `stopping` is asked at every sample whether the server is about to stop and waits for the watchers to leave.
    """

    def __init__(
        self,
        source: ProgressSource,
        interval: float,
        *,
        clock: Clock = system_clock,
        stopping: Callable[[], bool] = lambda: False,
        limit: int = MAX_WATCHES,
    ) -> None:
        self._source, self._clock, self._stopping, self._limit = source, clock, stopping, limit
        self._interval = max(interval, MIN_INTERVAL)
        self._watches: dict[Subject, dict[Watch, None]] = {}
        self._count = 0
        self._followed: dict[str, Progress] = {}
        self._rates: dict[str, tuple[float, int, float]] = {}
        self._ended: dict[str, None] = {}  # in the order in which they were noticed
        self._unwatched: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._rescan = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Watchers watches={self._count} followed={len(self._followed)}>"

    def open(self, subject: Subject, known: Progress | None = None) -> Watch:
        """A watch, to be ended by `close`; it begins with what is known. Raises `ServerShutdown`, `TooManyStreams`."""
        if self._closed:
            raise ServerShutdown
        if self._count >= self._limit:
            raise TooManyStreams(headers={"Retry-After": "5"})
        watch = Watch(subject, self._clock())
        self._watches.setdefault(subject, {})[watch] = None
        self._count += 1
        if known is not None:
            watch.put(known)
            if not known.ended:
                self._followed.setdefault(known.upload.id, known)
        if not isinstance(subject, One):
            for progress in self._followed.values():
                if subject in subjects_of(progress.upload):
                    watch.put(progress)
            self._unwatched.clear()
            self._rescan.set()
        self._start()
        return watch

    def close(self, watch: Watch) -> None:
        """The watcher has left. Idempotent."""
        watch.close()
        watches = self._watches.get(watch.subject)
        if watches is None or watch not in watches:
            return
        del watches[watch]
        self._count -= 1
        if not watches:
            del self._watches[watch.subject]
        if not self._count:
            self._stop()

    def shutdown(self) -> None:
        """End all watches, and refuse new ones. Idempotent."""
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.close()
        self._stop()

    # Tasks

    def _start(self) -> None:
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._sample_on(), name="tusd-py progress"),
                loop.create_task(self._scan_on(), name="tusd-py progress of others"),
            ]

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        for memory in (self._followed, self._rates, self._ended, self._unwatched):
            memory.clear()

    async def _sample_on(self) -> None:
        while not self._stopping():
            try:
                await self.sample()
            except Exception:  # whatever it was, the next sample may go better
                _log.exception("progress could not be sampled")
            await asyncio.sleep(self._interval)
        self.shutdown()

    async def _scan_on(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                if any(not isinstance(subject, One) for subject in self._watches):
                    await self.scan()
            except Exception:
                _log.exception("the records could not be looked through")
            pause = max(SCAN_INTERVALS * self._interval, time.monotonic() - begun)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._rescan.wait()
            self._rescan.clear()

    # Sampling

    async def sample(self) -> None:
        """Look once at everything that may be moving."""
        now, monotonic = self._clock(), time.monotonic()
        running = {each.upload.id: each for each in self._source.running()}
        for each in running.values():
            if self._wanted(each.upload):
                self._note(self._metered(of_running(each, now, monotonic), monotonic))
        for number, upload_id in enumerate(self._still(running), 1):
            if number % IN_ONE_GO == 0:
                await asyncio.sleep(0)
            await self._look_again(upload_id)

    def _still(self, running: Collection[str]) -> list[str]:
        """Ids of what has to be looked at in the store: what is watched by itself, and what was moving a moment ago."""
        alone = (subject.upload_id for subject in self._watches if isinstance(subject, One))
        moving = (upload_id for upload_id, last in self._followed.items() if last.state is State.RECEIVING)
        return [upload_id for upload_id in dict.fromkeys((*alone, *moving)) if upload_id not in running]

    async def _look_again(self, upload_id: str) -> None:
        """Look at an upload that somebody has been told of."""
        try:
            upload = await self._source.look(upload_id)
        except (UploadMissing, UploadGone):
            if last := self._followed.get(upload_id):
                self._note(terminated(last))
        except (UploadDamaged, StorageFailure):
            return  # logged where it is noticed; who wants the upload is told so
        else:
            self._note(self._metered(of_record(upload, self._clock()), time.monotonic()))

    async def scan(self) -> None:
        """Look through all records for uploads that nobody has been told of, and for those that are gone."""
        self._followed = {key: last for key, last in self._followed.items() if self._wanted(last.upload)}
        pace = _Pace()
        for upload_id in [key for key, last in self._followed.items() if last.state is not State.RECEIVING]:
            await self._look_again(upload_id)
            await pace.step()
        async for upload_id in self._source.ids():
            if not (upload_id in self._followed or upload_id in self._ended or upload_id in self._unwatched):
                await self._meet(upload_id)
                await pace.step()

    async def _meet(self, upload_id: str) -> None:
        """Look at an upload for the first time."""
        try:
            upload = await self._source.look(upload_id)
        except (UploadMissing, UploadGone, StorageFailure):
            return
        except UploadDamaged:
            self._dismiss(upload_id)
            return
        if self._wanted(upload):
            self._note(of_record(upload, self._clock()))
        else:
            self._dismiss(upload_id)

    def _dismiss(self, upload_id: str) -> None:
        if len(self._unwatched) < MAX_DISMISSED:
            self._unwatched.add(upload_id)

    # Telling

    def _wanted(self, upload: Upload) -> bool:
        return any(subject in self._watches for subject in subjects_of(upload))

    def _note(self, progress: Progress) -> None:
        """Remember a sample, and tell it to whom it concerns where it is news."""
        upload = progress.upload
        last = self._followed.get(upload.id)
        if last is not None and not progress.differs(last):
            return
        if progress.ended:
            if last is None and upload.id in self._ended:
                return
            self._forget(upload.id)
        elif last is not None or len(self._followed) < MAX_FOLLOWED:
            self._followed[upload.id] = progress
        for watch in self._watches_of(upload):
            # What ended before anybody watched is no news.
            if last is not None or not progress.ended or upload.active_at >= watch.since:
                watch.put(progress)

    def _forget(self, upload_id: str) -> None:
        self._followed.pop(upload_id, None)
        self._rates.pop(upload_id, None)
        self._ended[upload_id] = None
        if len(self._ended) > MAX_DISMISSED:
            del self._ended[next(iter(self._ended))]

    def _watches_of(self, upload: Upload) -> Iterator[Watch]:
        for subject in subjects_of(upload):
            yield from self._watches.get(subject, ())

    def _metered(self, progress: Progress, monotonic: float) -> Progress:
        """The sample with a rate from this one and those before, smoothed."""
        if progress.state is not State.RECEIVING:
            self._rates.pop(progress.upload.id, None)
            return progress
        before = self._rates.get(progress.upload.id)
        rate = progress.rate
        if before is not None and monotonic > before[0]:
            elapsed = monotonic - before[0]
            latest = max(progress.offset - before[1], 0) / elapsed
            rate = before[2] + (1 - math.exp(-elapsed / SMOOTHING)) * (latest - before[2])
        if len(self._rates) < MAX_FOLLOWED or before is not None:
            self._rates[progress.upload.id] = (monotonic, progress.offset, rate or 0.0)
        return replace(progress, rate=rate)


class _Pace:
    """Holds up who reads many records, so that it takes its share of the time and no more."""

    def __init__(self) -> None:
        self._count, self._begun = 0, time.monotonic()

    async def step(self) -> None:
        self._count += 1
        if self._count % IN_ONE_GO == 0:
            await asyncio.sleep((time.monotonic() - self._begun) * (1 / SCAN_SHARE - 1))
            self._begun = time.monotonic()
