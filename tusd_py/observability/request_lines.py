"""What is told about requests, as lines of the log in tusd's words: events, levels, fields and the order of these.

`RequestLog` notes what happens as tuples; here, in another thread, they become text. The first element of such an entry is the
method that makes its line, so that nothing has to be looked up; the second is when it happened, in seconds since the epoch.

A line of a request says which request it is: method, path and request id, and from when it is known the upload's id, as in
tusd. So what `RequestIncoming` said is kept until `ResponseOutgoing`, under a number that the request has while it runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from tusd_py.observability.line_writer import Dropped
from tusd_py.observability.logs import quoted
from tusd_py.protocol.upload import Upload

__all__ = ["RequestLines"]

Entry = tuple[Any, ...]

_ON_UPLOADS = frozenset({"HEAD", "GET", "PATCH", "DELETE"})


class RequestLines:
    """Makes entries into lines, in one of the two forms. An entry that is a text already is left alone. Used by one thread."""

    def __init__(self, form: Literal["text", "json"]) -> None:
        self._json = form == "json"
        self._quote = json.dumps if self._json else quoted
        self._quote_often = lru_cache(1024)(self._quote)
        self._about: dict[int, str] = {}  # number of a request: what each of its lines says
        self._start, self._zone, self._whole = "", "", 0
        self._end = "}\n" if self._json else "\n"
        key = self._key
        self._method, self._path, self._request_id, self._id = key("method"), key("path"), key("requestId"), key("id")
        self._max_size, self._offset, self._bytes = key("maxSize"), key("offset"), key("bytesWritten")
        self._size, self._url, self._status, self._body = key("size"), key("url"), key("status"), key("body")
        head = self._head
        self._incoming, self._outgoing, self._created = head("RequestIncoming"), head("ResponseOutgoing"), head("UploadCreated")
        self._chunk_start, self._chunk_complete = head("ChunkWriteStart"), head("ChunkWriteComplete")
        self._finished = head("UploadFinished")

    def _key(self, name: str) -> str:
        return f', "{name}": ' if self._json else f" {name}="

    def _head(self, event: str, level: str = "INFO") -> str:
        return f'", "level": "{level}", "msg": "{event}"' if self._json else f" level={level} event={event}"

    def __call__(self, entries: Sequence[Entry | str | Dropped]) -> str:
        # a comparison of types, not isinstance: it is cheaper, and nothing derives from what comes here
        return "".join([entry[0](entry) if type(entry) is tuple else self._other(entry) for entry in entries])

    def _stamp(self, moment: float) -> str:
        """The beginning of a line."""
        whole = int(moment)
        if whole != self._whole:
            self._next_second(whole)
        return f"{self._start}{int((moment - whole) * 1e6):06d}{self._zone}"

    def _next_second(self, whole: int) -> None:
        self._whole = whole
        local = time.localtime(whole)
        if self._json:
            zone = time.strftime("%z", local)
            self._start, self._zone = time.strftime('{"time": "%Y-%m-%dT%H:%M:%S.', local), f"{zone[:3]}:{zone[3:]}"
        else:
            self._start = time.strftime("%Y/%m/%d %H:%M:%S.", local)

    # What every upload tells

    def request_incoming(self, entry: tuple[object, float, int, str, str, str]) -> str:
        _, moment, number, method, path, request_id = entry
        quote = self._quote_often
        about = f"{self._method}{quote(method)}{self._path}{quote(path)}{self._request_id}{quote(request_id)}"
        upload_id = path.strip("/") if path and method in _ON_UPLOADS else ""
        self._about[number] = f"{about}{self._id}{self._quote(upload_id)}" if upload_id else about
        return f"{self._stamp(moment)}{self._incoming}{about}{self._end}"

    def response_outgoing(self, entry: tuple[object, float, int, int, str]) -> str:
        _, moment, number, status, body = entry
        about, text = self._about.pop(number, ""), self._quote_often(body)
        return f"{self._stamp(moment)}{self._outgoing}{about}{self._status}{status}{self._body}{text}{self._end}"

    def upload_created(self, entry: tuple[object, float, int, Upload, str]) -> str:
        _, moment, number, upload, url = entry
        about = f"{self._about.get(number, '')}{self._id}{self._quote(upload.id)}"
        if number in self._about:
            self._about[number] = about
        size = upload.length or 0
        return f"{self._stamp(moment)}{self._created}{about}{self._size}{size}{self._url}{self._quote(url)}{self._end}"

    def chunk_started(self, entry: tuple[object, float, int, Upload, int]) -> str:
        _, moment, number, upload, limit = entry
        about = self._about.get(number) or self._of(upload.id)
        return f"{self._stamp(moment)}{self._chunk_start}{about}{self._max_size}{limit}{self._offset}{upload.offset}{self._end}"

    def chunk_complete(self, entry: tuple[object, float, int, Upload, int]) -> str:
        _, moment, number, upload, count = entry
        about = self._about.get(number) or self._of(upload.id)
        return f"{self._stamp(moment)}{self._chunk_complete}{about}{self._bytes}{count}{self._end}"

    def upload_finished(self, entry: tuple[object, float, int, Upload]) -> str:
        _, moment, number, upload = entry
        about = self._about.get(number) or self._of(upload.id)
        return f"{self._stamp(moment)}{self._finished}{about}{self._size}{upload.offset}{self._end}"

    # What is rare

    def event(self, entry: tuple[object, float, int, str, str, str, tuple[tuple[str, str], ...]]) -> str:
        """Any other event: level, name and fields, of a request or, where there is none, of an upload or of nothing."""
        _, moment, number, upload_id, level, name, fields = entry
        about = self._about.get(number) or (self._of(upload_id) if upload_id else "")
        pairs = "".join([f"{self._key(key)}{self._quote(value)}" for key, value in fields])
        return f"{self._stamp(moment)}{self._head(name, level)}{about}{pairs}{self._end}"

    def _of(self, upload_id: str) -> str:
        return f"{self._id}{self._quote(upload_id)}"

    def _other(self, entry: object) -> str:
        if isinstance(entry, str):
            return entry
        self._about.clear()  # among what is missing may be the end of one request and the beginning of another
        return f"{self._stamp(time.time())}{self._head('LogLinesDropped', 'WARN')}{self._key('count')}{entry}{self._end}"
