"""The observer that counts. On the event loop it adds to cells; metrics are made of them when somebody asks (`exposition`).

Names are tusd's where tusd has the metric, and begin with `tusd_py_` where it has not.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from tusd_py.observability.cells import Cells
from tusd_py.ports.call import Call
from tusd_py.ports.observer import NoObserver
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import MethodNotAllowed, Refusal
from tusd_py.protocol.upload import Upload

__all__ = ["COUNTERS", "HISTOGRAMS", "SEPARATOR", "Counter", "Histogram", "Metrics"]

SEPARATOR = "\t"
"""Between a metric's name and the values of its labels, in the name of a cell."""

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
"""tusd counts these. A client may override the method with any other: those go into one histogram, `other`, together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """`scale` is how many of a cell's units make one of the metric's: sums are kept as whole microseconds."""

    name: str
    help: str
    bounds: tuple[float, ...]
    labels: tuple[str, ...] = ()
    scale: int = 1_000_000

    @property
    def cells(self) -> int:
        """One for each bucket, the one above all bounds included, and one for the sum."""
        return len(self.bounds) + 2


REQUESTS = Counter(name="tusd_requests_total", help="Total number of requests served by tusd per method.", labels=("method",))
ERRORS = Counter(name="tusd_errors_total", help="Total number of errors per status.", labels=("status", "code"))
BYTES = Counter(name="tusd_bytes_received", help="Number of bytes received for uploads.")
CREATED = Counter(name="tusd_uploads_created", help="Number of created uploads.")
FINISHED = Counter(name="tusd_uploads_finished", help="Number of finished uploads.")
TERMINATED = Counter(name="tusd_uploads_terminated", help="Number of terminated uploads.")
HOOKS = Counter(name="tusd_hook_invocations_total", help="Total number of invocations per hook type.", labels=("hooktype",))
HOOK_ERRORS = Counter(
    name="tusd_hook_errors_total", help="Total number of execution errors per hook type.", labels=("hooktype",)
)
COUNTERS = (REQUESTS, ERRORS, BYTES, CREATED, FINISHED, TERMINATED, HOOKS, HOOK_ERRORS)

DURATION = Histogram(
    name="tusd_py_request_duration_seconds",
    help="Time from a request's head to its answer.",
    labels=("method", "status"),
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
THROUGHPUT = Histogram(
    name="tusd_py_append_bytes_per_second",
    help="How fast the body of a request came, for bodies with at least one byte.",
    bounds=tuple(4.0**power for power in range(5, 17)),
    scale=1,
)
HOOK_DURATION = Histogram(
    name="tusd_py_hook_duration_seconds",
    help="Time that hooks took, failed ones included.",
    labels=("hooktype",),
    bounds=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SYNC = Histogram(
    name="tusd_py_sync_duration_seconds",
    help="Time until bytes and record of an upload were on the disk.",
    bounds=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
TAKEOVER = Histogram(
    name="tusd_py_takeover_duration_seconds",
    help="Time that a request waited for another one to let go of an upload.",
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
HISTOGRAMS = (DURATION, THROUGHPUT, HOOK_DURATION, SYNC, TAKEOVER)


class Metrics(NoObserver):
    """Counts into `cells`. What tusd shows from the start is there from the start."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        # no method but `block` may replace it
        self._values = cells.values
        self._requests = {method: self._counter(REQUESTS, method) for method in METHODS}
        self._hooks = {kind: self._counter(HOOKS, kind) for kind in HookType}
        self._hook_errors = {kind: self._counter(HOOK_ERRORS, kind) for kind in HookType}
        self._bytes, self._created = self._counter(BYTES), self._counter(CREATED)
        self._finished, self._terminated = self._counter(FINISHED), self._counter(TERMINATED)
        self._throughput, self._sync, self._takeover = map(self._histogram, (THROUGHPUT, SYNC, TAKEOVER))
        self._durations: dict[tuple[str, int], int] = {}

    def _counter(self, counter: Counter, *labels: str) -> int:
        return self.cells.block(SEPARATOR.join((counter.name, *labels)))

    def _histogram(self, histogram: Histogram, *labels: str) -> int:
        return self.cells.block(SEPARATOR.join((histogram.name, *labels)), histogram.cells)

    def _observe(self, histogram: Histogram, start: int, value: float) -> None:
        values, bounds = self._values, histogram.bounds
        values[start + bisect_left(bounds, value)] += 1
        values[start + len(bounds) + 1] += int(value * histogram.scale)

    def request_incoming(self, call: Call) -> None:
        cell = self._requests.get(call.name)
        if cell is not None:
            self._values[cell] += 1

    def response_outgoing(self, call: Call, status: int, refusal: Refusal | None, duration: float) -> None:
        key = call.name, status
        start = self._durations.get(key)
        if start is None:
            start = self._new_duration(key)
        self._observe(DURATION, start, duration)
        if refusal is not None and not isinstance(refusal, MethodNotAllowed):  # nor does tusd count those
            self._values[self._counter(ERRORS, str(status), refusal.code)] += 1

    def _new_duration(self, key: tuple[str, int]) -> int:
        method, status = key
        known = method if method in METHODS else "other"
        start = self._histogram(DURATION, known, str(status))
        if known == method:  # whatever else clients make up is not remembered
            self._durations[key] = start
        return start

    def upload_created(self, call: Call, upload: Upload) -> None:
        self._values[self._created] += 1

    def chunk_complete(self, call: Call, upload: Upload, count: int, duration: float) -> None:
        if count:
            self._values[self._bytes] += count
            self._observe(THROUGHPUT, self._throughput, count / max(duration, 1e-6))

    def upload_finished(self, call: Call, upload: Upload) -> None:
        self._values[self._finished] += 1

    def upload_terminated(self, call: Call, upload: Upload) -> None:
        self._values[self._terminated] += 1

    def hook_started(self, kind: HookType, upload_id: str) -> None:
        self._values[self._hooks[kind]] += 1

    def hook_complete(self, kind: HookType, upload_id: str, duration: float) -> None:
        self._observe(HOOK_DURATION, self._histogram(HOOK_DURATION, kind), duration)

    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None:
        self._values[self._hook_errors[kind]] += 1
        self._observe(HOOK_DURATION, self._histogram(HOOK_DURATION, kind), duration)

    def synced(self, duration: float) -> None:
        self._observe(SYNC, self._sync, duration)

    def took_over(self, duration: float) -> None:
        self._observe(TAKEOVER, self._takeover, duration)
