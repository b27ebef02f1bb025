"""The application: methods, mounting, errors, background work."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest

from tests.asgi.support import STREAM, TUS, call, create, make_app, make_uploads
from tusd_py.asgi import Site, TusApp
from tusd_py.asgi import app as app_module
from tusd_py.asgi.app import Work
from tusd_py.ports.body import BodyEnd, Sink
from tusd_py.ports.failures import (
    LockTimeout,
    OutOfSpace,
    ReadOnlyStorage,
    RecordDamaged,
    StorageFailure,
    UploadNotFound,
)
from tusd_py.protocol.cors import Cors
from tusd_py.protocol.rules import Policy

PATCH = TUS | STREAM


async def test_an_upload_from_first_to_last() -> None:
    app = make_app()
    path = await create(app, upload_metadata="filename YS50eHQ=")
    answer = await call(app, "PATCH", path, PATCH | {"upload-offset": "0"}, b"01234")
    assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
    answer = await call(app, "HEAD", path, TUS)
    assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (200, "5", "10")
    answer = await call(app, "PATCH", path, PATCH | {"upload-offset": "5"}, b"56789", length=False)
    assert (answer.status, answer.headers["upload-offset"]) == (204, "10")
    answer = await call(app, "GET", path)
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert answer.headers["content-disposition"] == 'attachment;filename="a.txt"'
    assert (await call(app, "DELETE", path, TUS)).status == 204
    answer = await call(app, "HEAD", path, TUS)
    assert (answer.status, answer.body) == (404, b"")


async def test_the_same_through_a_client_library() -> None:
    transport = httpx.ASGITransport(make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=TUS) as client:
        created = await client.post("/", headers=STREAM | {"upload-length": "5"}, content=b"hel")
        assert created.status_code == 201 and created.headers["upload-offset"] == "3"
        patched = await client.patch(created.headers["location"], headers=STREAM | {"upload-offset": "3"}, content=b"lo")
        assert patched.status_code == 204
        assert (await client.get(created.headers["location"])).content == b"hello"


METHODS = [
    ("GET", "/", 405, "POST, OPTIONS"),
    ("PATCH", "/", 405, "POST, OPTIONS"),
    ("POST", "/id", 405, "HEAD, PATCH, GET, DELETE, OPTIONS"),
    ("PUT", "/id", 405, "HEAD, PATCH, GET, DELETE, OPTIONS"),
    ("OPTIONS", "/", 200, None),
    ("OPTIONS", "/id", 200, None),
]


@pytest.mark.parametrize(("method", "path", "status", "allow"), METHODS)
async def test_methods(method: str, path: str, status: int, allow: str | None) -> None:
    answer = await call(make_app(), method, path, TUS)
    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert answer.headers["tus-resumable"] == "1.0.0" and answer.headers["x-content-type-options"] == "nosniff"


async def test_methods_that_are_switched_off() -> None:
    answer = await call(make_app(Policy(downloads=False, termination=False)), "GET", "/id")
    assert (answer.status, answer.headers["allow"]) == (405, "HEAD, PATCH, OPTIONS")


@pytest.mark.parametrize("override", ["PATCH", "patch", " Patch "])
async def test_the_overriding_method_counts(override: str) -> None:
    app = make_app()
    path = await create(app)
    answer = await call(app, "POST", path, PATCH | {"upload-offset": "0", "X-HTTP-Method-Override": override}, b"01")
    assert (answer.status, answer.headers["upload-offset"]) == (204, "2")


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 412),
        ("POST", {"tus-resumable": "0.2"}, 412),
        ("HEAD", {"tus-resumable": "0.2"}, 412),
        ("HEAD", {}, 404),
        ("GET", {}, 404),
    ],
)
async def test_versions(method: str, headers: dict[str, str], status: int) -> None:
    answer = await call(make_app(), method, "/" if method == "POST" else "/id", headers)
    assert answer.status == status
    assert answer.headers.get("tus-version") == ("1.0.0" if status == 412 else None)


async def test_an_id_that_can_be_none_is_not_looked_for() -> None:
    class Never:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    for path in ("/..", "/.hidden", "/a.info", "/a//b", "/a\0"):
        assert (await call(make_app(uploads=make_uploads(info=Never())), "GET", path)).status == 404


async def test_a_refusal_tells_its_code() -> None:
    answer = await call(make_app(), "PATCH", "/none", PATCH | {"upload-offset": "0"})
    assert answer.body == b"ERR_UPLOAD_NOT_FOUND: upload not found\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == str(len(answer.body))


async def test_what_is_left_of_a_body_is_not_swallowed() -> None:
    app = make_app()
    assert (await call(app, "PATCH", "/none", PATCH | {"upload-offset": "0"}, b"x")).headers["connection"] == "close"
    assert "connection" not in (await call(app, "PATCH", "/none", PATCH | {"upload-offset": "0"})).headers
    answer = await call(app, "PATCH", "/none", PATCH | {"upload-offset": "0"}, b"x", http_version="2")
    assert "connection" not in answer.headers


async def test_the_servers_own_body_is_used() -> None:
    class Body:
        length, ready, complete, trailers = 5, True, True, ()

        async def pump(self, sink: Sink, limit: int) -> BodyEnd:
            sink.write(b"quick")
            return BodyEnd.COMPLETE

        def stop(self) -> None:
            """Nobody does."""

    app = make_app()
    headers = PATCH | {"upload-offset": "0", "content-length": "5"}
    path = await create(app)
    answer = await call(app, "PATCH", path, headers, extensions={"tusd_py.body": Body()})
    assert answer.headers["upload-offset"] == "5"


@pytest.mark.parametrize(("digest", "status"), [("Kq5sNclPz7QV2+lfQIuc6R7oRu0=", 204), ("Kq5sNclPz7QV2+lfQIuc6R7oRu8=", 460)])
async def test_a_trailer_that_a_server_has_put_among_the_headers(digest: str, status: int) -> None:
    app = make_app()
    path = await create(app, length=11)
    headers = PATCH | {"upload-offset": "0", "trailer": "X-Other, Upload-Checksum", "upload-checksum": f"sha1 {digest}"}
    answer = await call(app, "PATCH", path, headers, b"hello world", length=False)
    assert answer.status == status


# Where it is


@pytest.mark.parametrize(
    ("root", "base", "creation"),
    [
        ("", "/", "/"),
        ("", "/files/", "/files/"),
        ("", "/files/", "/files"),
        ("/mounted", "/", "/mounted/"),
        ("/mounted", "/", "/mounted"),
        ("/mounted", "/files/", "/mounted/files/"),
    ],
)
async def test_below_root_path_and_base_path(root: str, base: str, creation: str) -> None:
    app = make_app(base_path=base)
    answer = await call(app, "POST", creation, TUS | {"upload-length": "5"}, root_path=root)
    assert answer.headers["location"] == f"http://here{root}{base}id1"
    for path in (f"{root}{base}id1", f"{root}{base}id1/"):
        assert (await call(app, "HEAD", path, TUS, root_path=root)).status == 200


async def test_under_servers_that_leave_the_root_path_out_of_the_path() -> None:
    app = make_app()
    answer = await call(app, "POST", "/", TUS | {"upload-length": "5"}, root_path="/mounted")
    assert answer.headers["location"] == "http://here/mounted/id1"
    assert (await call(app, "HEAD", "/id1", TUS, root_path="/mounted")).status == 200


@pytest.mark.parametrize("path", ["/", "/other/", "/other/id1", "/filesid1", "/file/xid1", "/id1", "/12345678id1"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "GET", "DELETE"])
async def test_nothing_is_beside_the_base_path(path: str, method: str) -> None:
    app = make_app(base_path="/files/")
    await create(app, "/files/")
    answer = await call(app, method, path, TUS | {"upload-length": "5"})
    assert answer.status == 404 and "location" not in answer.headers
    assert (await call(app, "HEAD", "/files/id1", TUS)).status == 200


async def test_location_without_a_host() -> None:
    app = make_app()

    async def creation(**scope: Any) -> str:
        sent = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"tus-resumable", b"1.0.0"), (b"upload-length", b"5")]
        scope = {
            "type": "http",
            "http_version": "1.0",
            "method": "POST",
            "path": "/",
            "scheme": "http",
            "headers": headers,
        } | scope
        await app(scope, None, send)  # type: ignore[arg-type]
        return str(dict(sent[0]["headers"])[b"location"], "ascii")

    assert await creation(server=("10.0.0.1", 1080)) == "http://10.0.0.1:1080/id1"
    assert await creation(server=("/run/socket", None)) == "http://localhost/id2"
    assert await creation() == "http://localhost/id3"


async def test_behind_a_proxy() -> None:
    forwarded = TUS | {"upload-length": "5", "x-forwarded-host": "there", "x-forwarded-proto": "https"}
    assert (await call(make_app(behind_proxy=True), "POST", "/", forwarded)).headers["location"] == "https://there/id1"
    assert (await call(make_app(), "POST", "/", forwarded)).headers["location"] == "http://here/id1"


async def test_finals() -> None:
    app = make_app()
    parts = [await create(app, length=2, body=data, upload_concat="partial") for data in (b"01", b"23")]
    headers = TUS | {"upload-concat": f"final;{parts[0]} http://here{parts[1]}"}
    answer = await call(app, "POST", "/", headers)
    assert answer.status == 201 and answer.headers["upload-offset"] == "4"
    assert (await call(app, "GET", "/id3")).body == b"0123"
    assert (await call(app, "HEAD", "/id3", TUS)).headers["upload-concat"] == headers["upload-concat"]
    answer = await call(app, "POST", "/", TUS | {"upload-concat": "final;http://there/id1"})
    assert answer.status == 400
    await app.uploads.close()


# Cross-origin


async def test_cross_origin() -> None:
    app = make_app(cors=Cors())
    answer = await call(app, "OPTIONS", "/", {"origin": "http://app"})
    assert answer.headers["access-control-allow-origin"] == "http://app" and "access-control-allow-methods" in answer.headers
    answer = await call(app, "HEAD", "/none", TUS | {"origin": "http://app"})
    assert answer.status == 404 and "access-control-expose-headers" in answer.headers
    assert "vary" in (await call(app, "HEAD", "/none", TUS)).headers
    assert "vary" not in (await call(make_app(), "HEAD", "/none", TUS | {"origin": "http://app"})).headers


async def test_an_origin_that_is_not_allowed() -> None:
    import re

    app = make_app(cors=Cors(allow_origin=re.compile("^http://app$")))
    answer = await call(app, "POST", "/", TUS | {"origin": "http://other", "upload-length": "5"})
    assert (answer.status, answer.headers["vary"]) == (403, "Origin")
    assert "access-control-allow-origin" not in answer.headers and "location" not in answer.headers


# Failures


class Failing:
    """An info store whose every call fails."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        async def fail(*args: Any, **more: Any) -> None:
            raise self._failure

        return fail


