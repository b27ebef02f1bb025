"""Numbers that are looked up when somebody asks, instead of being counted: how many connections are open, how long a queue is.

They are looked up on the event loop, so the functions that tell them must be quick. With several workers each publishes its own
every second (`cells.Page`), and whoever is asked puts them together: those of other workers are up to a second old.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping

from tusd_py.observability.cells import Page
from tusd_py.ports.readings import Reading

__all__ = ["Facts", "Readings"]

Values = dict[str, float]
"""By the value of the label; without a label, by the empty string."""

Facts = dict[str, Values]
"""By the name of the metric."""


class Readings:
    """All readings of this process."""

    def __init__(self, page: Page | None = None) -> None:
        self._page = page
        self._known: list[Reading] = []
        # what the worker whose place we have taken had counted
        self._before: Facts = {} if page is None else page.published() or {}
        for one in _OF_THE_PROCESS:
            self.add(one)

    def __iter__(self) -> Iterator[Reading]:
        return iter(self._known)

    def add(self, reading: Reading) -> None:
        self._known.append(reading)

    def read(self) -> Facts:
        """This process's, at this moment."""
        return {one.name: self._read_one(one) for one in self._known}

    def _read_one(self, one: Reading) -> Values:
        found = one.read()
        values = dict(found) if isinstance(found, Mapping) else {"": float(found)}
        if one.kind == "counter":
            for label, before in self._before.get(one.name, {}).items():
                values[label] = values.get(label, 0.0) + before
        return values

    def publish(self) -> Facts:
        """Read, and show the siblings."""
        facts = self.read()
        if self._page is not None and not self._page.publish(facts):
            self._page.publish({name: values for name, values in facts.items() if len(values) < MANY})
        return facts

    def together(self, own: Facts) -> Facts:
        """What all workers make together, of which `own` is this one's. Gauges of workers that have died are left out."""
        sums: Facts = {}
        for facts, alive in self._all(own):
            for one in self._known:
                if alive or one.kind == "counter":
                    _merge(sums.setdefault(one.name, {}), facts.get(one.name, {}), one.across)
        return sums

    def _all(self, own: Facts) -> list[tuple[Facts, bool]]:
        if self._page is None:
            return [(own, True)]
        pages = [page for page in self._page.all() if page.index != self._page.index]
        return [(own, True), *((page.published() or {}, page.alive() is not None) for page in pages)]


MANY = 10
"""Values of one metric that are left out where all together are too long for a page."""


def _merge(into: Values, values: Values, across: str) -> None:
    for label, value in values.items():
        if across == "max":
            into[label] = max(value, into.get(label, value))
        else:
            into[label] = into.get(label, 0.0) + value


def _gc(key: str) -> Callable[[], Values]:
    return lambda: {str(generation): float(facts[key]) for generation, facts in enumerate(gc.get_stats())}


# The names and sentences of prometheus_client, which tells these of one process only.
_OF_THE_PROCESS = (
    Reading(
        name="process_cpu_seconds_total",
        help="Total user and system CPU time spent in seconds.",
        read=time.process_time,
        kind="counter",
    ),
    Reading(
        name="python_gc_objects_collected_total",
        help="Objects collected during gc",
        read=_gc("collected"),
        kind="counter",
        label="generation",
    ),
    Reading(
        name="python_gc_objects_uncollectable_total",
        help="Uncollectable objects found during GC",
        read=_gc("uncollectable"),
        kind="counter",
        label="generation",
    ),
    Reading(
        name="python_gc_collections_total",
        help="Number of times this generation was collected",
        read=_gc("collections"),
        kind="counter",
        label="generation",
    ),
)
