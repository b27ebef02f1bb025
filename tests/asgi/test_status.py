"""Status pages, lists and streams, over stores in memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.asgi.support import STREAM, TUS, Answer, call, create, make_app, make_uploads
from tusd_py.asgi import TusApp, sse, status
from tusd_py.infostore.memory import MemoryInfoStore
from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.ports.failures import RecordDamaged
from tusd_py.protocol.cors import Cors
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.upload import Upload
from tusd_py.uploads import Uploads

AGES = 30.0


class ByName:
    """Believes whatever `Authorization` says: a name owns uploads, `root` may do everything, nothing is nobody."""

    async def authorize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
        name = request.header("Authorization")
        if name is None:
            return deny("who are you?", status=401, headers={"WWW-Authenticate": "Bearer"})
        if name == "nameless":
            return allow()
        return allow(name, any_owner=name == "root")

    def sign_url(self, upload: Upload) -> str:
        return ""


def guarded(uploads: Uploads | None = None, policy: Policy | None = None) -> TusApp:
    return make_app(policy, uploads, authorizer=ByName(), status_interval=0.1)


def as_user(name: str) -> dict[str, str]:
    return {"authorization": name}


async def get(app: TusApp, path: str, headers: dict[str, str] | None = None, **scope: Any) -> Answer:
    path, _, query = path.partition("?")
    return await call(app, "GET", path, headers, query_string=query.encode(), **scope)


async def got(app: TusApp, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = await get(app, path, headers)
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = json.loads(answer.body)
    return found


# One upload


async def test_status_of_a_new_upload() -> None:
    app = make_app()
    path = await create(app, length=10, upload_metadata="filename d29ybGQ=,raw /w==,empty")
    assert await got(app, f"/.status{path}") == {
        "id": path[1:],
        "state": "paused",
        "offset": 0,
        "length": 10,
        "finished": False,
        "metadata": {"filename": "world", "raw": "�", "empty": ""},
        "is_partial": False,
        "is_final": False,
        "expires": None,
    }


async def test_status_of_what_has_no_length_yet() -> None:
    app = make_app()
    answer = await call(app, "POST", "/", TUS | {"upload-defer-length": "1", "upload-concat": "partial"})
    shown = await got(app, "/.status/" + answer.headers["location"].rsplit("/", 1)[1])
    assert (shown["length"], shown["is_partial"]) == (None, True)


async def test_status_of_a_finished_upload_and_of_a_final() -> None:
    app = make_app()
    partial = await create(app, length=5, body=b"hello", upload_concat="partial")
    answer = await call(app, "POST", "/", TUS | {"upload-concat": f"final;{partial}"})
    shown = await got(app, "/.status/" + answer.headers["location"].rsplit("/", 1)[1])
    assert (shown["state"], shown["finished"], shown["offset"], shown["is_final"]) == ("finished", True, 5, True)
    assert (await got(app, f"/.status{partial}"))["state"] == "finished"


async def test_status_says_when_an_upload_expires() -> None:
    app = make_app(Policy(expiry=3600))
    shown = await got(app, "/.status" + await create(app))
    assert shown["expires"].endswith("Z") and "T" in shown["expires"]
    shown = await got(app, "/.status" + await create(app, length=5, body=b"hello"))
    assert shown["expires"] is None


async def test_ids_with_slashes() -> None:
    info = MemoryInfoStore()
    app = make_app(uploads=make_uploads(info=info))
    await info.create(Upload(id="a/b.c/d", length=1))
    assert (await got(app, "/.status/a/b.c/d"))["id"] == "a/b.c/d"


async def test_what_can_not_be_an_id_is_not_looked_for() -> None:
    info = MemoryInfoStore()
    app = make_app(uploads=make_uploads(info=info))
    await info.create(Upload(id="x.info", length=1))
    assert (await get(app, "/.status/x.info")).status == 404


async def test_below_a_base_path() -> None:
    app = make_app(base_path="/files/")
    path = await create(app, "/files/")
    assert (await got(app, path.replace("/files/", "/files/.status/")))["offset"] == 0


class Slow:
    """A body that arrives when it is told to."""

    def __init__(self, app: TusApp, path: str, length: int = 10) -> None:
        self.pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        headers = TUS | STREAM | {"upload-offset": "0", "content-length": str(length)}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "PATCH",
            "path": path,
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 80),
        }

        async def send(_: Any) -> None:
            pass

        self.task = asyncio.ensure_future(app(scope, self.pieces.get, send))

    def piece(self, body: bytes, *, more: bool = True) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def end(self) -> None:
        self.pieces.put_nowait({"type": "http.disconnect"})
        await self.task


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(AGES):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)


async def until(app: TusApp, path: str, state: str, offset: int) -> dict[str, Any]:
    async with asyncio.timeout(AGES):
        while (shown := await got(app, path))["state"] != state or shown["offset"] != offset:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return shown


async def test_what_is_being_received_expires_later() -> None:
    info = MemoryInfoStore(lambda: time.time() - 1800)
    app = make_app(uploads=make_uploads(Policy(expiry=3600), info=info))
    path = await create(app)
    before = (await got(app, f"/.status{path}"))["expires"]
    slow = Slow(app, path)
    slow.piece(b"hello")
    meanwhile = (await until(app, f"/.status{path}", "receiving", 5))["expires"]
    await slow.end()
    assert datetime.fromisoformat(meanwhile) - datetime.fromisoformat(before) >= timedelta(minutes=29)


async def test_status_while_receiving() -> None:
    app = make_app(Policy(expiry=3600))
    path = await create(app)
    slow = Slow(app, path)
    slow.piece(b"hello")
    shown = await until(app, f"/.status{path}", "receiving", 5)
    assert shown["started_at"].endswith("Z") and shown["bytes_per_second"] > 0 and shown["expires"]
    slow.piece(b"world", more=False)
    await slow.task
    shown = await got(app, f"/.status{path}")
    assert (shown["state"], shown["offset"]) == ("finished", 10)
    assert "started_at" not in shown and "bytes_per_second" not in shown


@pytest.mark.parametrize("kind", [".status", ".events"])
async def test_what_is_not_there(kind: str) -> None:
    app = make_app(Policy(expiry=3600))
    for path in ("unknown", "a/../b", ".events", "x.info", ".status/x"):
        answer = await get(app, f"/{kind}/{path}")
        assert (answer.status, answer.body) == (404, b"ERR_UPLOAD_NOT_FOUND: upload not found\n")


@pytest.mark.parametrize("path", ["/.status", "/.status/", "/.other", "/.tusd-py/x", "/.uploads/x", "/.", "/../x"])
async def test_names_that_mean_nothing(path: str) -> None:
    for app in (make_app(), guarded()):
        assert (await get(app, path, as_user("root"))).status == 404


async def test_other_methods_are_refused() -> None:
    app = guarded()
    path = await create(app, authorization="ann")
    for target in (f"/.status{path}", f"/.events{path}", "/.events", "/.uploads"):
        for method in ("POST", "PATCH", "DELETE", "PUT"):
            answer = await call(app, method, target, TUS | as_user("ann"))
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (await call(app, "OPTIONS", target)).status == 200
        answer = await call(app, "HEAD", target, as_user("ann"))
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"].startswith(("application/json", "text/event-stream"))


async def test_cors() -> None:
    app = make_app(cors=Cors())
    path = await create(app)
    answer = await get(app, f"/.status{path}", {"origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    stream = Stream(app, f"/.events{path}", {"origin": "https://example.org"})
    await stream.next()
    assert stream.headers["access-control-allow-origin"] == "https://example.org"
    await stream.leave()


# Whose uploads


async def test_without_authorisation_there_is_nothing_about_many() -> None:
    app = make_app()
    assert [(await get(app, path)).status for path in ("/.uploads", "/.events")] == [404, 404]


async def test_one_upload_is_for_whom_may_describe_it() -> None:
    app = guarded()
    path = await create(app, authorization="ann")
    for kind in ("/.status", "/.events"):
        answer = await get(app, kind + path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await get(app, kind + path, as_user("bob"))).status == 403
    assert (await got(app, f"/.status{path}", as_user("ann")))["owner"] == "ann"
    assert "owner" not in await got(app, f"/.status{path}", as_user("root"))
    assert "owner" not in await got(app, f"/.status{await create(app, authorization='nameless')}", as_user("ann"))


async def test_the_list_is_the_owners() -> None:
    app = guarded()
    anns = [await create(app, authorization="ann") for _ in range(3)]
    bobs = await create(app, authorization="bob")
    nobodys = await create(app, authorization="nameless")
    listed = await got(app, "/.uploads", as_user("ann"))
    assert [f"/{each['id']}" for each in listed["uploads"]] == anns and listed["next"] is None
    assert {each["owner"] for each in listed["uploads"]} == {"ann"}
    listed = await got(app, "/.uploads", as_user("root"))
    assert {f"/{each['id']}": each.get("owner") for each in listed["uploads"]} == {
        **dict.fromkeys(anns, "ann"),
        bobs: "bob",
        nobodys: None,
    }
    assert (await get(app, "/.uploads")).status == 401
    for path in ("/.uploads", "/.events"):
        assert (await get(app, path, as_user("nameless"))).status == 403


async def test_pages() -> None:
    app = guarded()
    wanted = sorted([await create(app, authorization="ann") for _ in range(7)])
    for limit in (1, 2, 3, 6, 7, 8, 1000):
        found, cursor, count = [], "", 0
        while True:
            count += 1
            page = await got(app, f"/.uploads?limit={limit}" + (f"&cursor={cursor}" if cursor else ""), as_user("ann"))
            found += [f"/{each['id']}" for each in page["uploads"]]
            assert len(page["uploads"]) <= limit
            if page["next"] is None:
                break
            cursor = page["next"]
        assert found == wanted and count == -(-7 // limit)


async def test_pages_that_read_no_more_than_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "WINDOW", 3)
    app = guarded()
    for number in range(10):
        await create(app, authorization="ann" if number in (1, 8, 9) else "bob")
    sizes, found, query = [], [], "/.uploads"
    while query:
        page = await got(app, query, as_user("ann"))
        sizes.append(len(page["uploads"]))
        found += [each["id"] for each in page["uploads"]]
        query = f"/.uploads?cursor={page['next']}" if page["next"] else ""
    assert sorted(found) == ["id10", "id2", "id9"] and sizes[:3] == [2, 0, 0]


async def test_a_page_that_ends_with_its_window_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "WINDOW", 3)
    app = guarded()
    for _ in range(4):
        await create(app, authorization="ann")
    first = await got(app, "/.uploads?limit=3", as_user("ann"))
    second = await got(app, f"/.uploads?limit=3&cursor={first['next']}", as_user("ann"))
    assert [each["id"] for page in (first, second) for each in page["uploads"]] == ["id1", "id2", "id3", "id4"]
    assert second["next"] is None


async def test_a_list_leaves_out_what_is_gone_expired_or_damaged() -> None:
    now = time.time()

    class Damaged(MemoryInfoStore):
        async def load(self, upload_id: str) -> Upload:
            if upload_id == "damaged":
                raise RecordDamaged("half of it is missing")
            return await super().load(upload_id)

        async def ids(self) -> AsyncIterator[str]:
            yield "gone"
            async for upload_id in super().ids():
                yield upload_id

    info = Damaged(lambda: now)
    app = guarded(make_uploads(Policy(expiry=60), info=info))
    await info.create(Upload(id="damaged", length=1, owner="ann"))
    await create(app, authorization="ann")
    now -= 100
    await create(app, authorization="ann")
    listed = await got(app, "/.uploads", as_user("ann"))
    assert [each["id"] for each in listed["uploads"]] == ["id1"]


async def test_a_long_list_leaves_the_loop_to_others() -> None:
    app = guarded()
    for _ in range(status.IN_ONE_GO * 3):
        await create(app, authorization="ann")
    listing = asyncio.ensure_future(got(app, "/.uploads?limit=1000", as_user("ann")))
    turns = 0
    while not listing.done():
        await asyncio.sleep(0)
        turns += 1
    assert len((await listing)["uploads"]) == status.IN_ONE_GO * 3 and turns > 3


async def test_states() -> None:
    app = guarded()
    paused = await create(app, authorization="ann")
    finished = await create(app, length=5, body=b"hello", authorization="ann")
    for state, paths in {"paused": [paused], "finished": [finished], "failed": [], "held": [], "receiving": []}.items():
        listed = await got(app, f"/.uploads?state={state}", as_user("ann"))
        assert [f"/{each['id']}" for each in listed["uploads"]] == paths


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("state=terminated", "state is 'terminated': one of failed, finished, held, paused, receiving expected"),
        ("state=", "state is ''"),
        ("limit=0", "limit is '0': a number from 1 to 1000 expected"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=../x", "cursor is not one that was given out"),
        ("page=2", "unknown parameter 'page': state, limit or cursor expected"),
        ("%00=", "unknown parameter"),
    ],
)
async def test_queries_that_make_no_sense(query: str, message: str) -> None:
    answer = await get(guarded(), f"/.uploads?{query}", as_user("ann"))
    assert answer.status == 400 and answer.body.decode().startswith(f"ERR_INVALID_QUERY: {message}")


async def test_lists_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_LISTINGS", 1)
    info, going = MemoryInfoStore(), asyncio.Event()
    app = guarded(make_uploads(info=info))
    ids = info.ids

    async def slow_ids() -> AsyncIterator[str]:
        await going.wait()
        async for upload_id in ids():
            yield upload_id

    info.ids = slow_ids  # type: ignore[method-assign]
    first = asyncio.ensure_future(get(app, "/.uploads", as_user("ann")))
    await asyncio.sleep(0)
    refused = await get(app, "/.uploads", as_user("ann"))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    going.set()
    assert (await first).status == 200
    assert (await get(app, "/.uploads", as_user("ann"))).status == 200


# Streams


class Stream:
    """A client of a stream: it takes what comes when it is asked to."""

    def __init__(self, app: TusApp, path: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = 0, dict[str, str]()
        self.blocked = asyncio.Event()
        self.blocked.set()
        self.sending = 0
        self.broken = False
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._text = ""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "server": ("127.0.0.1", 80),
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.broken:
            raise OSError("gone")
        self.sending += 1
        await self.blocked.wait()
        self.sending -= 1
        self._messages.put_nowait(message)

    async def next(self) -> dict[str, str]:
        """The next event or comment; empty at the end."""
        async with asyncio.timeout(AGES):
            while "\n\n" not in self._text:
                message = await self._messages.get()
                if message["type"] == "http.response.start":
                    self.status = message["status"]
                    self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                elif not message.get("more_body"):
                    return {}
                else:
                    self._text += message["body"].decode()
        event, self._text = self._text.split("\n\n", 1)
        return dict(line.split(": ", 1) for line in event.split("\n"))

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next event's name and data."""
        while True:
            fields = await self.next()
            assert fields, "the stream has ended"
            if "data" in fields:
                return fields["event"], json.loads(fields["data"])

    async def leave(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, AGES)


