"""The log, in tusd's two forms. Events have a name and fields, so that rules written for tusd's log go on matching.

    2024/02/20 15:33:45.474497 level=INFO event=UploadCreated id=abc size=5 url="http://host/files/abc"
    {"time": "2024-02-20T15:33:45.474497+00:00", "level": "INFO", "msg": "UploadCreated", "id": "abc", "size": 5, ...}

One record is one line whatever a client sends: everything outside the printable characters is escaped. Standard library only.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import datetime
from typing import Any, Literal, TextIO

from tusd_py.observability.line_writer import LineWriter

__all__ = ["configure", "divert", "flush", "log_event", "quoted", "timestamp"]

# slog's names; the others are the same.
_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}


def configure(form: Literal["text", "json"], *, verbose: bool, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (stdout, as tusd does). Other libraries are heard from WARNING on."""
    handler = _LogHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tusd_py").setLevel(logging.DEBUG if verbose else logging.INFO)
    # A reader of our output that has gone away is no reason to print a traceback for every request.
    logging.raiseExceptions = False


def divert(writer: LineWriter | None) -> None:
    """From now on, what `configure` has set up puts its lines among this writer's, so that all are in order. None undoes it."""
    for handler in _our_handlers():
        handler.writer = writer


def flush() -> None:
    """Write what is queued: for a process that is about to end without Python's own end."""
    for handler in _our_handlers():
        handler.flush()


def _our_handlers() -> list[_LogHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, _LogHandler)]


def log_event(
    logger: logging.Logger, level: int, event: str, /, *, error: BaseException | None = None, **fields: object
) -> None:
    """Log an event with its fields. When the level is off it costs one look-up: pass values, and let the log format them."""
    if logger.isEnabledFor(level):
        # Not logger.log(): that walks the stack for a line number which neither form shows.
        exc_info = (type(error), error, error.__traceback__) if error else None
        record = logging.LogRecord(logger.name, level, "", 0, event, None, exc_info)
        record.fields = fields
        logger.handle(record)


def timestamp(seconds: float) -> str:
    """As Go's log package writes it: local time with microseconds."""
    whole, microseconds = divmod(round(seconds * 1e6), 1_000_000)
    return f"{time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(whole))}.{microseconds:06}"


def _content(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = dict(getattr(record, "fields", ()))
    if record.exc_info and record.exc_info[1]:
        fields["error"] = repr(record.exc_info[1])
        fields["stack"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _level(record: logging.LogRecord) -> str:
    return _LEVELS.get(record.levelname, record.levelname)


class _LogHandler(logging.StreamHandler[TextIO]):
    """Writes to its stream, or among the lines of a writer if there is one. Python's `logging` flushes it at exit."""

    writer: LineWriter | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.writer is None:
            super().emit(record)
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self.writer.put(f"{line}\n")
        self.writer.hurry()

    def flush(self) -> None:
        if self.writer is not None:
            self.writer.flush()
        super().flush()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = [f" {key}={_text_value(value)}" for key, value in _content(record).items()]
        start = f"{timestamp(record.created)} level={_level(record)} event={_text_value(record.getMessage().strip())}"
        return start + "".join(pairs)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(),
            "level": _level(record),
            "msg": record.getMessage().strip(),
        }
        return json.dumps(head | _content(record), default=str)


def _text_value(value: object) -> str:
    """A value as the text form shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(str(value))


def quoted(text: str) -> str:
    """A text as the text form shows it: slog quotes what is empty, has blanks, quotes or = in it, or cannot be printed."""
    if text.isalnum() and text.isascii():
        return text
    if text and text.isprintable() and " " not in text and '"' not in text and "=" not in text:
        return text
    return json.dumps(text)
