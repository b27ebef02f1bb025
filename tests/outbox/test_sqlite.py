"""The outbox in SQLite: the suite, and what is between processes and disks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.outbox import connection, sql_thread, transactions
from tusd_py.outbox.sql_thread import SqlThread, Strength
from tusd_py.outbox.sqlite import KEEP_DEAD, SqliteOutbox
from tusd_py.ports.events import AFFINITY, EventState
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.upload import Upload
from tusd_py.testing.outbox_suite import OutboxSuite, Time, event, tried

CREATE, RECEIVE, FINISH = HookType.POST_CREATE, HookType.POST_RECEIVE, HookType.POST_FINISH
RETENTION = 100.0


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / ".tusd-py"


@pytest.fixture
async def outbox(state_dir: Path, clock: Time) -> AsyncIterator[SqliteOutbox]:
    outbox = SqliteOutbox(str(state_dir), retention=RETENTION, clock=clock)
    yield outbox
    await outbox.close()


@pytest.fixture
async def other(state_dir: Path, clock: Time) -> AsyncIterator[SqliteOutbox]:
    """What another process has; it lives until the test ends."""
    outbox = SqliteOutbox(str(state_dir), retention=RETENTION, clock=clock)
    yield outbox
    await outbox.close()


async def test_what_was_given_up_is_still_to_be_got(outbox: SqliteOutbox, clock: Time) -> None:
    """Somebody may replay it."""
    await outbox.confirm(event("a"), ["hooks"])
    (stored,) = await outbox.claim("hooks", 1)
    await outbox.settle((), [tried(stored, clock.now, dead=True)])
    assert await outbox.undelivered("a", besides="cas") == 1


class TestSqliteOutbox(OutboxSuite):
    @pytest.fixture
    async def outbox(self, tmp_path: Path, clock: Time) -> AsyncIterator[SqliteOutbox]:
        outbox = SqliteOutbox(str(tmp_path / ".tusd-py"), retention=RETENTION, clock=clock)
        yield outbox
        await outbox.close()


def rows(state_dir: Path, statement: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(state_dir / "events.db")
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


# Between processes


async def test_everything_is_there_after_closing(outbox: SqliteOutbox, other: SqliteOutbox) -> None:
    await outbox.prepare([event("a"), event("b")], ["hooks"])
    await outbox.confirm(event("b"), ["hooks"])
    await outbox.confirm(event("c"), ["hooks"])
    (claimed,) = await outbox.claim("hooks", 1)
    await outbox.close()
    assert [stored.event.upload.id async for stored in other.prepared(1e12)] == ["a"]
    found = await other.claim("hooks", 10)
    assert [stored.event.upload.id for stored in found] == ["b", "c"], "a claim ends with its process"
    assert claimed.event.id == found[0].event.id


async def test_who_confirmed_comes_first(outbox: SqliteOutbox, other: SqliteOutbox, clock: Time) -> None:
    await outbox.confirm(event("a"), ["hooks"])
    assert not await other.claim("hooks", 10)
    assert await other.next_due("hooks") == clock.now + AFFINITY
    clock.now += AFFINITY - 0.1
    assert not await other.claim("hooks", 10)
    assert await outbox.next_due("hooks") == clock.now - AFFINITY + 0.1
    (stored,) = await outbox.claim("hooks", 10)
    await outbox.settle((), [tried(stored, clock.now + 60)])
    clock.now += 60
    assert not await other.claim("hooks", 10), "also when it is tried again"
    clock.now += AFFINITY
    assert len(await other.claim("hooks", 10)) == 1
    assert not await outbox.claim("hooks", 10)


async def test_what_is_left_behind_is_anybodys_at_once(outbox: SqliteOutbox, other: SqliteOutbox, clock: Time) -> None:
    for kind in (CREATE, FINISH):
        await outbox.confirm(event("a", kind), ["hooks"])
    await outbox.close()
    for kind in (CREATE, FINISH):
        (stored,) = await other.claim("hooks", 10)
        assert stored.event.type is kind
        await other.settle([stored], ())


async def test_one_that_confirms_twice_at_once(outbox: SqliteOutbox, other: SqliteOutbox) -> None:
    """Two workers recover after a crash."""
    await outbox.prepare([event("a", FINISH)], ["hooks"])
    await asyncio.gather(*(each.confirm(event("a", FINISH), ["hooks"]) for each in (outbox, other, outbox, other)))
    assert len(await outbox.claim("hooks", 10)) + len(await other.claim("hooks", 10)) == 1


async def test_many_open_a_new_database_at_once(state_dir: Path) -> None:
    outboxes = [SqliteOutbox(str(state_dir)) for _ in range(8)]
    await asyncio.gather(*(each.confirm(event(f"{number}"), ["hooks"]) for number, each in enumerate(outboxes)))
    assert (await outboxes[0].backlog("hooks")).count == 8
    for each in outboxes:
        await each.close()
    assert not os.listdir(state_dir / "claimers")


async def test_a_claim_whose_file_is_gone_is_free(outbox: SqliteOutbox, state_dir: Path) -> None:
    """As after a crash between two steps of taking over, or when somebody tidied up by hand."""
    await outbox.confirm(event("a"), ["hooks"])
    await outbox.claim("hooks", 1)
    database = sqlite3.connect(state_dir / "events.db")
    with database:
        database.execute("UPDATE events SET claimer = 'nobody'")
    database.close()
    await outbox.tidy()
    assert len(await outbox.claim("hooks", 1)) == 1


async def test_a_process_that_is_stopped_keeps_its_claims(outbox: SqliteOutbox, other: SqliteOutbox, clock: Time) -> None:
    await outbox.confirm(event("a"), ["hooks"])
    claimed = await outbox.claim("hooks", 1)
    clock.now += 1e9
    await other.tidy()
    assert not await other.claim("hooks", 1)
    await outbox.settle(claimed, ())


# What is kept


async def test_retention(outbox: SqliteOutbox, state_dir: Path, clock: Time) -> None:
    for upload_id in ("delivered", "dead"):
        await outbox.confirm(event(upload_id), ["hooks"])
    delivered, dead = await outbox.claim("hooks", 2)
    await outbox.settle([delivered], [tried(dead, clock.now, dead=True)])
    for age, left in ((RETENTION - 1, 2), (1, 1), (KEEP_DEAD - RETENTION - 1, 1), (1, 0)):
        clock.now += age
        await outbox.tidy()
        assert len(rows(state_dir, "SELECT 1 FROM events")) == left


async def test_more_than_a_page_is_dropped(outbox: SqliteOutbox, state_dir: Path, clock: Time) -> None:
    for number in range(2 * transactions.PAGE + 1):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    await outbox.settle(await outbox.claim("hooks", 1000), ())
    clock.now += RETENTION
    await outbox.tidy()
    assert not rows(state_dir, "SELECT 1 FROM events")


@pytest.mark.parametrize(("kind", "kept"), [(CREATE, 1), (RECEIVE, 0)])
async def test_progress_is_not_kept(outbox: SqliteOutbox, state_dir: Path, kind: HookType, kept: int) -> None:
    await outbox.confirm(event("a", kind), ["hooks"])
    await outbox.settle(await outbox.claim("hooks", 1), ())
    assert len(rows(state_dir, "SELECT 1 FROM events")) == kept


async def test_without_retention_nothing_is_kept(state_dir: Path) -> None:
    outbox = SqliteOutbox(str(state_dir), retention=0)
    for kind in (CREATE, FINISH):
        await outbox.confirm(event("a", kind), ["hooks"])
    for _ in range(2):
        await outbox.settle(await outbox.claim("hooks", 1), ())
    assert not rows(state_dir, "SELECT 1 FROM events")
    await outbox.close()


async def test_an_event_that_cannot_be_read_is_given_up(
    outbox: SqliteOutbox, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await outbox.prepare([event("prepared"), event("also")], ["hooks"])
    for kind in (CREATE, FINISH):
        await outbox.confirm(event("a", kind), ["hooks"])
    database = sqlite3.connect(state_dir / "events.db")
    with database:
        database.execute("UPDATE events SET payload = CAST('nonsense' AS BLOB) WHERE type = 'post-create'")
        database.execute("UPDATE intents SET payload = CAST('nonsense' AS BLOB) WHERE upload = 'prepared'")
    database.close()
    assert not await outbox.claim("hooks", 10)
    (stored,) = await outbox.claim("hooks", 10)
    assert stored.event.type is FINISH
    assert [stored.event.upload.id async for stored in outbox.prepared(1e12)] == ["also"]
    assert "an event can't be read and is given up" in caplog.text and "a prepared event can't be read" in caplog.text
    ((state, error),) = rows(state_dir, "SELECT state, error FROM events WHERE type = 'post-create'")
    assert state == EventState.DEAD and str(error).startswith("can't be read: ")


# Cancellation, closing


async def test_a_claim_that_nobody_waits_for_is_given_back(outbox: SqliteOutbox) -> None:
    for number in range(20):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    for turns in range(20):
        claiming = asyncio.create_task(outbox.claim("hooks", 20))
        for _ in range(turns):
            await asyncio.sleep(0)
        claiming.cancel()
        try:
            claimed = await claiming
        except asyncio.CancelledError:
            claimed = await outbox.claim("hooks", 20)
        assert len(claimed) == 20
        await outbox.settle((), claimed)


async def test_what_is_cancelled_is_done_and_disturbs_nobody(outbox: SqliteOutbox) -> None:
    tasks = [asyncio.create_task(outbox.confirm(event(f"{number}"), ["hooks"])) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await outbox.backlog("hooks")).count >= 25


async def test_closing_waits_for_what_was_asked_for(outbox: SqliteOutbox, other: SqliteOutbox) -> None:
    tasks = [asyncio.create_task(outbox.confirm(event(f"{number}"), ["hooks"])) for number in range(50)]
    await asyncio.sleep(0)
    await outbox.close()
    await asyncio.gather(*tasks)
    assert (await other.backlog("hooks")).count == 50
    with pytest.raises(StorageFailure, match="closed"):
        await outbox.confirm(event("late"), ["hooks"])


async def test_closing_what_was_never_used(tmp_path: Path) -> None:
    outbox = SqliteOutbox(str(tmp_path / ".tusd-py"))
    await outbox.close()
    assert not os.listdir(tmp_path)


def test_it_may_be_closed_on_another_loop(tmp_path: Path) -> None:
    outbox = SqliteOutbox(str(tmp_path))

    async def use() -> None:
        await outbox.confirm(event("a"), ["hooks"])
        assert await outbox.claim("hooks", 1)

    async def close() -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(outbox.close(), outbox.close())

    async def look() -> None:
        other = SqliteOutbox(str(tmp_path))
        assert await other.claim("hooks", 1), "it has let go of all"
        await other.close()

    for each in (use, close, look):
        asyncio.run(each())


def test_its_loop_may_end_without_it(tmp_path: Path) -> None:
    """A program that is in a hurry."""

    async def hurry() -> None:
        outbox = SqliteOutbox(str(tmp_path))
        task = asyncio.create_task(outbox.confirm(event("a"), ["hooks"]))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(hurry())


async def test_nothing_blocks_the_event_loop(state_dir: Path) -> None:
    with blockbuster_ctx() as blockbuster:
        blockbuster.activate()
        outbox = SqliteOutbox(str(state_dir))
        await outbox.prepare([event("a")], ["hooks"])
        await outbox.confirm(event("a"), ["hooks"])
        await outbox.settle(await outbox.claim("hooks", 1), ())
        await outbox.tidy()
        await outbox.close()


# Commits


class Counting:
    """Looks at what the thread does to its connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        opened = connection._connect

        def connect(uri: str) -> sqlite3.Connection:
            made = opened(uri)
            made.set_trace_callback(self.statements.append)
            return made

        monkeypatch.setattr(connection, "_connect", connect)

    def commits(self) -> list[str]:
        """The level of each commit since the last call."""
        found, level = [], ""
        for statement in self.statements:
            if statement.startswith("PRAGMA synchronous = "):
                level = statement.rpartition(" ")[2]
            elif statement == "COMMIT":
                found.append(level)
        self.statements[:] = [f"PRAGMA synchronous = {level}"]
        return found