def brief(event: tuple[str, dict[str, Any]]) -> tuple[str, str, int]:
    return event[0], event[1]["state"], event[1]["offset"]


async def test_events_of_an_upload() -> None:
    app = make_app(status_interval=0.1)
    path = await create(app)
    stream = Stream(app, f"/.events{path}")
    assert await stream.next() == {"retry": "2000"}
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (stream.headers["cache-control"], stream.headers["x-accel-buffering"]) == ("no-store", "no")
    first = await stream.next()
    assert (first["event"], first["id"], json.loads(first["data"])["offset"]) == ("progress", "1", 0)
    slow = Slow(app, path)
    second = await stream.next()
    assert (second["event"], second["id"], json.loads(second["data"])["state"]) == ("progress", "2", "receiving")
    slow.piece(b"hello")
    assert brief(event := await stream.event()) == ("progress", "receiving", 5)
    assert event[1]["bytes_per_second"] is not None
    slow.piece(b"world", more=False)
    await slow.task
    last = await stream.next()
    assert (last["event"], last["id"], json.loads(last["data"])["offset"]) == ("finished", "end", 10)
    assert await stream.next() == {}
    await asyncio.wait_for(stream.task, AGES)
    assert open_watches(app) == 0


def open_watches(app: TusApp) -> int:
    return app._status._watchers._count


