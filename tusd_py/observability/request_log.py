"""The observer that logs, with tusd's events at tusd's levels. Lines are made a little later, and written by a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from time import time_ns

from tusd_py.observability.line_writer import LineWriter
from tusd_py.observability.request_lines import ANSWERED, COMPLETE, CREATED, FINISHED, OTHER, STARTED, Notes, RequestLines
from tusd_py.ports.call import NO_CALL, Call
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


GATHER = 0.02
"""Seconds after which what has happened is made into lines: a request that is over by then is made into text in one go."""

BATCH = 50
"""Requests made into text before the event loop turns: some 0.2 ms."""


class RequestLog(NoObserver):
    """Notes what happens, and lets `lines` make text of it for `writer`. Without `verbose` nothing of debug level.

    A creation with its bytes is six lines. Each method is therefore as short as can be: it appends to the notes of its request.
    The text is made on the event loop, at leisure: in a thread, which would be less of a delay for others, every change between
    loop and thread costs as much as some lines. Without a running loop it is made at once.
    """

    def __init__(self, writer: LineWriter, lines: RequestLines, *, verbose: bool = True) -> None:
        self._writer, self._lines, self._verbose = writer, lines, verbose
        self._waiting: deque[Notes] = deque()
        writer.before_flush = self.flush
        self._scheduled = False

    def _queue(self, notes: Notes) -> None:
        """Have these notes read some time soon."""
        self._waiting.append(notes)
        if not self._scheduled:
            self._schedule(GATHER)

    def _schedule(self, delay: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._scheduled = True
            loop.call_later(delay, self._write_some)

    def _write_some(self) -> None:
        self._scheduled = False
        waiting, put, text_of = self._waiting, self._writer.put, self._lines.request
        for _ in range(min(BATCH, len(waiting))):
            put(text_of(waiting.popleft()))
        if waiting:
            self._schedule(0.0)

    def flush(self) -> None:
        """Give the writer everything that has been noted."""
        while self._waiting:
            self._writer.put(self._lines.request(self._waiting.popleft()))

    async def close(self) -> None:
        """Give the writer everything, at the end."""
        self.flush()

    def request_incoming(self, call: Call) -> None:
        notes = call.notes = Notes(time_ns(), call.name, call.path, call.request_id)
        self._waiting.append(notes)
        if not self._scheduled:
            self._schedule(GATHER)

    def response_outgoing(self, call: Call, status: int, refusal: Refusal | None, duration: float) -> None:
        body = "" if refusal is None else self._refused(call, refusal)
        if (notes := call.notes) is not None:
            notes.append((ANSWERED, time_ns(), status, body))
            if notes.seen:
                self._queue(notes)

    def upload_created(self, call: Call, upload: Upload) -> None:
        if (notes := call.notes) is not None:
            notes.append((CREATED, time_ns(), upload, call.url_of(upload.id)))
            if notes.seen:
                self._queue(notes)

    def chunk_started(self, call: Call, upload: Upload, limit: int) -> None:
        if (notes := call.notes) is not None:
            notes.append((STARTED, time_ns(), limit, upload.offset))
            if notes.seen:
                self._queue(notes)

    def chunk_complete(self, call: Call, upload: Upload, count: int, duration: float) -> None:
        if (notes := call.notes) is not None:
            notes.append((COMPLETE, time_ns(), count))
            if notes.seen:
                self._queue(notes)

    def upload_finished(self, call: Call, upload: Upload) -> None:
        if (notes := call.notes) is not None:
            notes.append((FINISHED, time_ns(), upload.offset))
            if notes.seen:
                self._queue(notes)
        else:  # in the background
            self._tell("INFO", "UploadFinished", ("id", upload.id), ("size", str(upload.offset)))

    def upload_terminated(self, call: Call, upload: Upload) -> None:
        self._tell("INFO", "UploadTerminated", ("id", upload.id), call=call)

    def upload_interrupted(self, upload_id: str) -> None:
        self._tell("INFO", "UploadInterrupted", ("id", upload_id))

    def upload_stopped(self, upload_id: str) -> None:
        self._tell("INFO", "HookStopUpload", ("id", upload_id))

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
            self._tell("ERROR", "BodyReadError", ("error", f"{refusal.code}: {refusal}"), call=call)
        elif refusal.code == "ERR_INTERNAL_SERVER_ERROR":
            self._tell("ERROR", "InternalServerError", ("message", str(refusal.__cause__ or refusal)), call=call)
        return "" if call.name == "HEAD" else refusal.body

    def _tell(self, level: str, event: str, *fields: tuple[str, str], call: Call = NO_CALL) -> None:
        """An event of a request, whose lines name the upload anyway, or of none."""
        notes = call.notes
        if notes is None:
            self._writer.put(self._lines.line(time_ns(), level, event, fields))
            return
        notes.append((OTHER, time_ns(), level, event, fields[1:] if fields and fields[0][0] == "id" else fields))
        if notes.seen:
            self._queue(notes)
