"""GET: bytes out, by zero-copy where the server offers it. Rows G01 to G12. HEAD of a browser: what a GET would say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from email.utils import formatdate
from typing import Self

from starlette.responses import StreamingResponse
from starlette.types import Receive, Send

from tusd_py.asgi.requests import Request
from tusd_py.ports.datastore import Content, Extent
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.downloads import Form, Selection, content_headers, select
from tusd_py.protocol.negotiation import IDENTITY, repr_digest
from tusd_py.protocol.upload import Upload

__all__ = ["Download"]

ZERO_COPY = "http.response.zerocopysend"
PIECE = 1024 * 1024
"""Bytes that are read at once where there is no zero-copy. A read has a price of its own, as it takes a thread: a quarter of
this halves the speed, four times as much gains nothing. A client that is slow to take them keeps two pieces in memory."""

Head = list[tuple[bytes, bytes]]


class Download:
    """The answer to a GET, or to a HEAD that is no client's of tus. `begin` makes it; `send` is called once, and ends it."""

    __slots__ = ("_content", "_extents", "_first", "_form", "_head", "_selection", "_upload", "_varies")

    def __init__(self, request: Request, upload: Upload, content: Content, described: Head) -> None:
        self._upload, self._content = upload, content
        coded = content.encodings if upload.finished else {}
        self._varies = bool(coded)
        etag = _etag(upload, content, content)
        self._selection = selection = select(
            request.headers,
            content.size,
            etag,
            content.modified if upload.finished else None,
            coded={coding: Form(form.size, _etag(upload, content, form)) for coding, form in coded.items()},
            ranges=request.method == "GET",
        )
        self._form = form = coded.get(selection.coding, content)
        self._head = described + _head(content, selection, etag if form is content else _etag(upload, content, form))
        if selection.status in (200, 206):
            self._head += content_headers(upload.metadata)
            if upload.finished and (digest := repr_digest(form.digests, request.headers.get(b"want-repr-digest"))):
                self._head.append((b"repr-digest", digest))
        self._extents: Sequence[Extent] | None = None
        self._first = b""

    @classmethod
    async def begin(
        cls, request: Request, upload: Upload, content: Content, described: Sequence[tuple[bytes, bytes]] = ()
    ) -> Self:
        """Decide what a request gets of `content`, and have the first bytes at hand: what can't be read is a refusal as long as
        there is no answer yet. `described` goes into the head. Takes `content` over. Raises `StorageFailure`."""
        try:
            download = cls(request, upload, content, list(described))
            await download._read_first(request)
        except BaseException:
            await content.close()
            raise
        return download

    async def _read_first(self, request: Request) -> None:
        start, count = self._selection.start, self._selection.end - self._selection.start
        if not count or request.scope["method"] == "HEAD":
            return
        if ZERO_COPY in (request.scope.get("extensions") or {}):
            self._extents = self._form.extents(start, count)
        if self._extents is None:
            self._first = await _read(self._form, start, self._selection.end)

    async def send(self, request: Request, extra: Head, receive: Receive, send: Send) -> int:
        """Answer, and return the status; `extra` goes into the head. A failure on the way cuts the connection."""
        try:
            head = self._head + (_varied(extra) if self._varies else extra)
            await self._send(request, head, receive, send)
        finally:
            await self._content.close()
        return self._selection.status

    async def _send(self, request: Request, head: Head, receive: Receive, send: Send) -> None:
        selection = self._selection
        if 0 < len(self._first) < selection.end - selection.start:
            response = StreamingResponse(self._pieces(), status_code=selection.status)
            response.raw_headers = head
            await response(request.scope, receive, send)
            return
        await send({"type": "http.response.start", "status": selection.status, "headers": head})
        for file, offset, size in self._extents or ():
            await send({"type": ZERO_COPY, "file": file, "offset": offset, "count": size, "more_body": True})
        await send({"type": "http.response.body", "body": self._first})

    async def _pieces(self) -> AsyncIterator[bytes]:
        piece, self._first = self._first, b""
        offset, end = self._selection.start + len(piece), self._selection.end
        yield piece
        while offset < end:
            try:
                piece = await _read(self._form, offset, end)
            except StorageFailure as failure:
                raise StorageFailure(f"the download of {self._upload.id} broke off at byte {offset}: {failure}") from failure
            offset += len(piece)
            yield piece


async def _read(content: Content, offset: int, end: int) -> bytes:
    """The next bytes. Raises `StorageFailure`, also where there are none: never a short 200."""
    piece = await content.read(offset, min(PIECE, end - offset))
    if not piece:
        raise StorageFailure(f"{end - offset} bytes are missing at the end")
    return piece


def _etag(upload: Upload, content: Content, form: Content) -> bytes | None:
    """A strong ETag; none while the bytes may change at any moment."""
    if not upload.finished:
        return None
    version = form.version.encode()
    return b'"%s"' % version if content.is_named_by_content else b'"%s-%s"' % (upload.id.encode(), version)


def _head(content: Content, selection: Selection, etag: bytes | None) -> Head:
    head: Head = [(b"accept-ranges", b"bytes")]
    if etag is not None:
        head += [(b"etag", etag), (b"last-modified", formatdate(content.modified, usegmt=True).encode())]
    else:
        head.append((b"cache-control", b"no-store"))  # more bytes may come
    if selection.status == 304:
        return head
    if selection.coding != IDENTITY and selection.status == 200:
        head.append((b"content-encoding", selection.coding.encode()))
    if selection.status == 206:
        head.append((b"content-range", b"bytes %d-%d/%d" % (selection.start, selection.end - 1, content.size)))
    elif selection.status == 416:
        head.append((b"content-range", b"bytes */%d" % content.size))
    head.append((b"content-length", b"%d" % (selection.end - selection.start)))
    return head


def _varied(extra: Head) -> Head:
    """`extra` with a Vary that says that forms are chosen by Accept-Encoding, beside what it says already."""
    said = [value for name, value in extra if name == b"vary"]
    return [(b"vary", b", ".join([*said, b"Accept-Encoding"])), *(pair for pair in extra if pair[0] != b"vary")]