async def test_events_of_a_finished_upload_are_one() -> None:
    app = make_app()
    path = await create(app, length=5, body=b"hello")
    stream = Stream(app, f"/.events{path}")
    assert brief(await stream.event()) == ("finished", "finished", 5)
    assert await stream.next() == {}
    await stream.task


async def test_a_browser_that_comes_back_is_told_to_stay_away() -> None:
    app = make_app()
    path = await create(app, length=5, body=b"hello")
    answer = await get(app, f"/.events{path}", {"last-event-id": "end"})
    assert (answer.status, answer.body) == (204, b"") and "content-length" not in answer.headers
    stream = Stream(app, f"/.events{await create(app)}", {"last-event-id": "end"})
    assert brief(await stream.event()) == ("progress", "paused", 0)
    await stream.leave()


async def test_events_of_an_upload_that_is_deleted() -> None:
    app = make_app(status_interval=0.1)
    path = await create(app)
    stream = Stream(app, f"/.events{path}")
    await stream.event()
    assert (await call(app, "DELETE", path, TUS)).status == 204
    assert brief(await stream.event()) == ("terminated", "terminated", 0)
    assert await stream.next() == {}
    await stream.task


async def test_events_of_a_final_that_fails() -> None:
    app = make_app(status_interval=0.1)
    partial = await create(app, upload_concat="partial")
    answer = await call(app, "POST", "/", TUS | {"upload-concat": f"final;{partial}"})
    stream = Stream(app, "/.events/" + answer.headers["location"].rsplit("/", 1)[1])
    assert brief(await stream.event()) == ("progress", "paused", 0)
    assert (await call(app, "DELETE", partial, TUS)).status == 204
    name, data = await stream.event()
    assert name == "failed" and data["failure"]
    await stream.task


