"""Metrics as text for Prometheus, made of cells and readings when somebody asks. Only then is prometheus_client imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tusd_py.observability.cells import Cells
from tusd_py.observability.metrics import COUNTERS, HISTOGRAMS, SEPARATOR, Counter, Histogram
from tusd_py.observability.one_at_a_time import OneAtATime
from tusd_py.observability.readings import Facts, Readings
from tusd_py.ports.readings import Reading

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["CONTENT_TYPE", "Exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What tusd sends, whatever the scraper would accept: in OpenMetrics each counter's name has to end with `_total`."""

TIMEOUT = 10.0
"""Seconds that a scrape may take: Prometheus gives up then, too."""

WORKERS = "tusd_py_workers"

# tusd has counters whose names don't end with `_total`; prometheus_client can't but write that they do.
_BARE = [counter.name for counter in COUNTERS if not counter.name.endswith("_total")]
_BARE_HEAD = re.compile(rf"^(# (?:HELP|TYPE) (?:{'|'.join(_BARE)}))_total ", re.MULTILINE)


class Exposition:
    """The metrics of a server, all its workers included."""

    def __init__(self, cells: Cells, readings: Readings) -> None:
        self._cells, self._readings = cells, readings
        self._own: Facts = {}
        self._work = OneAtATime(self._render, "tusd-py metrics")

    async def scrape(self) -> bytes:
        """The text. What is looked up is looked up now, on the event loop; the rest is done in a thread."""
        self._own = self._readings.publish()
        return await self._work.result(TIMEOUT)

    def _render(self) -> bytes:
        from prometheus_client import generate_latest

        text = generate_latest(self).decode()
        return _BARE_HEAD.sub(r"\1 ", text).encode()

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks of a collector."""
        from prometheus_client import PlatformCollector

        totals = self._cells.totals()
        for counter in COUNTERS:
            yield _counter(counter, totals)
        for histogram in HISTOGRAMS:
            yield _histogram(histogram, totals)
        together = self._readings.together(self._own)
        for one in self._readings:
            yield _reading(one, together.get(one.name, {}))
        pids = self._pids()
        yield _reading(Reading(name=WORKERS, help="Processes that serve requests.", read=int), {"": len(pids)})
        yield from _process_metrics(pids)
        yield from PlatformCollector(registry=None).collect()

    def _pids(self) -> list[int]:
        page = self._cells.page
        found = [] if page is None else [pid for each in page.all() if (pid := each.alive()) is not None]
        return found or [os.getpid()]


def _labelled(name: str, totals: dict[str, list[int]]) -> Iterator[tuple[list[str], list[int]]]:
    """The values of the labels, and the cells, of all cells of this metric."""
    for key in sorted(totals):
        own, *values = key.split(SEPARATOR)
        if own == name:
            yield values, totals[key]


def _counter(counter: Counter, totals: dict[str, list[int]]) -> Metric:
    from prometheus_client.core import Metric

    metric = Metric(counter.name.removesuffix("_total"), counter.help, "counter")
    for values, (count,) in _labelled(counter.name, totals):
        metric.add_sample(counter.name, dict(zip(counter.labels, values, strict=True)), count)
    return metric


def _histogram(histogram: Histogram, totals: dict[str, list[int]]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(histogram.name, histogram.help, labels=histogram.labels)
    for values, (*buckets, total) in _labelled(histogram.name, totals):
        seen, cumulated = 0, list[tuple[str, float]]()
        for bound, count in zip((*map(str, map(float, histogram.bounds)), "+Inf"), buckets, strict=True):
            seen += count
            cumulated.append((bound, seen))
        family.add_metric(values, cumulated, total / histogram.scale)
    return family


def _reading(one: Reading, values: dict[str, float]) -> Metric:
    from prometheus_client.core import Metric

    metric = Metric(one.name.removesuffix("_total") if one.kind == "counter" else one.name, one.help, one.kind)
    for label, value in sorted(values.items()):
        metric.add_sample(one.name, {one.label: label} if one.label else {}, value)
    return metric


def _process_metrics(pids: list[int]) -> Iterator[Metric]:
    """prometheus_client's, summed over the workers where that makes sense; CPU time is among the readings."""
    from prometheus_client import ProcessCollector

    merged: dict[str, Metric] = {}
    for pid in pids:
        for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            known = merged.setdefault(metric.name, metric)
            if known is not metric:
                ((name, labels, value, *_),), ((_, _, other, *_),) = known.samples, metric.samples
                known.samples.clear()
                known.add_sample(name, labels, _ACROSS.get(name, sum)((value, other)))
    yield from (metric for metric in merged.values() if metric.type == "gauge")


_ACROSS = {"process_start_time_seconds": min, "process_max_fds": min}