FAILURES: list[tuple[Exception, int, int]] = [  # and the status of a PATCH, and of a HEAD
    (OutOfSpace("x"), 507, 423),
    (ReadOnlyStorage("x"), 507, 423),
    (StorageFailure("x"), 500, 423),
    (RecordDamaged("x"), 410, 410),
    (LockTimeout("x"), 423, 423),
    (OSError("x"), 500, 423),
    (ZeroDivisionError("x"), 500, 423),
    (TimeoutError("x"), 500, 423),
]


@pytest.mark.parametrize(("failure", "patch", "head"), FAILURES)
async def test_failures(failure: Exception, patch: int, head: int) -> None:
    app = make_app(uploads=make_uploads(info=Failing(failure)))
    assert (await call(app, "PATCH", "/id", PATCH | {"upload-offset": "0"}, b"x")).status == patch
    for headers in (TUS, {}):
        answer = await call(app, "HEAD", "/id", headers)
        assert (answer.status, answer.body) == (head, b"")
        assert "upload-offset" not in answer.headers
    answer = await call(app, "POST", "/id", TUS | {"x-http-method-override": "HEAD"})
    assert answer.status == head
    await app.uploads.close()


async def test_a_store_that_lost_the_bytes() -> None:
    app = make_app()
    path = await create(app, length=2, body=b"01")
    app.uploads._data.open_content = Failing(UploadNotFound("x")).open  # type: ignore[method-assign]
    assert (await call(app, "GET", path)).status == 404