async def test_events_of_an_owner() -> None:
    app = guarded()
    stream, all_of_them = Stream(app, "/.events", as_user("ann")), Stream(app, "/.events", as_user("root"))
    await create(app, authorization="bob", length=5, body=b"hello")
    path = await create(app, authorization="ann")
    assert brief(event := await stream.event()) == ("progress", "paused", 0)
    assert (event[1]["id"], event[1]["owner"]) == (path[1:], "ann")
    await create(app, authorization="ann", length=5, body=b"hello")
    while (last := await stream.next()).get("event") != "finished":
        assert last
    assert last["id"].isdecimal()
    seen: dict[str, str] = {}
    while len(seen) < 3:
        _, data = await all_of_them.event()
        seen[data["id"]] = data["owner"]
    assert seen == {"id1": "bob", "id2": "ann", "id3": "ann"}
    await stream.leave()
    await all_of_them.leave()


async def test_a_silent_stream_has_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.01)
    app = make_app()
    stream = Stream(app, f"/.events{await create(app)}")
    await stream.event()
    assert await stream.next() == {"": "still here"}
    assert await stream.next() == {"": "still here"}
    await stream.leave()


async def test_a_slow_reader_gets_the_latest_state_only() -> None:
    app = make_app(status_interval=0.1)
    path = await create(app)
    stream = Stream(app, f"/.events{path}")
    await stream.event()
    slow = Slow(app, path)
    assert brief(await stream.event()) == ("progress", "receiving", 0)
    stream.blocked.clear()
    watch = next(iter(next(iter(app._status._watchers._watches.values()))))
    slow.piece(b"x")
    await wait_for(lambda: stream.sending)
    for count in (2, 3, 4):
        slow.piece(b"x")
        await wait_for(lambda: any(each.offset == count for each in watch._pending.values()))  # noqa: B023 - awaited here
    stream.blocked.set()
    assert brief(await stream.event()) == ("progress", "receiving", 1)
    assert brief(await stream.event()) == ("progress", "receiving", 4)
    await slow.end()
    await stream.leave()


