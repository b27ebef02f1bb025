"""What is counted, and how it is shown to Prometheus: tusd's names, one sum for all workers, nothing that goes backwards."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.observability.support import RecordedCall, tell_small_upload, upload_of
from tusd_py.observability.cells import CELLS, SPARE, Cells, Page, Pages
from tusd_py.observability.exposition import Exposition
from tusd_py.observability.metrics import Metrics
from tusd_py.observability.readings import Readings
from tusd_py.ports.readings import Reading
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import MethodNotAllowed, MismatchedOffset, StorageFull


def text_of(cells: Cells, readings: Readings | None = None) -> str:
    return asyncio.run(Exposition(cells, readings or Readings(cells.page)).scrape()).decode()


def samples(text: str) -> dict[str, float]:
    """`name{label="value"}` and its value."""
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S*|[a-z][^ ]*\{.*\}) (\S+)$", text, re.MULTILINE)}


def counted(page: Page | None = None) -> tuple[Cells, Metrics]:
    cells = Cells(page)
    return cells, Metrics(cells)


# Exactly what tusd shows before the first request (protocol.md, 4.10), but for the metrics of S3 and of the Go runtime.
AT_START = {
    *(f'tusd_requests_total{{method="{method}"}}' for method in ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")),
    *("tusd_bytes_received", "tusd_uploads_created", "tusd_uploads_finished", "tusd_uploads_terminated"),
    *(f'tusd_hook_invocations_total{{hooktype="{kind}"}}' for kind in HookType),
    *(f'tusd_hook_errors_total{{hooktype="{kind}"}}' for kind in HookType),
    "tusd_connections_open",
}


def test_what_tusd_shows_is_there_from_the_start() -> None:
    cells, _ = counted()
    readings = Readings()
    readings.add(Reading(name="tusd_connections_open", help="Current number of open connections.", read=lambda: 0))
    found = samples(text_of(cells, readings))
    assert {name for name in found if name.startswith("tusd_") and not name.startswith("tusd_py_")} == AT_START
    assert {found[name] for name in AT_START} == {0.0}


@pytest.mark.parametrize("name", ["bytes_received", "uploads_created", "uploads_finished", "uploads_terminated"])
def test_counters_without_total(name: str) -> None:
    text = text_of(counted()[0])
    assert f"# TYPE tusd_{name} counter\ntusd_{name} 0.0\n" in text
    assert f"# HELP tusd_{name} " in text
    assert f"tusd_{name}_total" not in text


@pytest.mark.parametrize("name", ["requests", "hook_invocations", "hook_errors", "errors"])
def test_counters_with_total(name: str) -> None:
    text = text_of(counted()[0])
    assert f"# TYPE tusd_{name}_total counter\n" in text


def test_a_creation_with_its_bytes() -> None:
    cells, metrics = counted()
    tell_small_upload(metrics)
    found = samples(text_of(cells))
    assert {name: value for name, value in found.items() if value and name.startswith("tusd_") and "bucket" not in name} == {
        'tusd_requests_total{method="POST"}': 1,
        "tusd_bytes_received": 4096,
        "tusd_uploads_created": 1,
        "tusd_uploads_finished": 1,
        'tusd_py_request_duration_seconds_count{method="POST",status="201"}': 1,
        'tusd_py_request_duration_seconds_sum{method="POST",status="201"}': 0.5,
        "tusd_py_append_bytes_per_second_count": 1,
        "tusd_py_append_bytes_per_second_sum": 16384,
        "tusd_py_sync_duration_seconds_count": 1,
        "tusd_py_sync_duration_seconds_sum": 0.01,
        "tusd_py_workers": 1,
    }


def test_the_rest() -> None:
    cells, metrics = counted()
    call = RecordedCall("PATCH", "abc")
    metrics.upload_terminated(call, upload_of())
    metrics.took_over(0.5)
    metrics.hook_started(HookType.PRE_CREATE, "")
    metrics.hook_complete(HookType.PRE_CREATE, "", 0.25)
    metrics.hook_started(HookType.POST_FINISH, "abc")
    metrics.hook_failed(HookType.POST_FINISH, "abc", 0.25, "no")
    metrics.chunk_complete(call, upload_of(), 0, 1.0)
    metrics.chunk_complete(call, upload_of(), 10, 0.0)
    for refusal in (MismatchedOffset(), MismatchedOffset(), StorageFull(), MethodNotAllowed()):
        metrics.response_outgoing(call, refusal.status, refusal, 0.1)
    found = samples(text_of(cells))
    expected = {
        "tusd_uploads_terminated": 1,
        "tusd_py_takeover_duration_seconds_count": 1,
        'tusd_hook_invocations_total{hooktype="pre-create"}': 1,
        'tusd_hook_invocations_total{hooktype="post-finish"}': 1,
        'tusd_hook_errors_total{hooktype="pre-create"}': 0,
        'tusd_hook_errors_total{hooktype="post-finish"}': 1,
        'tusd_py_hook_duration_seconds_count{hooktype="pre-create"}': 1,
        'tusd_py_hook_duration_seconds_sum{hooktype="post-finish"}': 0.25,
        'tusd_errors_total{code="ERR_MISMATCHED_OFFSET",status="409"}': 2,
        'tusd_errors_total{code="ERR_INSUFFICIENT_STORAGE",status="507"}': 1,
        "tusd_bytes_received": 10,
        "tusd_py_append_bytes_per_second_count": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert not any("405" in name for name in found if name.startswith("tusd_errors"))


def test_methods_that_clients_make_up_are_one_histogram_and_no_counter() -> None:
    cells, metrics = counted()
    for number in range(1000):
        call = RecordedCall(f"X{number}")
        metrics.request_incoming(call)
        metrics.response_outgoing(call, 405, MethodNotAllowed(), 0.1)
    found = samples(text_of(cells))
    assert found['tusd_py_request_duration_seconds_count{method="other",status="405"}'] == 1000
    assert not any('"X' in name for name in found)
    assert not metrics._durations


@pytest.mark.parametrize(
    ("duration", "bound"), [(0.001, "0.001"), (0.0011, "0.0025"), (1800.0, "1800.0"), (1e4, "+Inf"), (0.0, "0.001")]
)
def test_a_bucket_includes_its_bound(duration: float, bound: str) -> None:
    cells, metrics = counted()
    metrics.response_outgoing(RecordedCall("GET", "a"), 200, None, duration)
    found = samples(text_of(cells))
    buckets = [name for name in found if name.startswith("tusd_py_request_duration_seconds_bucket")]
    first = next(name for name in buckets if found[name])
    assert f'le="{bound}"' in first


def test_prometheus_understands_it() -> None:
    cells, metrics = counted()
    tell_small_upload(metrics)
    families = {family.name: family for family in text_string_to_metric_families(text_of(cells))}
    assert families["tusd_bytes_received"].type == "counter"
    assert families["tusd_py_request_duration_seconds"].type == "histogram"
    for name in (
        "process_cpu_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_gc_collections",
        "python_info",
    ):
        assert families[name].samples


# Several workers


def two_workers() -> tuple[Page, Page]:
    pages = Pages(2)
    return pages.page(0), pages.page(1)


def in_a_child(work: Callable[[], None]) -> int:
    """Do this in a process that dies right after; returns its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return pid


