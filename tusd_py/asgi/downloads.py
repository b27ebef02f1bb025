"""GET: bytes out, by zero-copy where the server offers it. Rows G01 to G12."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import formatdate

from starlette.responses import StreamingResponse
from starlette.types import Receive, Send

from tusd_py.asgi.requests import Request
from tusd_py.ports.datastore import Content
from tusd_py.protocol.downloads import Selection, content_headers, select
from tusd_py.protocol.upload import Upload

__all__ = ["Download"]

ZERO_COPY = "http.response.zerocopysend"
PIECE = 256 * 1024

Head = list[tuple[bytes, bytes]]


class Download:
    """An upload opened for reading, to be sent as the answer to a GET. `send` is called once, and closes it."""

    __slots__ = ("_content", "_upload")

    def __init__(self, upload: Upload, content: Content) -> None:
        self._upload, self._content = upload, content

    async def send(self, request: Request, extra: Head, receive: Receive, send: Send) -> int:
        """Answer with what the request selects, and return the status; `extra` goes into the head. A failure on the way cuts
        the connection."""
        try:
            return await self._send(request, extra, receive, send)
        finally:
            await self._content.close()

    async def _send(self, request: Request, extra: Head, receive: Receive, send: Send) -> int:
        upload, content = self._upload, self._content
        etag = b'"%s-%s"' % (upload.id.encode(), content.version.encode()) if upload.finished else None
        selection = select(request.headers, content.size, etag, content.modified if upload.finished else None)
        head = _head(upload, content, selection, etag) + extra
        count = selection.end - selection.start
        if not count or request.scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": selection.status, "headers": head})
            await send({"type": "http.response.body", "body": b""})
        elif ZERO_COPY in (request.scope.get("extensions") or {}) and (extents := content.extents(selection.start, count)):
            await send({"type": "http.response.start", "status": selection.status, "headers": head})
            for file, offset, size in extents:
                await send({"type": ZERO_COPY, "file": file, "offset": offset, "count": size, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            response = StreamingResponse(_pieces(content, selection), status_code=selection.status)
            response.raw_headers = head
            await response(request.scope, receive, send)
        return selection.status


def _head(upload: Upload, content: Content, selection: Selection, etag: bytes | None) -> Head:
    head: Head = [(b"accept-ranges", b"bytes")]
    if etag is not None:
        head += [(b"etag", etag), (b"last-modified", formatdate(content.modified, usegmt=True).encode())]
    else:
        head.append((b"cache-control", b"no-store"))  # more bytes may come
    if selection.status == 304:
        return head
    if selection.status in (412, 416):
        head.append((b"content-length", b"0"))
        if selection.status == 416:
            head.append((b"content-range", b"bytes */%d" % content.size))
        return head
    if selection.status == 206:
        head.append((b"content-range", b"bytes %d-%d/%d" % (selection.start, selection.end - 1, content.size)))
    head.append((b"content-length", b"%d" % (selection.end - selection.start)))
    return head + content_headers(upload.metadata)


async def _pieces(content: Content, selection: Selection) -> AsyncIterator[bytes]:
    offset = selection.start
    while offset < selection.end:
        piece = await content.read(offset, min(PIECE, selection.end - offset))
        if not piece:
            raise EOFError(f"{selection.end - offset} bytes are missing at the end")  # cuts the connection: never a short 200
        offset += len(piece)
        yield piece