async def test_a_client_that_leaves_is_forgotten() -> None:
    app = make_app()
    stream = Stream(app, f"/.events{await create(app)}")
    await stream.event()
    assert open_watches(app) == 1
    await stream.leave()
    assert open_watches(app) == 0 and not pending_tasks()


def pending_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "progress" in task.get_name() and not task.cancelling()]


async def test_a_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALL", 0.05)
    app = make_app()
    stream = Stream(app, f"/.events{await create(app)}")
    await stream.event()
    stream.blocked.clear()
    monkeypatch.setattr(sse, "HEARTBEAT", 0.01)
    await create(app)
    await asyncio.wait_for(stalled(stream, app), AGES)


async def stalled(stream: Stream, app: TusApp) -> None:
    for watches in app._status._watchers._watches.values():
        for watch in watches:
            watch._news.set()  # a reason to send something
    await stream.task
    assert open_watches(app) == 0


async def test_a_client_whose_connection_broke_is_dropped() -> None:
    app = make_app()
    path = await create(app)
    stream = Stream(app, f"/.events{path}")
    await stream.event()
    stream.broken = True
    await stalled(stream, app)


async def test_silence_of_the_server_is_not_held_against_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALL", 0.05)
    monkeypatch.setattr(sse, "HEARTBEAT", 0.2)
    app = make_app()
    stream = Stream(app, f"/.events{await create(app)}")
    await stream.event()
    for _ in range(3):
        assert await stream.next() == {"": "still here"}
    await stream.leave()


