"""The observer that traces, over OpenTelemetry: a span for a request, and in it spans for hooks and syncs.

Imports OpenTelemetry, which is an optional dependency (`pip install 'tusd-py[otel]'`): only import this when traces are wanted.
Spans go to a collector over OTLP/HTTP, from a thread of the library's with a bounded queue; when the collector is away, spans
are lost and nothing else happens. Resource attributes, sampling and the rest are set by OpenTelemetry's own variables.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tusd_py.ports.call import Call
from tusd_py.ports.observer import NoObserver
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.upload import Upload

__all__ = ["Traces"]

SERVICE, UNKNOWN = "tusd-py", "unknown_service"

EXPORT_TIMEOUT = 5.0
"""Seconds that the collector may take for a batch, and a server that stops for its last one."""

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})

_W3C = TraceContextTextMapPropagator()
_HEADERS = {"traceparent": "Traceparent", "tracestate": "Tracestate"}

# A request is told about in the task that serves it, and so is what happens on its behalf.
_span: ContextVar[Span | None] = ContextVar("tusd_py.span", default=None)


class Traces(NoObserver):
    """Sends spans to `endpoint`, a URL such as `http://localhost:4318/v1/traces`. Starts a thread; `close` ends it."""

    def __init__(self, endpoint: str) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=EXPORT_TIMEOUT)))
        self._tracer = self._provider.get_tracer("tusd_py")

    def flush(self) -> bool:
        """Send what has ended; False if that was not possible in time. Blocks."""
        return self._provider.force_flush(int(EXPORT_TIMEOUT * 1000))

    def close(self) -> None:
        """Send what has ended, if the collector takes it, and stop. Blocks."""
        self._provider.shutdown()

    def request_incoming(self, call: Call) -> None:
        name = call.name if call.name in METHODS else "HTTP"
        span = self._tracer.start_span(name, _context_of(call), SpanKind.SERVER)
        if span.is_recording():
            span.set_attribute("http.request.method", call.name)
            span.set_attribute("url.path", call.path)
            if call.request_id:
                span.set_attribute("tusd.request_id", call.request_id)
            if call.path and name in ("GET", "HEAD", "PATCH", "DELETE"):
                span.set_attribute("tus.upload.id", call.path.strip("/"))
        _span.set(span)

    def response_outgoing(self, call: Call, status: int, refusal: Refusal | None, duration: float) -> None:
        span = _span.get()
        if span is None:
            return
        _span.set(None)
        span.set_attribute("http.response.status_code", status)
        if refusal is not None:
            span.set_attribute("error.type", refusal.code)
        if status >= 500:
            span.set_status(StatusCode.ERROR, str(refusal) if refusal else None)
        span.end()

    def upload_created(self, call: Call, upload: Upload) -> None:
        self._note("UploadCreated", {"tus.upload.id": upload.id, "tus.upload.length": upload.length or 0})

    def chunk_complete(self, call: Call, upload: Upload, count: int, duration: float) -> None:
        self._note("ChunkWriteComplete", {"tus.body.bytes": count, "tus.upload.id": upload.id})
        self._child("receive", duration, {"tus.upload.id": upload.id, "tus.body.bytes": count})

    def upload_finished(self, call: Call, upload: Upload) -> None:
        self._note("UploadFinished", {"tus.upload.id": upload.id})

    def upload_terminated(self, call: Call, upload: Upload) -> None:
        self._note("UploadTerminated", {"tus.upload.id": upload.id})

    def hook_complete(self, kind: HookType, upload_id: str, duration: float) -> None:
        self._child(f"hook {kind}", duration, {"tus.hook.type": kind.value, "tus.upload.id": upload_id})

    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None:
        self._child(f"hook {kind}", duration, {"tus.hook.type": kind.value, "tus.upload.id": upload_id}, error)

    def synced(self, duration: float) -> None:
        self._child("sync", duration, {})

    def took_over(self, duration: float) -> None:
        self._child("wait for the lock", duration, {})

    def _note(self, event: str, facts: Mapping[str, str | int]) -> None:
        """An event of the request's span, whose facts are the span's from now on."""
        span = _span.get()
        if span is not None:
            span.set_attributes(facts)
            span.add_event(event)

    def _child(self, name: str, duration: float, facts: Mapping[str, str | int], error: str | None = None) -> None:
        """A span that has just ended: of the request, or of its own where there is no request."""
        now = time.time_ns()
        parent = _span.get()
        context = Context() if parent is None else trace.set_span_in_context(parent, Context())
        span = self._tracer.start_span(name, context, attributes=facts, start_time=now - int(duration * 1e9))
        if error is not None:
            span.set_status(StatusCode.ERROR, error)
        span.end(now)


def _resource() -> Resource:
    """What OpenTelemetry's variables say of this process; our name, where they give it none."""
    found = Resource.create()
    named = not str(found.attributes.get("service.name", UNKNOWN)).startswith(UNKNOWN)
    return found if named else found.merge(Resource({"service.name": SERVICE}))


def _context_of(call: Call) -> Context:
    """Of whoever the request comes from, as its `traceparent` says."""
    request = call.http_request()
    carrier = {key: value for key, name in _HEADERS.items() if (value := request.header(name))}
    return _W3C.extract(carrier, Context())