@pytest.mark.parametrize(("durable", "level"), [(True, "FULL"), (False, "NORMAL")])
async def test_only_what_is_prepared_waits_for_the_disk(
    state_dir: Path, durable: bool, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch)
    outbox = SqliteOutbox(str(state_dir), durable=durable)
    await outbox.next_due("hooks")
    counting.commits()
    await outbox.prepare([event("a")], ["hooks"])
    assert counting.commits() == [level]
    await outbox.confirm(event("a"), ["hooks"])
    await outbox.settle(await outbox.claim("hooks", 1), ())
    await outbox.withdraw("a", [FINISH])
    assert counting.commits() == 4 * ["NORMAL"]
    await outbox.close()


async def test_many_calls_share_a_commit(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(monkeypatch)
    outbox = SqliteOutbox(str(state_dir))
    await outbox.next_due("hooks")
    counting.commits()
    await asyncio.gather(*(outbox.prepare([event(f"{number}")], ["hooks"]) for number in range(300)))
    assert len(counting.commits()) < 150
    assert len([None async for _ in outbox.prepared(1e12)]) == 300
    await outbox.close()


def opened() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE t (x UNIQUE)")
    return database


def put(value: int) -> object:
    return lambda database: database.execute("INSERT INTO t VALUES (?)", (value,))


async def test_a_call_that_fails_takes_nobody_with_it() -> None:
    thread = SqlThread(opened, lambda database: None)
    await thread.run(put(5), Strength.WRITE)  # type: ignore[arg-type]
    calls = [thread.run(put(value), Strength.WRITE) for value in range(10)]  # type: ignore[arg-type]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [number for number, result in enumerate(results) if isinstance(result, Exception)] == [5]
    assert isinstance(results[5], StorageFailure)
    assert await thread.run(lambda database: database.execute("SELECT count(*) FROM t").fetchone()[0], Strength.READ) == 10
    await thread.close()


async def test_a_mistake_in_a_call_reaches_who_made_it() -> None:
    thread = SqlThread(opened, lambda database: None)

    def mistake(database: sqlite3.Connection) -> None:
        database.execute("INSERT INTO t VALUES (1)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await thread.run(mistake, Strength.WRITE)
    assert await thread.run(lambda database: database.execute("SELECT count(*) FROM t").fetchone()[0], Strength.READ) == 0
    await thread.close()


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_thread, "MAX_QUEUED", 10)
    thread, may_go = SqlThread(opened, lambda database: None), threading.Event()
    calls = [asyncio.create_task(thread.run(lambda database: may_go.wait(60), Strength.READ)) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert len(thread._queue) <= 10
    may_go.set()
    assert await asyncio.gather(*calls) == 50 * [True]
    await thread.close()


async def test_a_database_that_cannot_be_opened_is_tried_again() -> None:
    attempts = 0

    def reluctant() -> sqlite3.Connection:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise StorageFailure("not yet")
        return opened()

    thread = SqlThread(reluctant, lambda database: None)
    for _ in range(2):
        with pytest.raises(StorageFailure, match="not yet"):
            await thread.run(put(1), Strength.WRITE)  # type: ignore[arg-type]
    await thread.run(put(1), Strength.WRITE)  # type: ignore[arg-type]
    await thread.close()


# Failures


async def test_a_database_that_another_process_keeps(
    outbox: SqliteOutbox, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT", 0.05)
    await outbox.confirm(event("a"), ["hooks"])
    stranger = sqlite3.connect(state_dir / "events.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    calls = [outbox.confirm(event(f"{number}"), ["hooks"]) for number in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, StorageFailure) and "another process kept" in str(result) for result in results)
    stranger.execute("ROLLBACK")
    stranger.close()
    await outbox.confirm(event("b"), ["hooks"])
    assert (await outbox.backlog("hooks")).count == 2


async def test_nonsense_instead_of_a_database(outbox: SqliteOutbox, state_dir: Path) -> None:
    os.mkdir(state_dir)
    (state_dir / "events.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StorageFailure, match=r"move events\.db away"):
        await outbox.confirm(event("a"), ["hooks"])
    (state_dir / "events.db").unlink()
    await outbox.confirm(event("a"), ["hooks"])


async def test_a_database_of_a_later_version(outbox: SqliteOutbox, state_dir: Path) -> None:
    os.mkdir(state_dir)
    database = sqlite3.connect(state_dir / "events.db")
    database.execute("PRAGMA user_version = 77")
    database.close()
    with pytest.raises(StorageFailure, match="has version 77"):
        await outbox.confirm(event("a"), ["hooks"])


async def test_a_place_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / ".tusd-py").touch()
    outbox = SqliteOutbox(str(tmp_path / ".tusd-py"))
    with pytest.raises(ReadOnlyStorage):
        await outbox.confirm(event("a"), ["hooks"])
    await outbox.close()


async def test_strangers_cannot_read_it(outbox: SqliteOutbox, state_dir: Path) -> None:
    await outbox.confirm(event("a"), ["hooks"])
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        assert stat.S_IMODE((state_dir / name).stat().st_mode) == 0o600


def large(upload_id: str) -> HookEvent:
    request = HttpRequest(headers={"X-Large": ("x" * 20_000,)})
    return HookEvent(type=CREATE, upload=Upload(id=upload_id, length=1), request=request)


@pytest.mark.root
async def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing is half done, what was there stays, and it goes on when there is room."""
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=2m") as mount:
        outbox = SqliteOutbox(str(mount / ".tusd-py"))
        done = 0
        with pytest.raises(OutOfSpace):
            for done in range(1000):
                await outbox.prepare([large(f"{done}")], ["hooks"])
        names = [stored.event.upload.id async for stored in outbox.prepared(1e12)]
        assert names == [str(number) for number in range(done)] and done > 20
        results = await asyncio.gather(
            *(outbox.prepare([large(f"more{number}")], ["hooks"]) for number in range(10)), return_exceptions=True
        )
        assert any(isinstance(result, OutOfSpace) for result in results)
        remount(mount, "size=8m")
        await outbox.prepare([large("at last")], ["hooks"])
        for number in range(done):
            await outbox.confirm(event(f"{number}"), ["hooks"])
        assert (await outbox.backlog("hooks")).count == done
        await outbox.close()
        other = SqliteOutbox(str(mount / ".tusd-py"))
        assert "at last" in [stored.event.upload.id async for stored in other.prepared(1e12)]
        assert len(await other.claim("hooks", 1000)) == done
        await other.close()


@pytest.mark.root
async def test_a_full_disk_from_the_start(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=64k") as mount:
        (mount / "filler").write_bytes(b"x" * 60_000)
        outbox = SqliteOutbox(str(mount / ".tusd-py"))
        for _ in range(2):
            with pytest.raises(OutOfSpace):
                await outbox.prepare([event("a")], ["hooks"])
        remount(mount, "size=8m")
        await outbox.prepare([event("a")], ["hooks"])
        await outbox.close()


@pytest.mark.root
async def test_a_file_system_that_becomes_read_only(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=8m") as mount:
        first = SqliteOutbox(str(mount / ".tusd-py"))
        await first.prepare([event("a")], ["hooks"])
        await first.close()
        remount(mount, "ro")
        outbox = SqliteOutbox(str(mount / ".tusd-py"))
        with pytest.raises(ReadOnlyStorage):
            await outbox.prepare([event("b")], ["hooks"])
        remount(mount, "rw")
        await outbox.prepare([event("b")], ["hooks"])
        await outbox.close()


async def test_repr(outbox: SqliteOutbox, state_dir: Path) -> None:
    assert repr(outbox) == f"<SqliteOutbox '{state_dir}' <SqlThread 0 queued>>"