def test_any_worker_tells_the_sum() -> None:
    first, second = two_workers()

    def work() -> None:
        _, metrics = counted(second)
        for _ in range(5):
            tell_small_upload(metrics)
        metrics.response_outgoing(RecordedCall("HEAD", "a"), 200, None, 0.1)

    cells, metrics = counted(first)
    in_a_child(work)
    tell_small_upload(metrics)
    for each in (cells, Cells(second)):
        found = samples(text_of(each))
        assert found["tusd_bytes_received"] == 6 * 4096
        assert found['tusd_py_request_duration_seconds_count{method="POST",status="201"}'] == 6
        assert found['tusd_py_request_duration_seconds_count{method="HEAD",status="200"}'] == 1


def test_who_takes_the_place_of_a_dead_worker_goes_on_counting() -> None:
    first, second = two_workers()
    for _ in range(3):
        in_a_child(lambda: tell_small_upload(counted(second)[1]) and None)  # type: ignore[func-returns-value]
    assert samples(text_of(Cells(first)))["tusd_uploads_created"] == 3


def test_gauges_of_workers_are_summed_and_those_of_dead_ones_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_workers()

    def readings(page: Page, connections: int, age: float) -> Readings:
        made = Readings(page)
        made.add(Reading(name="open", help="Open.", read=lambda: connections))
        made.add(Reading(name="age", help="Age.", read=lambda: {"hooks": age}, label="consumer", across="max"))
        return made

    one, other = readings(first, 3, 1.5), readings(second, 4, 9.0)
    other.publish()
    found = samples(text_of(Cells(first), one))
    assert (found["open"], found['age{consumer="hooks"}'], found["tusd_py_workers"]) == (7, 9.0, 2)
    monkeypatch.setattr("tusd_py.observability.cells.STALE", 0.0)
    found = samples(text_of(Cells(first), one))
    assert (found["open"], found['age{consumer="hooks"}']) == (3, 1.5)


def test_cpu_time_does_not_go_backwards_when_a_worker_is_replaced() -> None:
    first, second = two_workers()

    def told(by: Page, seconds: float) -> None:
        readings = Readings(by)
        readings.add(Reading(name="busy_total", help="Busy.", read=lambda: seconds, kind="counter"))
        readings.publish()

    told(second, 100.0)
    told(second, 1.0)  # the one that took its place
    own = Readings(first)
    own.add(Reading(name="busy_total", help="Busy.", read=lambda: 10.0, kind="counter"))
    assert samples(text_of(Cells(first), own))["busy_total"] == 111.0


def test_a_page_that_is_full_costs_metrics_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    first, _ = two_workers()
    cells, metrics = counted(first)
    for status in range(1000):
        metrics.response_outgoing(RecordedCall("GET", "a"), status, None, 0.1)
    tell_small_upload(metrics)
    assert samples(text_of(cells))["tusd_uploads_created"] == 1
    assert [record.getMessage() for record in caplog.records if "too many different metrics" in record.getMessage()]
    assert len(caplog.records) == 1
    assert sum(len(values) for values in cells.totals().values()) <= CELLS - SPARE


def test_what_is_too_long_for_a_page_is_left_out() -> None:
    first, second = two_workers()
    readings = Readings(second)
    readings.add(Reading(name="one", help="One.", read=lambda: 1))
    readings.add(Reading(name="many", help="Many.", read=lambda: dict.fromkeys(map(str, range(2000)), 1.0), label="n"))
    readings.publish()
    assert second.published() is not None and "many" not in (second.published() or {})
    own = Readings(first)
    own.add(Reading(name="one", help="One.", read=lambda: 1))
    assert samples(text_of(Cells(first), own))["one"] == 2


async def test_scrapes_at_once_are_one() -> None:
    cells, _ = counted()
    exposition = Exposition(cells, Readings())
    rendered = 0
    render = exposition._work._work

    def count() -> bytes:
        nonlocal rendered
        rendered += 1
        return render()

    exposition._work._work = count
    texts = await asyncio.gather(*(exposition.scrape() for _ in range(20)))
    assert rendered == 1 and len(set(texts)) == 1
