"""GET: what is sent, and how."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
import zstandard

from tests.asgi.support import Answer, call
from tests.support.coded_store import CodedContent, compressed
from tusd_py.asgi.downloads import PIECE, Download
from tusd_py.asgi.requests import Request
from tusd_py.ports.datastore import Extent, PlainContent
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload

DATA = bytes(range(256)) * 6000
assert len(DATA) > PIECE
ETAG = '"id-v1"'
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


class Content(PlainContent):
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


async def get(
    content: PlainContent,
    upload: Upload | None = None,
    method: str = "GET",
    *,
    extra: Sequence[tuple[bytes, bytes]] = ((b"x-extra", b"1"),),
    sent: list[Any] | None = None,
    **more: Any,
) -> Answer:
    """What is sent is in `sent`, too, should there be no whole answer."""
    upload = upload or Upload(id="id", length=len(DATA), offset=len(DATA), metadata=Metadata({"filetype": b"text/plain"}))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            if sent is not None:
                sent.append(message)
            await send(message)

        request = Request(scope, receive, "/", 30.0)
        download = await Download.begin(request, upload, content)  # type: ignore[arg-type]
        await download.send(request, list(extra), receive, watched)

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


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=10-"}])
async def test_a_content_that_ends_early_cuts_the_connection(headers: dict[str, str]) -> None:
    content = Content(DATA[:-5])
    sent: list[Any] = []
    with pytest.raises(BaseException) as failed:
        await get(content, headers=headers, sent=sent)
    assert f"the download of id broke off at byte {len(DATA) - 5}: 5 bytes are missing at the end" in repr(failed.value)
    assert sent[0]["type"] == "http.response.start" and all(message["more_body"] for message in sent[1:]), "never an end"
    assert b"".join(message["body"] for message in sent[1:]) == DATA[10 if headers else 0 : -5]
    assert content.closed == 1


@pytest.mark.parametrize("headers", [{}, {"range": f"bytes={len(DATA) - 1}-"}, {"range": "bytes=-3"}])
@pytest.mark.parametrize("failure", [StorageFailure("disk"), None])
async def test_a_content_that_can_not_be_read_is_refused(headers: dict[str, str], failure: Exception | None) -> None:
    content = Content(b"")
    content.failure = failure
    sent: list[Any] = []
    with pytest.raises(StorageFailure, match="disk" if failure else "bytes? are missing"):
        await get(content, headers=headers, sent=sent)
    assert not sent, "there is no answer yet"
    assert content.closed == 1


async def test_what_fails_later_cuts_the_connection() -> None:
    content, sent = CodedContent(DATA, broken_at=300_000), list[Any]()
    with pytest.raises(BaseException) as failed:
        await get(content, sent=sent)
    assert "broke off at byte 300000: the chunk at 300000 is damaged" in repr(failed.value)
    assert b"".join(message.get("body", b"") for message in sent) == DATA[:300_000]
    assert sent[-1]["more_body"]
    assert content.closed == 1


# Several forms of the same bytes

ZSTD = {"accept-encoding": "gzip, zstd"}
NAME = CodedContent(DATA).version
PLAIN, CODED = f'"{NAME}"', f'"{CodedContent(compressed(DATA), coding="-zstd").version}"'
DIGEST = f"sha-256=:{b64encode(hashlib.sha256(DATA).digest()).decode()}:"


async def test_bytes_that_are_named_by_their_content() -> None:
    answer = await get(CodedContent(DATA))
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers == {
        "accept-ranges": "bytes",
        "etag": PLAIN,
        "last-modified": MODIFIED,
        "content-length": str(len(DATA)),
        "content-type": "text/plain",
        "content-disposition": "inline",
        "repr-digest": DIGEST,
        "vary": "Accept-Encoding",
        "x-extra": "1",
    }


async def test_the_zstd_form() -> None:
    content = CodedContent(DATA)
    answer = await get(content, headers=ZSTD)
    assert (answer.status, answer.body) == (200, compressed(DATA))
    assert zstandard.ZstdDecompressor().decompress(answer.body) == DATA
    assert answer.headers == {
        "accept-ranges": "bytes",
        "etag": CODED,
        "last-modified": MODIFIED,
        "content-encoding": "zstd",
        "content-length": str(len(answer.body)),
        "content-type": "text/plain",
        "content-disposition": "inline",
        "vary": "Accept-Encoding",
        "x-extra": "1",
    }
    assert (content.closed, content.reads) == (1, 0)


async def test_a_range_is_of_the_bytes_as_they_are() -> None:
    answer = await get(CodedContent(DATA), headers=ZSTD | {"range": "bytes=10-19"})
    assert (answer.status, answer.body) == (206, DATA[10:20])
    assert "content-encoding" not in answer.headers
    assert (answer.headers["etag"], answer.headers["repr-digest"], answer.headers["vary"]) == (PLAIN, DIGEST, "Accept-Encoding")


@pytest.mark.parametrize(
    ("headers", "status", "etag"),
    [
        ({"if-none-match": PLAIN}, 304, PLAIN),
        (ZSTD | {"if-none-match": CODED}, 304, CODED),
        (ZSTD | {"if-none-match": f"{PLAIN}, {CODED}"}, 304, CODED),
        (ZSTD | {"if-match": '"other"'}, 412, CODED),
        (ZSTD | {"range": "bytes=9999999-"}, 416, PLAIN),
    ],
)
async def test_answers_without_bytes_name_the_form(headers: dict[str, str], status: int, etag: str) -> None:
    answer = await get(CodedContent(DATA), headers=headers)
    assert (answer.status, answer.body, answer.headers["etag"]) == (status, b"", etag)
    assert answer.headers["vary"] == "Accept-Encoding"
    assert not {"repr-digest", "content-encoding", "content-type"} & set(answer.headers), "which would be of the bytes sent"


async def test_a_digest_that_is_not_wanted() -> None:
    answer = await get(CodedContent(DATA), headers={"want-repr-digest": "sha-256=0"})
    assert (answer.status, "repr-digest" in answer.headers) == (200, False)


async def test_only_one_vary() -> None:
    answer = await get(CodedContent(DATA), extra=[(b"vary", b"Origin"), (b"x-extra", b"1")])
    assert answer.headers["vary"] == "Origin, Accept-Encoding"


async def test_what_can_not_be_compressed_has_one_form() -> None:
    answer = await get(CodedContent(b"\0\1"), Upload(id="id", length=2, offset=2), headers=ZSTD)
    assert answer.body == b"\0\1" and not {"vary", "content-encoding"} & set(answer.headers)


async def test_an_unfinished_upload_has_one_form_and_no_name() -> None:
    answer = await get(CodedContent(DATA), Upload(id="id", length=None, offset=len(DATA)), headers=ZSTD)
    assert answer.body == DATA
    assert not {"etag", "last-modified", "repr-digest", "vary", "content-encoding"} & set(answer.headers)


async def test_a_form_without_extents_is_read() -> None:
    """The bytes themselves may be in files, and the form not."""

    class InFile(CodedContent):
        def extents(self, offset: int, count: int) -> Any:
            raise AssertionError("these are not sent")

    answer = await get(InFile(DATA), headers=ZSTD, extensions=ZERO_COPY)
    assert answer.body == compressed(DATA)