async def test_cancellation_is_not_answered() -> None:
    class Slow:
        def __getattr__(self, name: str) -> Any:
            async def wait(*args: Any) -> None:
                await asyncio.sleep(30)

            return wait

    asking = asyncio.create_task(call(make_app(uploads=make_uploads(info=Slow())), "HEAD", "/id", TUS))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_other_protocols_are_not_ours() -> None:
    with pytest.raises(RuntimeError, match="websocket"):
        await make_app()({"type": "websocket"}, None, None)  # type: ignore[arg-type]


# Background work


class Recorded:
    """Uploads whose background work is counted, and fails where told to."""

    def __init__(self, policy: Policy | None = None, failing: bool = False) -> None:
        self.policy = policy or Policy()
        self.failing = failing
        self.calls: list[str] = []
        self.reached: dict[str, asyncio.Event] = {name: asyncio.Event() for name in ("recover", "again", "sweep")}

    async def _work(self, name: str) -> None:
        self.calls.append(name)
        if (count := self.calls.count(name)) == (1 if name == "recover" else 3):
            self.reached[name].set()
        if name == "recover" and count == 3:
            self.reached["again"].set()
        if self.failing:
            raise ZeroDivisionError(name)

    async def recover(self) -> None:
        await self._work("recover")

    async def sweep(self) -> None:
        await self._work("sweep")

    def begin_shutdown(self) -> None:
        self.calls.append("begin_shutdown")

    async def close(self) -> None:
        self.calls.append("close")


