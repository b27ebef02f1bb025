"""The extension at work in one server process: its parts, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from tusd_py.ports.datastore import DataStore
from tusd_py.ports.events import Consumer
from tusd_py.ports.extension import Host
from tusd_py.ports.readings import Reading
from tusd_py.protocol.upload import Upload
from tusd_py_cas.ingest.client import IngestProcess
from tusd_py_cas.naming import series_of
from tusd_py_cas.repository import Repository
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.clearing import Clearer
from tusd_py_cas.serving.collecting import Collector
from tusd_py_cas.serving.consumer import CasConsumer
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.courtesy import Courtesy
from tusd_py_cas.serving.digesting import Digester
from tusd_py_cas.serving.finding import Finder, Signal
from tusd_py_cas.serving.intake import Intake
from tusd_py_cas.serving.joining import Joiner
from tusd_py_cas.serving.metrics import TotalsKept, readings
from tusd_py_cas.serving.opening import Opener
from tusd_py_cas.serving.pacing import Pacer
from tusd_py_cas.serving.queue import IntakeQueue
from tusd_py_cas.serving.replacing import Replacer
from tusd_py_cas.serving.store import CasStore
from tusd_py_cas.serving.turns import Turn
from tusd_py_cas.serving.versions import Versions

__all__ = ["OpenedCas"]

_log = logging.getLogger("tusd_py.cas")

TURN = 2.0
"""Seconds between two tries to get the turn at what one process does for all."""

RESTART = 10.0
"""Seconds after which work goes on that has failed in a way that it should not."""


class OpenedCas:
    """The port `Opened`. With `replaces`, files are given up for chunks; with `tells`, hooks are told of each version. The
    repository and the process become its own."""

    def __init__(
        self,
        repository: Repository,
        process: IngestProcess,
        *,
        replaces: bool,
        gc_interval: float,
        gc_grace: float,
        tells: bool = False,
    ) -> None:
        self._process, self._replaces, self._tells = process, replaces, tells
        self.access = Access(repository)
        self.counts = Counts()
        self._courtesy = Courtesy()
        self._pacer = Pacer(self._courtesy, process, self._is_awaited)
        self.queue = IntakeQueue(self.take, self._courtesy.is_rush)
        self.clearer = Clearer(self.access, grace=gc_grace)
        self._signal = Signal(repository.path)
        self._totals = TotalsKept(self.access)
        self.collector = Collector(process, self.counts, interval=gc_interval, grace=gc_grace)
        self._turn = Turn(repository.path)
        self._running = self._closed = False
        self.consumers: Sequence[Consumer] = (CasConsumer(self._take_politely),) if tells else ()
        self.readings: Sequence[Reading] = readings(self.counts, self._totals, self.queue)

    def __repr__(self) -> str:
        return f"<OpenedCas {'replacing' if self._replaces else 'keeping'} in {self.access.repository!r}>"

    def around(self, data: DataStore) -> CasStore:
        access, counts = self.access, self.counts
        self.opener = Opener(access, counts)
        versions = Versions(access, data)
        self.intake = intake = Intake(access, versions, data, self._process, counts)
        self.replacer = Replacer(access, versions, data, intake, counts, self.queue.add_again)
        self.finder = Finder(access, versions, self.queue, self._signal)
        self.digester = Digester(access, self._process, intake)
        self.joiner = Joiner(data, access, versions, intake, replaces=self._replaces, working=self._is_working)
        return CasStore(data, access, versions, self.opener, self.joiner)

    def attach(self, host: Host) -> None:
        for part in (self.intake, self.replacer, self.finder, self.clearer, self._courtesy):
            part.host = host

    def finished(self, upload: Upload) -> None:
        if not self._tells:  # else the outbox will say so
            self.queue.add(upload.id, series_of(upload), urgent=upload.is_partial)  # for which a final may wait

    async def take(self, upload_id: str) -> None:
        """See to it that a finished upload is a version, and tell of it. Of one that is gone by now there is nothing to be
        dropped: who removed it has done that. Raises `StorageFailure`."""
        taken = await self.intake.take(upload_id)
        if taken is None:
            return
        await self.intake.tell(taken)
        if self._replaces:
            self.replacer.consider(upload_id)

    async def _take_politely(self, upload_id: str) -> None:
        await self._courtesy.give_way()
        await self.take(upload_id)

    def _is_awaited(self) -> bool:
        """By finals, which would otherwise copy what their partials have."""
        return self.joiner.waiting > 0

    def _is_working(self) -> bool:
        return self._running and not self._closed

    async def run(self) -> None:
        self._running = True
        try:
            async with asyncio.TaskGroup() as work:
                work.create_task(self._hurry_at_the_end())
                work.create_task(_keep_going(self.queue.run))
                work.create_task(_keep_going(self._pacer.run))
                if self._replaces:
                    work.create_task(_keep_going(self.replacer.follow))
                work.create_task(_keep_going(lambda: self._work_for_all(work)))
        finally:
            self._running = False
            self._turn.give_back()

    async def _hurry_at_the_end(self) -> None:
        """What is under way waits for others who keep the index locked, and is waited for when it is cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            self.access.hurry()
            self._process.hurry()

    async def _work_for_all(self, work: asyncio.TaskGroup) -> None:
        """What one process does, once it has the turn."""
        while not await self.access.change(self._turn.take):
            if self.queue.missed:
                self.queue.missed = False
                await self.access.change(self._signal.give)
            await asyncio.sleep(TURN)
        rounds = [self.finder.run, self.clearer.run, self.digester.run, self.collector.run]
        if self._replaces:
            rounds.append(self.replacer.go_round)
        for each in rounds:
            work.create_task(_keep_going(each))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self.queue.depth or self.queue.missed:  # another process may go on, and one that starts looks at all anyway
            await asyncio.to_thread(self._signal.give)
        await self._process.close()
        await self._totals.close()
        await self.access.close()


async def _keep_going(work: Callable[[], Awaitable[None]]) -> None:
    """Whatever goes wrong in some part of the background's work, even a mistake of ours, the rest goes on, and the part too."""
    while True:
        try:
            await work()
        except Exception:
            _log.exception("background work has failed")
            await asyncio.sleep(RESTART)
        else:
            return
