"""Metrics, health and readiness of a real server, with one worker and with several."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import StartServer
from tests.observability.test_metrics import AT_START
from tests.observability.test_traces import Collector, facts
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until, until_offset
from tests.support.wire import TusClient
from tests.wire.hooking import Hooking, programs

Values = dict[str, float]


def scrape(server: ServerProcess, path: str = "/metrics") -> Values:
    answer = server.client().request("GET", path, tus=False)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = Values()
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def wait_for(server: ServerProcess, **expected: float) -> Values:
    """What is shown once these are as expected; keywords are names, whose labels, if any, are left out."""
    seen, sums = Values(), Values()

    def reached() -> bool:
        seen.clear()
        seen.update(scrape(server))
        sums.update({name: sum(value for key, value in seen.items() if key.partition("{")[0] == name) for name in expected})
        return sums == expected

    until(reached, what=(expected, sums))
    return seen


@pytest.fixture
def hooks(tmp_path: Path) -> Hooking:
    (tmp_path / "hooks" / "told").mkdir(parents=True)
    with programs(tmp_path / "hooks") as hooking:
        return hooking


def test_what_tusd_shows_from_the_start(start_server: StartServer) -> None:
    found = scrape(start_server())
    assert found.keys() >= AT_START
    assert {found[name] for name in AT_START - {"tusd_connections_open"}} == {0.0}
    assert found["tusd_connections_open"] == 1  # ours


def test_everything_that_is_counted(start_server: StartServer, hooks: Hooking) -> None:
    server = start_server(*hooks.arguments)
    client = server.client()
    path = client.create(5, b"hello")
    client.delete(path)
    client.patch(path, 0, b"x")
    client.request("PUT", "/files/")
    longer = client.create(10)
    with begin_patch(client, longer, 0, 10) as connection:
        connection.send(b"hello")
        until_offset(client, longer, 5)
        assert scrape(server)["tusd_connections_open"] == 2
        assert scrape(server)["tusd_py_uploads_receiving"] == 1
        assert client.offset(longer) == 5
        connection.answer("PATCH")
    client.request("OPTIONS", "/files/")
    client.get(path)
    found = wait_for(server, tusd_bytes_received=10, tusd_uploads_terminated=1, tusd_py_events_pending=0)
    expected = {
        'tusd_requests_total{method="POST"}': 2,
        'tusd_requests_total{method="PATCH"}': 2,
        'tusd_requests_total{method="DELETE"}': 1,
        'tusd_requests_total{method="OPTIONS"}': 1,
        'tusd_requests_total{method="GET"}': 1,
        "tusd_uploads_created": 2,
        "tusd_uploads_finished": 1,
        "tusd_uploads_terminated": 1,
        'tusd_errors_total{code="ERR_UPLOAD_NOT_FOUND",status="404"}': 2,
        'tusd_errors_total{code="ERR_UPLOAD_INTERRUPTED",status="400"}': 1,
        'tusd_hook_invocations_total{hooktype="pre-create"}': 2,
        'tusd_hook_invocations_total{hooktype="post-create"}': 2,
        'tusd_py_request_duration_seconds_count{method="POST",status="201"}': 2,
        'tusd_py_request_duration_seconds_count{method="other",status="405"}': 1,
        'tusd_py_hook_duration_seconds_count{hooktype="pre-create"}': 2,
        "tusd_py_append_bytes_per_second_count": 2,
        "tusd_py_log_lines_dropped_total": 0,
        "tusd_py_workers": 1,
        "tusd_py_uploads_receiving": 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert not any('status="405"' in name for name in found if name.startswith("tusd_errors"))
    assert found["tusd_py_sync_duration_seconds_count"] >= 1
    assert found["tusd_py_takeover_duration_seconds_count"] >= 1


def test_a_hook_that_fails_is_counted(start_server: StartServer, hooks: Hooking) -> None:
    hooks.fail("pre-create", "no")
    server = start_server(*hooks.arguments)
    server.client().request("POST", "/files/", {"Upload-Length": 5})
    found = scrape(server)
    assert found['tusd_hook_errors_total{hooktype="pre-create"}'] == 1
    assert found['tusd_hook_invocations_total{hooktype="pre-create"}'] == 1
    assert found['tusd_errors_total{code="ERR_INTERNAL_SERVER_ERROR",status="500"}'] == 1


def test_events_that_wait_are_counted(start_server: StartServer, hooks: Hooking) -> None:
    hooks.fail("post-finish", "no")
    server = start_server(*hooks.arguments, "-events-backoff=10m")
    server.client().create(5, b"hello")
    assert 'tusd_py_events_oldest_seconds{consumer="hooks"}' in wait_for(server, tusd_py_events_pending=1)


def test_prometheus_understands_all_of_it(start_server: StartServer) -> None:
    server = start_server()
    server.client().create(5, b"hello")
    text = server.client().request("GET", "/metrics", tus=False).text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    for name in ("bytes_received", "uploads_created", "uploads_finished", "uploads_terminated"):
        assert f"# TYPE tusd_{name} counter\n" in text
    assert {"process_resident_memory_bytes", "python_info"} <= {family.name for family in families}


def test_several_workers_are_one_server(start_server: StartServer) -> None:
    server = start_server("-workers=2")
    for _ in range(40):
        server.client().create(5, b"hello")
    assert wait_for(server, tusd_py_workers=2)["tusd_uploads_created"] == 40
    for _ in range(20):  # whoever answers
        found = scrape(server)
        assert (found["tusd_uploads_finished"], found['tusd_requests_total{method="POST"}']) == (40, 40)
    assert found["process_resident_memory_bytes"] > 2 * 20_000_000


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_that_dies_takes_no_count_with_it(start_server: StartServer) -> None:
    server = start_server("-workers=2", tolerate=["WorkerDied"])
    for _ in range(40):
        server.client().create(5, b"hello")
    before = wait_for(server, tusd_py_workers=2, tusd_uploads_created=40)
    workers = children(server.pid)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        until(lambda worker=worker: worker not in children(server.pid) and len(children(server.pid)) == 2)  # type: ignore[misc]
    assert not set(workers) & set(children(server.pid))
    server.client().create(5, b"hello")
    found = wait_for(server, tusd_uploads_created=41, tusd_py_workers=2)
    shrunk = {
        name
        for name, value in before.items()
        if re.match(r"tusd_(?!connections)\w+(_total|_count|_sum|received|created|finished)\b", name) and found[name] < value
    }
    assert not shrunk


def test_paths(start_server: StartServer) -> None:
    server = start_server("-metrics-path=/m", "-health-path=/healthz", "-ready-path=")
    assert scrape(server, "/m")
    client = server.client()
    assert client.request("GET", "/healthz", tus=False).text == "ok\n"
    for path in ("/metrics", "/health", "/ready"):
        assert "tusd-py is running" in client.request("GET", path, tus=False).text


def test_without_metrics(start_server: StartServer) -> None:
    server = start_server("-expose-metrics=false")
    assert "tusd-py is running" in server.client().request("GET", "/metrics", tus=False).text
    assert "metrics path" not in server.log


def test_below_a_base_path_of_its_own(start_server: StartServer) -> None:
    server = start_server("-base-path=/")
    client: TusClient = server.client("/")
    path = client.create(5, b"hello")
    assert client.offset(path) == 5
    assert scrape(server)["tusd_uploads_finished"] == 1
    assert client.request("GET", "/ready", tus=False).status == 200
    assert client.request("DELETE", "/ready").status == 404


# Health and readiness


def test_healthy_and_ready(start_server: StartServer) -> None:
    server = start_server()
    client = server.client()
    health = client.request("GET", "/health", tus=False)
    assert (health.status, health.text) == (200, "ok\n")
    assert client.request("HEAD", "/health", tus=False).status == 200
    ready = client.request("GET", "/ready", tus=False)
    assert (ready.status, ready.headers["content-type"]) == (200, "application/json")
    assert '"ready":true' in ready.text and '"free_bytes":' in ready.text
    assert [name for name in os.listdir(server.upload_dir) if name.startswith(".ready")] == []


@pytest.mark.root
def test_not_ready_when_the_disk_is_full(start_server: StartServer, tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=24m") as mount:
        server = start_server(upload_dir=mount)
        client = server.client()
        assert client.request("GET", "/ready", tus=False).status == 200
        (mount / "big").write_bytes(bytes(23 << 20))
        answer = until(lambda: (got := client.request("GET", "/ready", tus=False)).status == 503 and got)
        assert "there is no room for uploads" in answer.text
        assert client.request("GET", "/health", tus=False).status == 200
        (mount / "big").unlink()
        until(lambda: client.request("GET", "/ready", tus=False).status == 200)
        server.kill()


def test_not_ready_when_stopping(start_server: StartServer) -> None:
    server = start_server()
    client = server.client()
    path = client.create(10)
    with client.connect() as connection, begin_patch(client, path, 0, 10):
        assert connection.request("GET", "/health", tus=False).status == 200
        connection.send_head("GET", "/ready", tus=False)
        server.signal(signal.SIGTERM)
        assert connection.answer().status in (200, 503)
    assert server.wait() == 0


# Traces


def test_traces_of_a_server(start_server: StartServer) -> None:
    collector = Collector()
    try:
        server = start_server(f"-traces-endpoint={collector.endpoint}")
        trace = "0af7651916cd43dd8448eb211c80319c"
        path = server.client().create(5, b"hello", Traceparent=f"00-{trace}-b7ad6b7169203331-01")
        assert server.terminate() == 0
    finally:
        collector.close()
    span, sync = collector.named("POST"), collector.named("sync")
    assert (span.trace_id.hex(), sync.parent_span_id) == (trace, span.span_id)
    assert facts(span)["tus.upload.id"] == path.rpartition("/")[2]
    assert facts(span)["http.response.status_code"] == 201
    assert facts(span)["tus.body.bytes"] == 5