def recorded(uploads: Recorded) -> TusApp:
    return TusApp(uploads, sweep_interval=0.0)  # type: ignore[arg-type]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "RECOVERY_INTERVAL", 0.0)


@pytest.mark.parametrize("failing", [False, True])
async def test_background_work(quick: None, failing: bool, caplog: pytest.LogCaptureFixture) -> None:
    uploads = Recorded(Policy(expiry=1.0), failing)
    async with asyncio.timeout(30), recorded(uploads).lifespan():
        for reached in uploads.reached.values():
            await reached.wait()
    assert uploads.calls[0] == "recover"
    assert "begin_shutdown" in uploads.calls and uploads.calls[-1] == "close"
    assert ("background work failed" in caplog.text) is failing


async def test_nothing_is_swept_that_never_expires(quick: None) -> None:
    uploads = Recorded()
    async with asyncio.timeout(30), recorded(uploads).lifespan():
        await uploads.reached["again"].wait()
    assert "sweep" not in uploads.calls


async def test_background_work_begins_with_the_first_request() -> None:
    uploads = Recorded()
    app = recorded(uploads)
    await call(app, "OPTIONS", "/")
    await call(app, "OPTIONS", "/")
    await asyncio.sleep(0)
    assert uploads.calls == ["recover"]
    async with app.lifespan():
        await call(app, "OPTIONS", "/")
    assert uploads.calls == ["recover", "begin_shutdown", "close"]


