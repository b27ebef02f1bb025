"""HEAD without Tus-Resumable: what a GET would say, beside what tus says."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.asgi.support import TUS, Answer, call, create, make_app, make_uploads
from tests.support.coded_store import CodedStore
from tusd_py.asgi import TusApp
from tusd_py.datastore.memory import MemoryStore
from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.protocol.cors import Cors
from tusd_py.protocol.rules import Policy

DATA = b"hello world " * 1000
ZSTD = {"accept-encoding": "zstd"}
FRAMING = {"x-content-type-options", "tus-resumable"}
REPRESENTATION = {"accept-ranges", "etag", "last-modified", "content-length", "content-type", "content-disposition"}
"""What there is to say of a finished upload whatever store it is in."""


@pytest.fixture
def store() -> CodedStore:
    return CodedStore()


@pytest.fixture
def app(store: CodedStore) -> TusApp:
    return make_app(uploads=make_uploads(data=store))


async def made(app: TusApp) -> str:
    return await create(app, length=len(DATA), body=DATA, upload_metadata="filetype dGV4dC9wbGFpbg==")


async def described(app: TusApp, path: str) -> dict[str, str]:
    """What a client of tus is told."""
    answer = await call(app, "HEAD", path, TUS)
    assert answer.status == 200 and not REPRESENTATION & set(answer.headers)
    return answer.headers


def without_body(answer: Answer) -> tuple[int, dict[str, str]]:
    assert not answer.body
    return answer.status, answer.headers


CONDITIONS: list[dict[str, str]] = [
    {},
    ZSTD,
    {"want-repr-digest": "sha-256=0"},
    {"if-none-match": "*"},
    ZSTD | {"if-none-match": "*"},
    {"if-match": '"other"'},
    {"if-modified-since": "Tue, 14 Nov 2023 22:13:20 GMT"},
    {"if-modified-since": "Tue, 14 Nov 2023 22:13:19 GMT"},
]


@pytest.mark.parametrize("cors", [None, Cors()])
@pytest.mark.parametrize("headers", CONDITIONS)
async def test_it_says_what_a_get_says_and_what_tus_says(store: CodedStore, headers: dict[str, str], cors: Cors | None) -> None:
    app = make_app(uploads=make_uploads(data=store), cors=cors)
    path = await made(app)
    tus = await described(app, path)
    status, found = without_body(await call(app, "HEAD", path, headers))
    got = await call(app, "GET", path, headers)
    assert status == got.status
    assert found == tus | got.headers
    assert found["vary"] == ("Origin, Accept-Encoding" if cors else "Accept-Encoding")
    assert found["cache-control"] == "no-store" and found["upload-offset"] == str(len(DATA))
    assert all(content.closed == 1 for content in store.opened)
    assert store.opened[0].reads == 0, "nothing of it is read"


async def test_a_range_is_none_of_its_business(app: TusApp) -> None:
    path = await made(app)
    status, found = without_body(await call(app, "HEAD", path, {"range": "bytes=0-4"}))
    assert (status, found["content-length"]) == (200, str(len(DATA)))


async def test_any_store_will_do() -> None:
    app = make_app()
    path = await made(app)
    tus = await described(app, path)
    answer = await call(app, "HEAD", path)
    assert set(answer.headers) == set(tus) | REPRESENTATION
    assert "." not in answer.headers["etag"] and answer.headers["etag"].startswith('"id1-')


async def test_with_a_version_nothing_is_opened(app: TusApp, store: CodedStore) -> None:
    path = await made(app)
    await described(app, path)
    assert not store.opened


async def plain(app: TusApp, path: str, **more: Any) -> None:
    """HEAD without a version is answered as with one."""
    answer = await call(app, "HEAD", path, **more)
    assert (answer.status, answer.headers) == (200, await described(app, path))


async def test_an_unfinished_upload_has_only_what_tus_says(app: TusApp) -> None:
    await plain(app, await create(app, length=20, body=b"hello"))


async def test_where_there_are_no_downloads_there_is_none_to_describe(store: CodedStore) -> None:
    app = make_app(uploads=make_uploads(Policy(downloads=False), data=store))
    await plain(app, await made(app))
    assert not store.opened


async def test_a_content_that_can_not_be_opened_is_described_all_the_same(
    app: TusApp, store: CodedStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = await made(app)
    store.shut = True
    await plain(app, path)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "the index can't be read" in record.getMessage()
    assert record.fields == {"id": "id1"}  # type: ignore[attr-defined]


async def test_bytes_that_are_gone_have_only_what_tus_says() -> None:
    store = MemoryStore()
    app = make_app(uploads=make_uploads(data=store))
    path = await made(app)
    store._uploads.clear()
    await plain(app, path)


async def test_an_overridden_method_gets_no_length_that_it_has_no_body_for(app: TusApp) -> None:
    path = await made(app)
    for method in ("POST", "GET"):
        answer = await call(app, method, path, {"x-http-method-override": "HEAD"})
        assert (answer.status, answer.body, answer.headers) == (200, b"", await described(app, path))


class Describing:
    """Whoever may ask how far an upload has come may not read it."""

    def __init__(self) -> None:
        self.asked: list[Action] = []

    async def authorize(self, request: Any, action: Action, upload: Any) -> Decision:
        self.asked.append(action)
        return deny() if action is Action.DOWNLOAD else allow()

    def sign_url(self, upload: Any) -> str:
        return ""


async def test_who_may_not_read_is_told_no_digest(store: CodedStore) -> None:
    authorizer = Describing()
    app = make_app(uploads=make_uploads(data=store), authorizer=authorizer)
    path = await made(app)
    await plain(app, path)
    assert Action.DOWNLOAD in authorizer.asked and not store.opened


# What can't be read


@pytest.mark.parametrize("headers", [{}, ZSTD, {"range": "bytes=-5"}])
async def test_what_can_not_be_read_is_a_500(headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    store = CodedStore(broken_at=0)
    app = make_app(uploads=make_uploads(data=store), cors=Cors())
    path = await made(app)
    answer = await call(app, "GET", path, headers)
    assert (answer.status, answer.body) == (500, b"ERR_INTERNAL_SERVER_ERROR: the server's storage failed\n")
    assert not {"etag", "last-modified", "repr-digest", "content-encoding", "accept-ranges"} & set(answer.headers)
    (record,) = caplog.records
    assert "storage failed: the chunk at" in record.getMessage() and "is damaged" in record.getMessage()
    assert [content.closed for content in store.opened] == [1]
