"""The observer that logs, with tusd's events at tusd's levels. It notes on the event loop; lines are made in a thread."""

from __future__ import annotations

from time import time

from tusd_py.observability.line_writer import LineWriter
from tusd_py.observability.request_lines import RequestLines
from tusd_py.ports.call import Call
from tusd_py.ports.observer import NoObserver
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.upload import Upload

__all__ = ["RequestLog"]

BODY_ERRORS = frozenset(
    {
        "ERR_MALFORMED_BODY",
        "ERR_READ_TIMEOUT",
        "ERR_SERVER_SHUTDOWN",
        "ERR_UNEXPECTED_EOF",
        "ERR_UPLOAD_INTERRUPTED",
        "ERR_UPLOAD_STOPPED",
    }
)
"""Refusals which say that a body could not be read to its end: tusd's BodyReadError."""


class RequestLog(NoObserver):
    """Notes what happens for `lines`, which `writer` makes lines with. Without `verbose` nothing of debug level.

    A creation with its bytes is six lines. Each method is therefore as short as can be: it appends to the writer's queue
    itself, which saves a call, and looks at one flag.
    """

    def __init__(self, writer: LineWriter, lines: RequestLines, *, verbose: bool = True) -> None:
        self._writer, self._append, self._lines, self._verbose = writer, writer.append, lines, verbose
        self._incoming, self._outgoing, self._created = lines.request_incoming, lines.response_outgoing, lines.upload_created
        self._started, self._complete, self._finished = lines.chunk_started, lines.chunk_complete, lines.upload_finished

    def request_incoming(self, call: Call) -> None:
        self._append((self._incoming, time(), id(call), call.name, call.path, call.request_id))
        if self._writer.attention or self._writer.crowded:  # once a request is often enough
            self._writer.attend()

    def response_outgoing(self, call: Call, status: int, refusal: Refusal | None, duration: float) -> None:
        body = "" if refusal is None else self._refused(call, refusal)
        self._append((self._outgoing, time(), id(call), status, body))
        if self._writer.attention:
            self._writer.attend()

    def upload_created(self, call: Call, upload: Upload) -> None:
        self._append((self._created, time(), id(call), upload, call.url_of(upload.id)))
        if self._writer.attention:
            self._writer.attend()

    def chunk_started(self, call: Call, upload: Upload, limit: int) -> None:
        self._append((self._started, time(), id(call), upload, limit))
        if self._writer.attention:
            self._writer.attend()

    def chunk_complete(self, call: Call, upload: Upload, count: int, duration: float) -> None:
        self._append((self._complete, time(), id(call), upload, count))
        if self._writer.attention:
            self._writer.attend()

    def upload_finished(self, call: Call, upload: Upload) -> None:
        self._append((self._finished, time(), id(call), upload))
        if self._writer.attention:
            self._writer.attend()

    def upload_terminated(self, call: Call, upload: Upload) -> None:
        self._tell("INFO", "UploadTerminated", number=id(call), upload_id=upload.id)

    def upload_interrupted(self, upload_id: str) -> None:
        self._tell("INFO", "UploadInterrupted", upload_id=upload_id)

    def upload_stopped(self, upload_id: str) -> None:
        self._tell("INFO", "HookStopUpload", upload_id=upload_id)

    def hook_started(self, kind: HookType, upload_id: str) -> None:
        if self._verbose:
            self._tell("DEBUG", "HookInvocationStart", ("type", kind), ("id", upload_id))

    def hook_complete(self, kind: HookType, upload_id: str, duration: float) -> None:
        if self._verbose:
            self._tell("DEBUG", "HookInvocationFinish", ("type", kind), ("id", upload_id))

    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None:
        self._tell("ERROR", "HookInvocationError", ("type", kind), ("id", upload_id), ("error", error))

    def _refused(self, call: Call, refusal: Refusal) -> str:
        """The body of the answer; and before the answer, the log says what tusd's says of the cause."""
        if refusal.code in BODY_ERRORS:
            self._tell("ERROR", "BodyReadError", ("error", f"{refusal.code}: {refusal}"), number=id(call))
        elif refusal.code == "ERR_INTERNAL_SERVER_ERROR":
            self._tell("ERROR", "InternalServerError", ("message", str(refusal.__cause__ or refusal)), number=id(call))
        return "" if call.name == "HEAD" else refusal.body

    def _tell(self, level: str, event: str, *fields: tuple[str, str], number: int = 0, upload_id: str = "") -> None:
        self._writer.put((self._lines.event, time(), number, upload_id, level, event, fields))
