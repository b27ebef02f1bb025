"""Uploads in several forms over a real socket: entity tags of contents, digests, `Content-Encoding: zstd`, and bytes that can't
be read. The store is in memory and knows all that a store may know."""

from __future__ import annotations

import hashlib
import logging
import random
import subprocess
from base64 import b64encode
from collections.abc import Iterator

import httpx
import pytest
import zstandard

from tests.asgi.support import make_app, make_uploads
from tests.support.coded_store import CodedContent, CodedStore, compressed
from tests.support.waiting import until
from tests.support.wire import TusClient
from tests.transport.serving import Server
from tusd_py.protocol.cors import Cors

DATA = random.Random(4).randbytes(1 << 20) + b"much the same " * 100_000
BROKEN_AT = 700_000
NAME, CODED = CodedContent(DATA).version, CodedContent(compressed(DATA), coding="-zstd").version
DIGEST = f"sha-256=:{b64encode(hashlib.sha256(DATA).digest()).decode()}:"


@pytest.fixture(scope="module", params=["ours", "h11"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[CodedStore, Server]]:
    store = CodedStore()
    app = make_app(uploads=make_uploads(data=store), cors=Cors(), base_path="/files/")
    server = Server(app)
    if request.param != "ours":
        server.uvicorn.config.http = request.param
    with server:
        yield store, server


@pytest.fixture(scope="module")
def tus(store: tuple[CodedStore, Server]) -> TusClient:
    return TusClient(store[1].address)


@pytest.fixture(scope="module")
def path(tus: TusClient) -> str:
    return tus.create(len(DATA), DATA)


@pytest.fixture
def broken(store: tuple[CodedStore, Server]) -> Iterator[None]:
    """Of every upload only the first bytes can be read."""
    store[0].broken_at = BROKEN_AT
    yield
    store[0].broken_at = None


def test_a_browser_decodes_what_it_accepts(tus: TusClient, path: str) -> None:
    host, port = tus.address
    with httpx.Client(base_url=f"http://{host}:{port}") as client:
        answer = client.get(path)
        assert "zstd" in answer.request.headers["accept-encoding"]
        assert answer.content == DATA
        assert (answer.headers["content-encoding"], answer.headers["etag"]) == ("zstd", f'"{CODED}"')
        assert answer.headers["vary"] == "Origin, Accept-Encoding"
        assert int(answer.headers["content-length"]) == len(compressed(DATA)) == answer.num_bytes_downloaded
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["etag"], again.content) == (304, f'"{CODED}"', b"")
        assert again.headers["vary"] == "Origin, Accept-Encoding"


def test_the_encoded_bytes_are_one_stream_of_zstd(tus: TusClient, path: str) -> None:
    answer = tus.get(path, accept_encoding="gzip;q=0.5, zstd")
    assert answer.status == 200
    assert zstandard.ZstdDecompressor().decompressobj().decompress(answer.body) == DATA
    assert "repr-digest" not in answer.headers


@pytest.mark.parametrize("accepted", [None, "gzip, br", "zstd;q=0", "identity, zstd;q=0.5", ""])
def test_others_get_the_bytes_as_they_are(tus: TusClient, path: str, accepted: str | None) -> None:
    answer = tus.get(path, **({} if accepted is None else {"accept_encoding": accepted}))
    assert (answer.status, answer.body) == (200, DATA)
    assert (answer.headers["etag"], answer.headers["repr-digest"]) == (f'"{NAME}"', DIGEST)
    assert answer.headers["vary"] == "Origin, Accept-Encoding" and "content-encoding" not in answer.headers


def test_ranges_and_conditions(tus: TusClient, path: str) -> None:
    answer = tus.get(path, range="bytes=1048570-1048589", accept_encoding="zstd", if_range=f'"{NAME}"')
    assert (answer.status, answer.body) == (206, DATA[1048570:1048590])
    assert (answer.headers["etag"], answer.headers["repr-digest"]) == (f'"{NAME}"', DIGEST)
    answer = tus.get(path, range="bytes=5-", accept_encoding="zstd", if_range=f'"{CODED}"')
    assert (answer.status, answer.body) == (200, compressed(DATA))
    assert tus.get(path, range="bytes=5-", if_match=f'"{CODED}"').status == 412
    assert tus.get(path, range=f"bytes={len(DATA)}-").status == 416


def test_the_tag_is_of_the_content_whatever_upload_it_is_of(tus: TusClient, path: str) -> None:
    other = tus.create(len(DATA), DATA)
    assert other != path
    assert tus.get(other, if_none_match=f'"{NAME}"').status == 304


def test_head_of_a_browser(tus: TusClient, path: str) -> None:
    with tus.connect() as connection:
        plain = connection.request("HEAD", path, {"Accept-Encoding": "zstd"}, tus=False)
        assert (plain.headers["content-encoding"], plain.headers["etag"]) == ("zstd", f'"{CODED}"')
        assert plain.headers["content-length"] == str(len(compressed(DATA)))
        assert (plain.offset, plain.headers["cache-control"]) == (len(DATA), "no-store")
        client = connection.request("HEAD", path, {"Accept-Encoding": "zstd"})
        assert client.offset == len(DATA) and not {"etag", "content-length", "content-encoding"} & set(client.headers)
        assert connection.request("HEAD", path, {"If-None-Match": f'"{NAME}"'}, tus=False).status == 304
        got = connection.request("GET", path, tus=False)  # the connection is in step
        assert got.body == DATA


def test_a_read_that_fails_at_once_is_a_500(tus: TusClient, path: str, broken: None) -> None:
    with tus.connect() as connection:
        refused = connection.request("GET", path, {"Range": f"bytes={BROKEN_AT}-"}, tus=False)
        assert (refused.status, refused.text) == (500, "ERR_INTERNAL_SERVER_ERROR: the server's storage failed\n")
        fine = connection.request("GET", path, {"Range": "bytes=-0"}, tus=False)
        assert fine.status == 416, "the connection is as good as before"


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=10-"}, {"Accept-Encoding": "zstd"}])
def test_a_read_that_fails_on_the_way_cuts_the_connection(
    tus: TusClient, path: str, broken: None, headers: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    whole = compressed(DATA) if "Accept-Encoding" in headers else DATA[10:] if headers else DATA
    readable = BROKEN_AT - 10 if "Range" in headers else BROKEN_AT
    with tus.connect() as connection:
        connection.send_head("GET", path, headers, tus=False)
        head = connection._until(b"\r\n\r\n").lower()
        assert head.startswith(b"http/1.1 20") and f"content-length: {len(whole)}".encode() in head
        received = connection.until_closed()
    assert whole.startswith(received) and len(received) <= readable < len(whole), "no byte that was not read"
    until(lambda: caplog.records, what="the log says so")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info is not None
    assert f"broke off at byte {BROKEN_AT}: the chunk at {BROKEN_AT} is damaged" in str(record.exc_info[1])


@pytest.mark.parametrize(
    "options", [[], ["--compressed"], ["--range", "1048570-1048589"], ["--compressed", "--range", "1048570-"]]
)
def test_curl(tus: TusClient, path: str, options: list[str]) -> None:
    host, port = tus.address
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", *options, f"http://{host}:{port}{path}"],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    first, _, last = options[-1].partition("-") if "--range" in options else ("0", "", "")
    assert done.stdout == DATA[int(first) : int(last) + 1 if last else None]