@pytest.mark.parametrize("how", ["told", "lifespan", "host"])
async def test_streams_end_when_the_server_stops(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = False
    monkeypatch.setattr(status, "host_is_stopping", lambda: stopping)
    app = make_app(status_interval=0.1)
    async with app.lifespan():
        stream = Stream(app, f"/.events{await create(app)}")
        await stream.event()
        if how == "told":
            app.begin_shutdown()
        stopping = how == "host"
        if how != "lifespan":
            await asyncio.wait_for(stream.task, AGES)
    await asyncio.wait_for(stream.task, AGES)
    assert await stream.next() == {}
    assert (await get(app, "/.events/id1")).status == 503


async def test_streams_end_although_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FLUSH", 0.01)
    app = make_app(status_interval=0.1)
    path = await create(app)
    stream = Stream(app, f"/.events{path}")
    await stream.event()
    stream.blocked.clear()
    slow = Slow(app, path)
    await wait_for(lambda: stream.sending)
    app.begin_shutdown()
    await asyncio.wait_for(stream.task, AGES)
    await slow.task


async def test_streams_end_when_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_AGE", 0.05)
    app = make_app()
    stream = Stream(app, f"/.events{await create(app)}")
    await asyncio.wait_for(stream.task, AGES)
    assert open_watches(app) == 0


async def test_streams_are_bounded() -> None:
    app = make_app()
    app._status._watchers._limit = 1
    path = await create(app)
    stream = Stream(app, f"/.events{path}")
    await stream.event()
    refused = await get(app, f"/.events{path}")
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert refused.body.startswith(b"ERR_TOO_MANY_STREAMS")
    await stream.leave()


async def test_a_cancelled_stream_is_forgotten() -> None:
    app = make_app()
    stream = Stream(app, f"/.events{await create(app)}")
    await stream.event()
    stream.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream.task
    assert open_watches(app) == 0


class Host:
    """As uvicorn's `Server`."""

    should_exit = False

    def handle_exit(self, *_: object) -> None:
        self.should_exit = True


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    def use(handler: object) -> None:
        monkeypatch.setattr("signal.getsignal", lambda _: handler)

    yield use


def test_uvicorn_as_host_is_asked(handler: Callable[[object], None]) -> None:
    host = Host()
    handler(host.handle_exit)
    assert not sse.host_is_stopping()
    host.handle_exit()
    assert sse.host_is_stopping()
    for other in (None, 0, print, lambda: None):
        handler(other)
        assert not sse.host_is_stopping()
