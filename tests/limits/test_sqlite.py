"""`SqliteLimiter` keeps the port's promises; and what is special about a database that several processes write to."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.mounts import mounted_tmpfs, requires_mounts
from tests.support.waiting import until
from tusd_py.fs.paths import STATE_DIR
from tusd_py.limits.rules import LimitSettings
from tusd_py.limits.sqlite import SqliteLimiter
from tusd_py.ports.failures import OutOfSpace, StorageFailure
from tusd_py.protocol.refusals import QuotaExceeded, TooManyUploads
from tusd_py.protocol.upload import Upload
from tusd_py.testing.limiter_suite import LimiterSuite, TurnedClock, Uploads


class TestSqliteLimiter(LimiterSuite):
    @pytest.fixture
    async def open(
        self, clock: TurnedClock, uploads: Uploads, tmp_path: Path
    ) -> AsyncIterator[Callable[[LimitSettings], SqliteLimiter]]:
        async with AsyncExitStack() as stack:

            def make(limits: LimitSettings) -> SqliteLimiter:
                limiter = SqliteLimiter(str(tmp_path), limits, uploads, clock=clock, free=self.free)
                stack.push_async_callback(limiter.close)
                return limiter

            yield make


Make = Callable[..., SqliteLimiter]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Opens limiters on one directory; all are closed when the test ends."""
    async with AsyncExitStack() as stack:

        def make(uploads: Uploads | None = None, directory: Path = tmp_path, **options: Any) -> SqliteLimiter:
            limits = LimitSettings(**{name: options.pop(name) for name in LimitSettings.__slots__ if name in options})
            limiter = SqliteLimiter(str(directory), limits, uploads or Uploads(), **options)
            stack.push_async_callback(limiter.close)
            return limiter

        yield make


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The account in `tmp_path` as another process sees it; it is there before a limiter is opened."""
    (tmp_path / STATE_DIR).mkdir()
    path = tmp_path / STATE_DIR / "account.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


async def until_admitted(limiter: SqliteLimiter, upload: Upload) -> None:
    """Try until it is, which is soon."""
    async with asyncio.timeout(15):
        while True:
            try:
                await limiter.admit(upload, "")
            except QuotaExceeded:
                await asyncio.sleep(0.01)
            else:
                return


async def test_the_account_outlives_the_process(make: Make) -> None:
    first = make(quota=100)
    await first.admit(Upload(id="a", length=60), "")
    await first.progress(Upload(id="a", length=60, offset=7))
    await first.close()
    second = make(quota=100)
    with pytest.raises(QuotaExceeded):
        await second.admit(Upload(id="b", length=41), "")


async def test_progress_is_written_when_the_account_is_closed(make: Make, database: sqlite3.Connection) -> None:
    limiter = make(quota=100)
    await limiter.admit(Upload(id="a", length=60), "")
    await limiter.progress(Upload(id="a", length=60, offset=7))
    await limiter.close()
    assert database.execute("SELECT offset FROM uploads").fetchall() == [(7,)]


async def test_progress_is_written_after_a_while(make: Make, database: sqlite3.Connection) -> None:
    limiter = make(quota=100)
    await limiter.admit(Upload(id="a", length=60), "")
    for offset in range(1, 8):
        await limiter.progress(Upload(id="a", length=60, offset=offset))
    await asyncio.to_thread(until, lambda: database.execute("SELECT offset FROM uploads").fetchall() == [(7,)])


async def test_several_see_what_each_other_do(make: Make) -> None:
    first, second = make(max_uploads=1, quota=100), make(max_uploads=1, quota=100)
    await first.admit(Upload(id="a", length=60), "")
    with pytest.raises(TooManyUploads):
        await second.admit(Upload(id="b", length=60), "")
    await first.progress(Upload(id="a", length=60, offset=60))  # not a moment later, but from now on
    with pytest.raises(QuotaExceeded):
        await second.admit(Upload(id="b", length=60), "")
    await second.forget("a")
    await second.admit(Upload(id="b", length=60), "")


async def test_sums_are_what_they_sum_up(make: Make, database: sqlite3.Connection) -> None:
    """Whatever is done to uploads, in whatever order."""
    random = Random(7)
    limiter = make(quota=1 << 60, min_free=0, free=lambda: 1 << 62)
    uploads: dict[str, Upload] = {}
    for _ in range(400):
        upload_id = f"u{random.randrange(30)}"
        upload = uploads.get(upload_id)
        if upload is None:
            length = random.choice([None, 0, random.randrange(1000)])
            upload = Upload(id=upload_id, length=length, owner=random.choice([None, "ann", "bob"]))
            await limiter.admit(upload, "")
        elif random.random() < 0.2:
            await limiter.forget(upload_id)
            del uploads[upload_id]
            continue
        elif upload.length is None and random.random() < 0.5:
            before, upload = upload, upload.evolve(length=upload.offset + random.randrange(100))
            await limiter.extend(before, upload)
        else:
            upload = upload.evolve(offset=random.randrange((500 if upload.length is None else upload.length) + 1))
            await limiter.progress(upload)
        uploads[upload_id] = upload
    await limiter.close()
    stored: dict[str, int] = {}
    for upload in uploads.values():
        stored[upload.owner or ""] = stored.get(upload.owner or "", 0) + (
            upload.length if upload.length is not None else upload.offset
        )
    found = dict(database.execute("SELECT owner, stored FROM owners").fetchall())
    assert {owner: sum for owner, sum in found.items() if sum} == {owner: sum for owner, sum in stored.items() if sum}
    awaited = sum(upload.length - upload.offset for upload in uploads.values() if upload.length is not None)
    assert database.execute("SELECT awaited FROM totals").fetchall() == [(awaited,)]


async def test_an_admission_that_is_cancelled_leaves_nothing(make: Make) -> None:
    limiter = make(quota=100)
    await limiter.admit(Upload(id="first", length=0), "")
    admission = asyncio.create_task(limiter.admit(Upload(id="a", length=100), ""))
    await asyncio.sleep(0)  # it has begun
    admission.cancel()
    with pytest.raises(asyncio.CancelledError):
        await admission
    await until_admitted(limiter, Upload(id="b", length=100))


async def test_a_declaration_that_is_cancelled_is_taken_back(make: Make) -> None:
    limiter = make(quota=100)
    before = Upload(id="a", length=None)
    await limiter.admit(before, "")
    declaration = asyncio.create_task(limiter.extend(before, before.evolve(length=100)))
    await asyncio.sleep(0)
    declaration.cancel()
    with pytest.raises(asyncio.CancelledError):
        await declaration
    await until_admitted(limiter, Upload(id="b", length=100))


async def test_what_is_too_young_to_tell_is_looked_at_again(make: Make) -> None:
    """The restart comes seconds after the crash, and there may be no other for months."""
    crashed = make(quota=100)
    await crashed.admit(Upload(id="never made", length=100), "")
    await crashed.close()
    limiter = make(quota=100, grace=0.2)
    await limiter.recover()
    await until_admitted(limiter, Upload(id="a", length=100))


async def test_many_open_a_new_account_at_once(make: Make) -> None:
    limiters = [make(quota=100) for _ in range(8)]
    results = await asyncio.gather(
        *(limiter.admit(Upload(id=f"u{number}", length=20), "") for number, limiter in enumerate(limiters)),
        return_exceptions=True,
    )
    assert results.count(None) == 5
    assert all(isinstance(result, QuotaExceeded) for result in results if result is not None)


async def test_who_makes_the_account_waits_for_others_who_do(
    make: Make, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not wait there, whatever its timeout."""
    database.execute("BEGIN IMMEDIATE")
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        database.execute("ROLLBACK")

    monkeypatch.setattr("tusd_py.fs.wal.time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    await make(quota=100).admit(Upload(id="a", length=1), "")
    assert len(pauses) == 1


async def test_a_damaged_account_says_so(make: Make, tmp_path: Path) -> None:
    (tmp_path / STATE_DIR).mkdir()
    (tmp_path / STATE_DIR / "account.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StorageFailure, match=r"account\.db' is damaged .* remove it with its -wal and -shm files"):
        await make(quota=100).admit(Upload(id="a", length=1), "")


async def test_an_account_that_others_keep_locked_is_a_failure(
    make: Make, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tusd_py.limits.database.BUSY_TIMEOUT", 0.05)
    limiter = make(quota=100)
    await limiter.admit(Upload(id="a", length=60), "")
    database.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailure, match="database is locked"):
        await limiter.admit(Upload(id="b", length=1), "")
    await limiter.forget("a")  # is said to the log, and remembered
    database.execute("ROLLBACK")
    await limiter.admit(Upload(id="b", length=100), "")


async def test_a_closed_account_is_a_failure(make: Make) -> None:
    limiter = make(quota=100)
    await limiter.close()
    with pytest.raises(StorageFailure, match="is closed"):
        await limiter.admit(Upload(id="a", length=1), "")


async def test_only_its_owner_may_read_the_account(make: Make, tmp_path: Path) -> None:
    limiter = make(quota=100)
    await limiter.admit(Upload(id="a", length=1), "")
    files = list((tmp_path / STATE_DIR).glob("account.db*"))
    assert files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_clients_with_all_of_their_rate_are_forgotten(make: Make, database: sqlite3.Connection) -> None:
    clock = TurnedClock()
    limiter = make(create_rate=60, clock=clock)
    for number in range(20):
        await limiter.admit(Upload(id=str(number), length=1), f"192.0.2.{number}")
    clock.turn(2)
    await limiter.admit(Upload(id="last", length=1), "192.0.2.100")
    assert database.execute("SELECT client FROM rates").fetchall() == [("client 192.0.2.100",)]


@pytest.mark.root
async def test_a_full_disk_is_out_of_space(make: Make, tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        limiter = make(directory=disk, quota=1 << 40)
        await limiter.admit(Upload(id="a", length=1), "")
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        with pytest.raises(OutOfSpace):
            for number in range(10_000):
                await limiter.admit(Upload(id=f"b{number}" + "x" * 200, length=1), "")
        await limiter.forget("a")
        (disk / "filler").unlink()
        await limiter.admit(Upload(id="c", length=1), "")
        await limiter.close()
