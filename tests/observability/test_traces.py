"""Traces, as a collector gets them: a receiver of our own takes OTLP over HTTP."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.observability.support import RecordedCall, tell_small_upload, upload_of
from tusd_py.observability.traces import Traces
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import HookFailed, MismatchedOffset

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes spans at `endpoint`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    collector.resource.update({each.key: each.value.string_value for each in resource.resource.attributes})
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def facts(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traces(collector: Collector) -> Iterator[Traces]:
    made = Traces(collector.endpoint)
    yield made
    made.close()


def in_a_task(work: Any) -> None:
    async def run() -> None:
        work()

    asyncio.run(run())


def test_a_request_and_what_was_done_for_it(traces: Traces, collector: Collector) -> None:
    in_a_task(lambda: tell_small_upload(traces, RecordedCall(request_id="r-1")))
    assert traces.flush()
    span, sync, receive = collector.named("POST"), collector.named("sync"), collector.named("receive")
    assert facts(span) == {
        "http.request.method": "POST",
        "url.path": "",
        "tusd.request_id": "r-1",
        "tus.upload.id": upload_of().id,
        "tus.upload.length": 4096,
        "tus.body.bytes": 4096,
        "http.response.status_code": 201,
    }
    assert [event.name for event in span.events] == ["UploadCreated", "ChunkWriteComplete", "UploadFinished"]
    assert sync.parent_span_id == receive.parent_span_id == span.span_id
    assert sync.trace_id == span.trace_id
    assert sync.end_time_unix_nano - sync.start_time_unix_nano == 10_000_000
    assert (span.kind, span.parent_span_id) == (span.SPAN_KIND_SERVER, b"")
    assert collector.resource["service.name"] == "tusd-py"


def test_the_trace_of_who_asks_goes_on(traces: Traces, collector: Collector) -> None:
    call = RecordedCall("HEAD", "abc", headers={"Traceparent": (PARENT,)})

    def work() -> None:
        traces.request_incoming(call)
        traces.response_outgoing(call, 200, None, 0.1)

    in_a_task(work)
    assert traces.flush()
    span = collector.named("HEAD")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert facts(span)["tus.upload.id"] == "abc"


def test_hooks_and_refusals(traces: Traces, collector: Collector) -> None:
    call = RecordedCall("PATCH", "abc")

    def work() -> None:
        traces.request_incoming(call)
        traces.hook_complete(HookType.PRE_FINISH, "abc", 0.25)
        traces.hook_failed(HookType.PRE_TERMINATE, "abc", 0.25, "exit status 1")
        traces.took_over(0.5)
        traces.response_outgoing(call, 500, HookFailed(), 0.1)

    in_a_task(work)
    assert traces.flush()
    span, good, bad = collector.named("PATCH"), collector.named("hook pre-finish"), collector.named("hook pre-terminate")
    assert facts(good) == {"tus.hook.type": "pre-finish", "tus.upload.id": "abc"}
    assert (good.status.code, bad.status.code, bad.status.message) == (0, 2, "exit status 1")
    assert {good.parent_span_id, bad.parent_span_id, collector.named("wait for the lock").parent_span_id} == {span.span_id}
    assert facts(span)["error.type"] == "ERR_INTERNAL_SERVER_ERROR"
    assert span.status.code == 2


def test_a_refusal_of_the_client_is_no_error_of_ours(traces: Traces, collector: Collector) -> None:
    call = RecordedCall("PATCH", "abc")

    def work() -> None:
        traces.request_incoming(call)
        traces.response_outgoing(call, 409, MismatchedOffset(), 0.1)

    in_a_task(work)
    assert traces.flush()
    assert (facts(collector.named("PATCH"))["error.type"], collector.named("PATCH").status.code) == ("ERR_MISMATCHED_OFFSET", 0)


def test_what_no_request_has_caused_is_a_trace_of_its_own(traces: Traces, collector: Collector) -> None:
    in_a_task(lambda: traces.hook_complete(HookType.POST_FINISH, "abc", 0.25))
    assert traces.flush()
    assert collector.named("hook post-finish").parent_span_id == b""


async def test_requests_at_once_are_kept_apart(traces: Traces, collector: Collector) -> None:
    both = asyncio.Barrier(2)

    async def request(name: str) -> None:
        call = RecordedCall("PATCH", name)
        traces.request_incoming(call)
        await both.wait()
        traces.hook_complete(HookType.PRE_FINISH, name, 0.1)
        await both.wait()
        traces.response_outgoing(call, 204, None, 0.1)

    await asyncio.gather(request("one"), request("two"))
    assert await asyncio.to_thread(traces.flush)
    requests = {span.span_id: facts(span)["tus.upload.id"] for span in collector.spans if span.name == "PATCH"}
    hooks = {span.parent_span_id: facts(span)["tus.upload.id"] for span in collector.spans if span.name == "hook pre-finish"}
    assert requests == hooks and len(requests) == 2


def test_the_name_of_the_service_can_be_set(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "uploads")
    traces = Traces(collector.endpoint)
    in_a_task(lambda: traces.hook_complete(HookType.POST_FINISH, "abc", 0.25))
    traces.close()
    assert collector.resource["service.name"] == "uploads"
    assert collector.spans


def test_a_collector_that_is_away_costs_spans_and_nothing_else(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        traces = Traces(f"http://127.0.0.1:{unused.getsockname()[1]}/v1/traces")
        in_a_task(lambda: tell_small_upload(traces))
        traces.close()
    assert "Traceback" not in caplog.text


def test_nothing_is_imported_when_off() -> None:
    code = (
        "import sys; from tusd_py.settings import Settings; from tusd_py.assembly.observability import build_observability;"
        "build_observability(Settings());"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "[]\n"