async def test_lifespan_events() -> None:
    uploads = Recorded()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        if len(messages) == 1:
            assert sent == ["lifespan.startup.complete"] and "close" not in uploads.calls
            await uploads.reached["recover"].wait()
        return messages.pop(0)

    async def send(message: dict[str, str]) -> None:
        sent.append(message["type"])

    await recorded(uploads)({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert uploads.calls == ["recover", "begin_shutdown", "close"]


async def test_a_startup_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TusApp) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(TusApp, "_start", fail)
    sent: list[dict[str, str]] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message)

    await recorded(Recorded())({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
    assert sent == [{"type": "lifespan.startup.failed", "message": "no disk"}]


async def test_shutdown_stops_bodies() -> None:
    uploads = Recorded()
    recorded(uploads).begin_shutdown()
    assert uploads.calls == ["begin_shutdown"]


# The stand-alone site


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/files/", 200),
        ("/files", 200),
        ("/files/id", 200),
        ("/", 404),
        ("/file", 404),
        ("/filesx", 404),
        ("/other/files/", 404),
    ],
)
async def test_the_site_has_uploads_below_its_base_path(path: str, status: int) -> None:
    site = Site(make_app(base_path="/files/"), "/files/", greeting=False)
    answer = await call(site, "OPTIONS", path)
    assert answer.status == status


async def test_a_greeting_elsewhere() -> None:
    site = Site(make_app(base_path="/files/"), "/files/", greeting=True)
    answer = await call(site, "GET", "/")
    assert answer.status == 200 and b"/files/" in answer.body and b"tusd-py" in answer.body


async def test_no_greeting_where_uploads_are_everywhere() -> None:
    site = Site(make_app(), "/", greeting=True)
    assert (await call(site, "OPTIONS", "/")).status == 200
    assert (await call(site, "GET", "/none")).headers["tus-resumable"] == "1.0.0"


async def test_the_site_passes_lifespan_on() -> None:
    uploads = Recorded()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, str]:
        return messages.pop(0)

    async def send(message: dict[str, str]) -> None:
        """Nobody listens."""

    await Site(recorded(uploads), "/files/", greeting=True)({"type": "lifespan"}, receive, send)  # type: ignore[arg-type]
    assert uploads.calls[-1] == "close"


async def test_errors_are_logged_with_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(uploads=make_uploads(info=Failing(OutOfSpace("quota of 5 exceeded"))))
    await call(app, "POST", "/", TUS | {"upload-length": "5"})
    errors = [record for record in caplog.records if record.name == "tusd_py.asgi" and "quota" in record.getMessage()]
    assert [record.levelno for record in errors] == [logging.ERROR]


@pytest.mark.parametrize("hanging", ["work", "first", "second"])
async def test_who_hangs_keeps_no_other_from_being_closed(
    monkeypatch: pytest.MonkeyPatch, hanging: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app_module, "PATIENCE", 0.05)
    begun: list[str] = []
    all_begun, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if hanging == "work":
                await go.wait()

    def closer(name: str) -> Work:
        async def close() -> None:
            begun.append(name)
            if name == "last":
                all_begun.set()
            if name == hanging:
                await go.wait()

        return close

    uploads = Recorded()
    app = TusApp(uploads, work=[work], closers=[closer(name) for name in ("first", "second", "last")])  # type: ignore[arg-type]

    async def serve() -> None:
        async with app.lifespan():
            await uploads.reached["recover"].wait()

    serving = asyncio.create_task(serve())
    async with asyncio.timeout(30):
        await all_begun.wait()
        assert begun == ["first", "second", "last"] and "close" in uploads.calls
        await asyncio.sleep(0)
        assert not serving.done(), "it is waited for all the same"
        go.set()
        await serving
    assert not caplog.records


async def test_uploads_are_closed_before_what_they_use(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    async def close_uploads() -> None:
        closed.append("uploads")

    async def close_outbox() -> None:
        closed.append("outbox")

    uploads = make_uploads()
    monkeypatch.setattr(uploads, "close", close_uploads)
    async with TusApp(uploads, closers=[close_outbox]).lifespan():
        pass
    assert closed == ["uploads", "outbox"], "finals that are put together in the background still ask hooks and tell of it"
