"""Puts together who watches: log, metrics, traces, and the pages for whoever operates the server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp

from tusd_py.asgi.health import Check, Health, Readiness, Verdict
from tusd_py.asgi.metrics import MetricsPage
from tusd_py.observability import logs
from tusd_py.observability.cells import Cells, Page
from tusd_py.observability.exposition import CONTENT_TYPE, Exposition
from tusd_py.observability.line_writer import LineWriter
from tusd_py.observability.metrics import Metrics
from tusd_py.observability.observers import combined
from tusd_py.observability.one_at_a_time import OneAtATime
from tusd_py.observability.readings import Readings
from tusd_py.observability.request_lines import RequestLines
from tusd_py.observability.request_log import RequestLog
from tusd_py.observability.storage import StorageFailed, prove_writable
from tusd_py.ports.observer import Observer
from tusd_py.ports.readings import Reading
from tusd_py.settings import Settings

__all__ = ["Observability", "build_observability", "build_observer"]

PUBLISH_INTERVAL = 1.0
"""Seconds after which a worker shows its siblings anew what it reads."""

CHECK_TIMEOUT = 1.5
"""Seconds for the storage to answer a readiness check."""


@dataclass(frozen=True, slots=True)
class Observability:
    """Who watches one process. Made after a fork.

    `observer` is for uploads and application; `pages` are for the site, by path; `work` (it runs until it is cancelled) and
    `closers` are for the application. `readings` is None without metrics, `readiness` without its page.
    """

    observer: Observer
    pages: dict[str, ASGIApp] = field(default_factory=dict)
    readings: Readings | None = None
    readiness: Readiness | None = None
    work: tuple[Callable[[], Awaitable[object]], ...] = ()
    closers: tuple[Callable[[], Awaitable[object]], ...] = ()

    def add_reading(self, reading: Reading) -> None:
        """Have this metric shown, if metrics are."""
        if self.readings is not None:
            self.readings.add(reading)

    def add_check(self, name: str, check: Check) -> None:
        """Have readiness depend on this, if anybody can ask for it."""
        if self.readiness is not None:
            self.readiness.add(name, check)

    def begin_shutdown(self) -> None:
        """Not ready from now on."""
        if self.readiness is not None:
            self.readiness.begin_shutdown()

    def count_connections(self, count: Callable[[], int]) -> None:
        """`count` tells how many connections are open."""
        self.add_reading(Reading(name="tusd_connections_open", help="Current number of open connections.", read=count))


def build_observer(settings: Settings) -> Observer:
    """Only what uploads and application tell things to, of a process that is alone."""
    return build_observability(settings).observer


def build_observability(settings: Settings, page: Page | None = None) -> Observability:
    """What the settings ask for. `page` is this worker's where there are several. Starts the log's thread."""
    parts = _Parts(settings, page)
    parts.add_log()
    if settings.expose_metrics:
        parts.add_metrics()
    if settings.traces_endpoint:
        parts.add_traces()
    if settings.health_path:
        parts.pages[settings.health_path] = Health()
    if settings.ready_path:
        parts.add_readiness()
    return Observability(
        combined(parts.observers), parts.pages, parts.readings, parts.readiness, tuple(parts.work), tuple(parts.closers)
    )


class _Parts:
    """What has been put together so far."""

    def __init__(self, settings: Settings, page: Page | None) -> None:
        self._settings, self._page = settings, page
        self.observers: list[Observer] = []
        self.pages: dict[str, ASGIApp] = {}
        self.readings: Readings | None = None
        self.readiness: Readiness | None = None
        self.work: list[Callable[[], Awaitable[object]]] = []
        self.closers: list[Callable[[], Awaitable[object]]] = []

    def add_log(self) -> None:
        lines = RequestLines(self._settings.log_format)
        self._writer = LineWriter(sys.stdout, lines)
        self._writer.start()
        logs.divert(self._writer)
        log = RequestLog(self._writer, lines, verbose=self._settings.verbose)
        self.observers.append(log)
        self.closers.append(log.close)

    def add_metrics(self) -> None:
        cells, self.readings = Cells(self._page), Readings(self._page)
        self.readings.add(
            Reading(
                name="tusd_py_log_lines_dropped_total",
                help="Lines of the log that nobody took, or that could not be written.",
                read=lambda: self._writer.lost,
                kind="counter",
            )
        )
        self.observers.append(Metrics(cells))
        self.pages[self._settings.metrics_path] = MetricsPage(Exposition(cells, self.readings).scrape, CONTENT_TYPE)
        if self._page is not None:
            self.work.append(_publishing(self.readings))

    def add_traces(self) -> None:
        from tusd_py.observability.traces import Traces

        traces = Traces(self._settings.traces_endpoint)
        self.observers.append(traces)
        self.closers.append(lambda: asyncio.to_thread(traces.close))

    def add_readiness(self) -> None:
        self.readiness = Readiness({"storage": _storage_check(str(self._settings.upload_dir))})
        self.pages[self._settings.ready_path] = self.readiness


def _publishing(readings: Readings) -> Callable[[], Awaitable[None]]:
    async def publish() -> None:
        while True:
            readings.publish()
            await asyncio.sleep(PUBLISH_INTERVAL)

    return publish


def _storage_check(directory: str) -> Check:
    probe = OneAtATime(lambda: prove_writable(directory), "tusd-py storage check")

    async def check() -> Verdict:
        try:
            return Verdict(ok=True, facts={"free_bytes": await probe.result(CHECK_TIMEOUT)})
        except StorageFailed as failure:
            return Verdict(ok=False, reason=str(failure))
        except TimeoutError:
            return Verdict(ok=False, reason=f"the storage has not answered for {CHECK_TIMEOUT:g} s")

    return check
