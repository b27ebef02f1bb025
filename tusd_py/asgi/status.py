"""Who is uploading what, and how far it has come: `.status/<id>`, `.events/<id>`, `.events` and `.uploads` below the base path.

No id has a segment that begins with a dot, so these names are free. What is about one upload is for whoever may ask for its
offset. What is about many is for an owner: the id of an upload is all that it takes to use it where nobody has to show who they
are, so without authorisation there is no list.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams
from starlette.types import Receive, Send

from tusd_py.asgi.permission import permit
from tusd_py.asgi.requests import Request
from tusd_py.asgi.sse import LAST, STREAM_HEAD, EventStream, host_is_stopping
from tusd_py.ports.authorization import Action, Authorizer
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.refusals import (
    Forbidden,
    InvalidQuery,
    MethodNotAllowed,
    TooManyStreams,
    UploadDamaged,
    UploadGone,
    UploadMissing,
)
from tusd_py.protocol.rules import expires_at
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.progress import Progress, ProgressSource, State, progress_of
from tusd_py.uploads.watches import Everything, One, OwnedBy, Subject
from tusd_py.uploads.watching import Watchers

__all__ = ["Page", "StatusPages"]

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
"""Uploads on a page."""

WINDOW = 2000
"""Records read for a page; where fewer of them match, the page is shorter, and there is a next one all the same."""

IN_ONE_GO = 50
"""Records read on the event loop before other requests get their turn."""

MAX_LISTINGS = 8
"""Pages in the making at once: each looks through the names in the directory."""

LISTED = frozenset(State) - {State.TERMINATED}

_NO_STORE = (b"cache-control", b"no-store")

Head = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Page:
    """A small answer with a body."""

    status: int
    head: Head
    body: bytes = b""

    async def send(self, request: Request, extra: Head, receive: Receive, send: Send) -> int:
        """Answer, and return the status; `extra` goes into the head."""
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.head, *extra]})
        await send({"type": "http.response.body", "body": b"" if request.scope["method"] == "HEAD" else self.body})
        return self.status


class StatusPages:
    """Answers requests below the base path whose first segment begins with a dot.

    `authorizer` decides as it does on tus requests; None where nobody has to show who they are. `interval` is how many seconds
    lie between two samples of a stream, 0.1 at least.
    """

    def __init__(
        self, uploads: ProgressSource, authorizer: Authorizer | None, interval: float = 1.0, *, clock: Clock = system_clock
    ) -> None:
        self._uploads, self._authorizer, self._clock = uploads, authorizer, clock
        self._watchers = Watchers(uploads, interval, clock=clock, stopping=host_is_stopping)
        self._listings = 0

    def begin_shutdown(self) -> None:
        """End all streams, so that the server can stop, and refuse new ones. On the event loop; idempotent."""
        self._watchers.shutdown()

    async def answer(self, request: Request, rest: str) -> Page | EventStream:
        """The answer to a request for `rest`, what stands behind the base path. Raises the `Refusal` that applies."""
        name, _, upload_id = rest.partition("/")
        pages: dict[tuple[str, bool], Callable[[], Awaitable[Page | EventStream]]] = {
            (".status", True): lambda: self._status(request, upload_id),
            (".events", True): lambda: self._events_of_one(request, upload_id),
            (".events", False): lambda: self._events_of_many(request),
            (".uploads", False): lambda: self._list(request),
        }
        page = pages.get((name, bool(upload_id)))
        if page is None:
            raise UploadMissing
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(headers={"Allow": "GET, HEAD, OPTIONS"})
        return await page()

    # One upload

    async def _status(self, request: Request, upload_id: str) -> Page:
        upload, asker = await self._one(request, upload_id)
        return _json(self._described(self._progress(upload), asker))

    async def _events_of_one(self, request: Request, upload_id: str) -> Page | EventStream:
        upload, asker = await self._one(request, upload_id)
        progress = self._progress(upload)
        if request.method == "HEAD":
            return Page(200, STREAM_HEAD)
        if progress.ended and request.headers.get(b"last-event-id") == LAST.encode():
            return Page(204, [_NO_STORE])
        return self._stream(One(upload_id), asker, progress)

    async def _one(self, request: Request, upload_id: str) -> tuple[Upload, _Asker]:
        if not is_valid_id(upload_id):
            raise UploadMissing
        upload = await self._uploads.look(upload_id)
        if self._authorizer is None:
            return upload, _Asker()
        decision = await permit(self._authorizer, request.with_credentials(), Action.DESCRIBE, upload)
        return upload, _Asker(decision.owner)  # whoever has the URL may not be who owns it

    def _progress(self, upload: Upload) -> Progress:
        return progress_of(self._uploads, upload, self._clock(), time.monotonic())

    # Many uploads

    async def _events_of_many(self, request: Request) -> Page | EventStream:
        subject, asker = await self._many(request)
        if request.method == "HEAD":
            return Page(200, STREAM_HEAD)
        return self._stream(subject, asker)

    async def _many(self, request: Request) -> tuple[OwnedBy | Everything, _Asker]:
        """Whose uploads are asked for."""
        if self._authorizer is None:
            raise UploadMissing
        decision = await permit(self._authorizer, request.with_credentials(), Action.LIST, None)
        if decision.any_owner:
            return Everything(), _Asker(everybody=True)
        if decision.owner is None:
            raise Forbidden("the credentials name no owner whose uploads could be shown")
        return OwnedBy(decision.owner), _Asker(decision.owner)

    async def _list(self, request: Request) -> Page:
        subject, asker = await self._many(request)
        query = _read_query(request)
        if self._listings >= MAX_LISTINGS:
            raise TooManyStreams("too many lists are being made; try again later", headers={"Retry-After": "1"})
        self._listings += 1
        try:
            found, cursor = await self._look_through(query, subject)
        finally:
            self._listings -= 1
        return _json({"uploads": [self._described(each, asker) for each in found], "next": cursor})

    async def _look_through(self, query: _Query, subject: Subject) -> tuple[list[Progress], str | None]:
        """What there is behind the cursor, in the order of ids, and where to go on; None at the end."""
        window = await self._window(query.cursor)
        found: list[Progress] = []
        for number, upload_id in enumerate(window, 1):
            if number % IN_ONE_GO == 0:
                await asyncio.sleep(0)
            with suppress(UploadMissing, UploadGone, UploadDamaged):
                upload = await self._uploads.look(upload_id)
                if isinstance(subject, Everything) or subject == OwnedBy(upload.owner or ""):
                    progress = self._progress(upload)
                    if query.state is None or progress.state is query.state:
                        found.append(progress)
            if len(found) == query.limit:
                return found, upload_id if number < len(window) or number == WINDOW else None
        return found, window[-1] if len(window) == WINDOW else None

    async def _window(self, cursor: str) -> list[str]:
        """The next ids behind the cursor."""
        smallest: list[_Descending] = []
        async for upload_id in self._uploads.ids():
            if upload_id <= cursor:
                continue
            if len(smallest) < WINDOW:
                heapq.heappush(smallest, _Descending(upload_id))
            elif upload_id < smallest[0]:
                heapq.heapreplace(smallest, _Descending(upload_id))
        return sorted(map(str, smallest))

    # Common

    def _stream(self, subject: Subject, asker: _Asker, first: Progress | None = None) -> EventStream:
        watch = self._watchers.open(subject, first)
        return EventStream(self._watchers, watch, lambda progress: self._described(progress, asker))

    def _described(self, progress: Progress, asker: _Asker) -> dict[str, Any]:
        """What is told about an upload."""
        upload, receiving = progress.upload, progress.state is State.RECEIVING
        deadline = expires_at(upload.evolve(active_at=self._clock()) if receiving else upload, self._uploads.policy)
        described: dict[str, Any] = {
            "id": upload.id,
            "state": progress.state.value,
            "offset": progress.offset,
            "length": upload.length,
            "finished": progress.state is State.FINISHED,
            "metadata": {key: value.decode("utf-8", "replace") for key, value in upload.metadata.pairs.items()},
            "is_partial": upload.is_partial,
            "is_final": upload.is_final,
            "expires": None if deadline is None else _rfc3339(deadline),
        }
        if upload.failure is not None:
            described["failure"] = upload.failure
        if upload.owner is not None and (asker.everybody or asker.owner == upload.owner):
            described["owner"] = upload.owner
        if receiving:
            described["started_at"] = None if progress.started_at is None else _rfc3339(progress.started_at)
            described["bytes_per_second"] = None if progress.rate is None else round(progress.rate)
        return described


@dataclass(frozen=True, slots=True)
class _Asker:
    """To whom an upload is described: who owns it is told to its owner, and to who may list the uploads of everybody."""

    owner: str | None = None
    everybody: bool = False


@dataclass(frozen=True, slots=True)
class _Query:
    state: State | None
    limit: int
    cursor: str


def _read_query(request: Request) -> _Query:
    """The parameters of the list. Raises `InvalidQuery`."""
    query = QueryParams(request.scope.get("query_string", b""))
    if unknown := set(query) - {"state", "limit", "cursor"}:
        raise InvalidQuery(f"unknown parameter {min(unknown)!r}: state, limit or cursor expected")
    state, limit, cursor = query.get("state"), query.get("limit", str(DEFAULT_LIMIT)), query.get("cursor", "")
    if state is not None and state not in LISTED:
        raise InvalidQuery(f"state is {state!r}: one of {', '.join(sorted(LISTED))} expected")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidQuery(f"limit is {limit!r}: a number from 1 to {MAX_LIMIT} expected")
    if cursor and not is_valid_id(cursor):
        raise InvalidQuery("cursor is not one that was given out")
    return _Query(None if state is None else State(state), int(limit), cursor)


class _Descending(str):
    """An id that is less than those before it in the alphabet, for a heap with the last one at its top."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _json(value: dict[str, Any]) -> Page:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Page(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), _NO_STORE], body)


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
