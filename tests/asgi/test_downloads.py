"""GET: what is sent, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.asgi.support import Answer, call
from tusd_py.asgi.downloads import PIECE, Download
from tusd_py.asgi.requests import Request
from tusd_py.ports.datastore import Extent
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload

DATA = bytes(range(256)) * 3000
ETAG = '"id-v1"'
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


class Content:
    version, modified = "v1", 1_700_000_000.5

    def __init__(self, data: bytes = DATA, extents: Sequence[Extent] | None = None) -> None:
        self._data, self._extents = data, extents
        self.size = len(DATA)
        self.closed = 0
        self.failure: Exception | None = None

    def extents(self, offset: int, count: int) -> Sequence[Extent] | None:
        return self._extents

    async def read(self, offset: int, count: int) -> bytes:
        if self.failure is not None:
            raise self.failure
        return self._data[offset : offset + count]

    async def close(self) -> None:
        self.closed += 1


async def get(content: Content, upload: Upload | None = None, method: str = "GET", **more: Any) -> Answer:
    upload = upload or Upload(id="id", length=len(DATA), offset=len(DATA), metadata=Metadata({"filetype": b"text/plain"}))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, "/", 30.0)
        await Download(upload, content).send(request, [(b"x-extra", b"1")], receive, send)

    return await call(app, method, "/id", **more)


async def test_the_whole_upload() -> None:
    content = Content()
    answer = await get(content)
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers == {
        "accept-ranges": "bytes",
        "etag": ETAG,
        "last-modified": MODIFIED,
        "content-length": str(len(DATA)),
        "content-type": "text/plain",
        "content-disposition": "inline",
        "x-extra": "1",
    }
    assert content.closed == 1
    assert max(len(message.get("body", b"")) for message in answer.messages) <= PIECE


async def test_a_range() -> None:
    answer = await get(Content(), headers={"range": "bytes=10-19"})
    assert (answer.status, answer.body) == (206, DATA[10:20])
    assert answer.headers["content-range"] == f"bytes 10-19/{len(DATA)}" and answer.headers["content-length"] == "10"


CONDITIONS = [
    ({"if-none-match": ETAG}, 304, {"accept-ranges", "etag", "last-modified", "x-extra"}),
    ({"if-match": '"other"'}, 412, {"accept-ranges", "etag", "last-modified", "content-length", "x-extra"}),
    (
        {"range": "bytes=999999999-"},
        416,
        {"accept-ranges", "etag", "last-modified", "content-length", "content-range", "x-extra"},
    ),
]


@pytest.mark.parametrize(("headers", "status", "names"), CONDITIONS)
async def test_conditions(headers: dict[str, str], status: int, names: set[str]) -> None:
    content = Content()
    answer = await get(content, headers=headers)
    assert (answer.status, answer.body, set(answer.headers)) == (status, b"", names)
    assert answer.headers.get("content-range", f"bytes */{len(DATA)}") == f"bytes */{len(DATA)}"
    assert content.closed == 1


async def test_an_unfinished_upload_has_no_version() -> None:
    upload = Upload(id="id", length=None, offset=len(DATA))
    answer = await get(Content(), upload, headers={"if-none-match": ETAG})
    assert answer.status == 200 and answer.body == DATA
    assert answer.headers["cache-control"] == "no-store"
    assert not {"etag", "last-modified"} & set(answer.headers)


async def test_a_head_has_no_body() -> None:
    answer = await get(Content(), method="HEAD", headers={"x-http-method-override": "GET"})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len(DATA)))


ZERO_COPY: dict[str, Any] = {"http.response.zerocopysend": {}}


async def test_zero_copy_where_the_server_can() -> None:
    content = Content(extents=[(7, 100, 4), (8, 0, 6)])
    answer = await get(content, headers={"range": "bytes=10-19"}, extensions=ZERO_COPY)
    assert answer.status == 206 and answer.headers["content-length"] == "10"
    kind = "http.response.zerocopysend"
    assert answer.messages[1:] == [
        {"type": kind, "file": 7, "offset": 100, "count": 4, "more_body": True},
        {"type": kind, "file": 8, "offset": 0, "count": 6, "more_body": True},
        {"type": "http.response.body", "body": b""},
    ]
    assert content.closed == 1


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (Content(extents=[(7, 0, 1)]), {}),
        (Content(extents=[(7, 0, 1)]), {"extensions": None}),
        (Content(), {"extensions": ZERO_COPY}),
    ],
)
async def test_no_zero_copy_without_the_server_or_a_file(content: Content, more: dict[str, Any]) -> None:
    assert (await get(content, **more)).body == DATA


async def test_a_content_that_ends_early_cuts_the_connection() -> None:
    content = Content(DATA[:-5])
    with pytest.raises(BaseException) as failed:
        await get(content)
    assert "5 bytes are missing at the end" in repr(failed.value)
    assert content.closed == 1


async def test_a_content_that_fails_is_closed() -> None:
    content = Content()
    content.failure = StorageFailure("disk")
    with pytest.raises(BaseException, match="disk"):
        await get(content)
    assert content.closed == 1
