"""What is told about requests, as lines of the log in tusd's words: events, levels, fields and the order of these.

`RequestLog` notes what happens, request by request; here the notes become text. What happened first, the request's arrival, is
kept apart, as each of its lines repeats it: method, path and request id, and from when it is known the upload's id, as in tusd.
A request that is over by the time that its notes are read is made into text in one go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from tusd_py.observability.line_writer import Dropped
from tusd_py.observability.logs import quoted

__all__ = ["ANSWERED", "COMPLETE", "CREATED", "FINISHED", "OTHER", "STARTED", "Event", "Notes", "RequestLines"]

Event = tuple[Any, ...]
"""What kind it is, when it happened in nanoseconds since the epoch, and what its line says."""

CREATED, STARTED, COMPLETE, FINISHED, ANSWERED, OTHER = range(6)
"""Kinds of events; OTHER has level, name and fields of its own."""

_WHOLE_UPLOAD = [CREATED, STARTED, COMPLETE, FINISHED, ANSWERED]

SECOND = 1_000_000_000

_ON_UPLOADS = frozenset({"HEAD", "GET", "PATCH", "DELETE"})


class Notes(list[Event]):
    """What has happened to one request since it came in. Once they have been read (`seen`), notes have to be queued again for
    further events to be read."""

    __slots__ = ("about", "arrived", "method", "path", "request_id", "seen", "told")

    def __init__(self, arrived: int, method: str, path: str, request_id: str) -> None:
        self.arrived, self.method, self.path, self.request_id = arrived, method, path, request_id
        self.seen = False
        self.told = 0
        self.about = ""


class RequestLines:
    """Makes notes into lines, in one of the two forms. Used by one thread."""

    def __init__(self, form: Literal["text", "json"]) -> None:
        self._json = form == "json"
        self._quote = _json_quoted if self._json else quoted
        self._quote_often = lru_cache(1024)(self._quote)
        self._start, self._zone, self._second = "", "", 0
        self._end = "}\n" if self._json else "\n"
        key = self._key
        self._method, self._path, self._request_id, self._id = key("method"), key("path"), key("requestId"), key("id")
        self._max_size, self._offset, self._bytes = key("maxSize"), key("offset"), key("bytesWritten")
        self._size, self._url, self._status, self._body = key("size"), key("url"), key("status"), key("body")
        head = self._head
        self._incoming, self._outgoing, self._created = head("RequestIncoming"), head("ResponseOutgoing"), head("UploadCreated")
        self._chunk_start, self._chunk_complete = head("ChunkWriteStart"), head("ChunkWriteComplete")
        self._finished = head("UploadFinished")
        self._makers = (
            self._say_created, self._say_started, self._say_complete, self._say_finished, self._say_outgoing, self._say,
        )  # fmt: skip

    def _key(self, name: str) -> str:
        return f', "{name}": ' if self._json else f" {name}="

    def _head(self, event: str, level: str = "INFO") -> str:
        return f'", "level": "{level}", "msg": "{event}"' if self._json else f" level={level} event={event}"

    def __call__(self, entries: Sequence[str | Dropped]) -> str:
        """What a `LineWriter` has to write: texts, and how many are missing."""
        return "".join([entry if isinstance(entry, str) else self._missing(entry) for entry in entries])

    def _missing(self, count: Dropped) -> str:
        return self.line(time.time_ns(), "WARN", "LogLinesDropped", (("count", str(int(count))),))

    def _stamp(self, moment: int) -> str:
        """The beginning of a line."""
        age = moment - self._second
        if not 0 <= age < SECOND:
            age = self._next_second(moment)
        return f"{self._start}{str(age // 1000).zfill(6)}{self._zone}"

    def _next_second(self, moment: int) -> int:
        """Prepare what all lines of this second begin with; returns how much of it is over."""
        seconds, age = divmod(moment, SECOND)
        self._second = moment - age
        local = time.localtime(seconds)
        if self._json:
            zone = time.strftime("%z", local)
            self._start, self._zone = time.strftime('{"time": "%Y-%m-%dT%H:%M:%S.', local), f"{zone[:3]}:{zone[3:]}"
        else:
            self._start = time.strftime("%Y/%m/%d %H:%M:%S.", local)
        return age

    # Requests

    def request(self, notes: Notes) -> str:
        """All lines of a request that have not been written yet."""
        first = not notes.seen
        notes.seen = True
        told = notes.told
        events = notes[told:]
        notes.told = told + len(events)
        if not first:
            return "".join([self._makers[event[0]](notes, event) for event in events])
        quote = self._quote_often
        method, path = notes.method, notes.path
        notes.about = f"{self._method}{quote(method)}{self._path}{quote(path)}{self._request_id}{quote(notes.request_id)}"
        if (
            len(events) == 5
            and [event[0] for event in events] == _WHOLE_UPLOAD
            and notes.arrived >= events[4][1] - events[4][1] % SECOND
        ):
            return self._at_once(notes, events)
        line = f"{self._stamp(notes.arrived)}{self._incoming}{notes.about}{self._end}"
        if path and method in _ON_UPLOADS:
            notes.about += f"{self._id}{self._quote(path.strip('/'))}"
        return line + "".join([self._makers[event[0]](notes, event) for event in events])

    def _at_once(self, notes: Notes, events: list[Event]) -> str:
        """The six lines of a creation with all bytes, within one second: those of nearly every small file."""
        (_, created, upload, url), (_, started, limit, offset), (_, complete, count), (_, finished, size), last = events
        _, answered, status, body = last
        if not 0 <= answered - self._second < SECOND:
            self._next_second(answered)
        second, start, zone, begin, end = self._second, self._start, self._zone, notes.about, self._end
        address = self._quote(url)
        upload_id = upload.id if address is url else self._quote(upload.id)  # it is a part of the address
        about = f"{begin}{self._id}{upload_id}"
        # One f-string, and no template with `%`, which costs twice as much.
        return (
            f"{start}{str((notes.arrived - second) // 1000).zfill(6)}{zone}{self._incoming}{begin}{end}"
            f"{start}{str((created - second) // 1000).zfill(6)}{zone}{self._created}{about}"
            f"{self._size}{upload.length or 0}{self._url}{address}{end}"
            f"{start}{str((started - second) // 1000).zfill(6)}{zone}{self._chunk_start}{about}"
            f"{self._max_size}{limit}{self._offset}{offset}{end}"
            f"{start}{str((complete - second) // 1000).zfill(6)}{zone}{self._chunk_complete}{about}{self._bytes}{count}{end}"
            f"{start}{str((finished - second) // 1000).zfill(6)}{zone}{self._finished}{about}{self._size}{size}{end}"
            f"{start}{str((answered - second) // 1000).zfill(6)}{zone}{self._outgoing}{about}"
            f"{self._status}{status}{self._body}{self._quote_often(body)}{end}"
        )

    def _say_created(self, notes: Notes, event: Event) -> str:
        _, moment, upload, url = event
        notes.about += f"{self._id}{self._quote(upload.id)}"
        size = upload.length or 0
        return f"{self._stamp(moment)}{self._created}{notes.about}{self._size}{size}{self._url}{self._quote(url)}{self._end}"

    def _say_started(self, notes: Notes, event: Event) -> str:
        _, moment, limit, offset = event
        return f"{self._stamp(moment)}{self._chunk_start}{notes.about}{self._max_size}{limit}{self._offset}{offset}{self._end}"

    def _say_complete(self, notes: Notes, event: Event) -> str:
        _, moment, count = event
        return f"{self._stamp(moment)}{self._chunk_complete}{notes.about}{self._bytes}{count}{self._end}"

    def _say_finished(self, notes: Notes, event: Event) -> str:
        _, moment, size = event
        return f"{self._stamp(moment)}{self._finished}{notes.about}{self._size}{size}{self._end}"

    def _say_outgoing(self, notes: Notes, event: Event) -> str:
        _, moment, status, body = event
        text = self._quote_often(body)
        return f"{self._stamp(moment)}{self._outgoing}{notes.about}{self._status}{status}{self._body}{text}{self._end}"

    def _say(self, notes: Notes | None, event: Event) -> str:
        """Any other event: level, name and fields, of a request or of none."""
        _, moment, level, name, fields = event
        about = "" if notes is None else notes.about
        pairs = "".join([f"{self._key(key)}{self._quote(value)}" for key, value in fields])
        return f"{self._stamp(moment)}{self._head(name, level)}{about}{pairs}{self._end}"

    def line(self, moment: int, level: str, event: str, fields: tuple[tuple[str, str], ...]) -> str:
        """An event of no request, such as that lines are missing."""
        return self._say(None, (OTHER, moment, level, event, fields))


def _json_quoted(text: str) -> str:
    return f'"{text}"' if text.isalnum() and text.isascii() else json.dumps(text)
