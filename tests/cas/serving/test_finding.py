"""Finding finished uploads that nobody has taken in."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tusd_py_cas.serving import finding
from tusd_py_cas.serving.finding import Signal

from tests.cas.serving.support import NOISE, TEXT, Server, age, until
from tusd_py.ports.failures import StorageFailure


async def test_what_was_finished_before_is_taken_in_and_told(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    await keeping.put("b", NOISE)
    unfinished = await keeping.put("c", TEXT)
    keeping.host.records["c"] = unfinished.evolve(length=10**6)
    await keeping.take("known", TEXT)
    assert await keeping.find()
    assert await keeping.is_served_from_chunks("a") and await keeping.is_served_from_chunks("b")
    assert keeping.version("c") is None
    assert {event.upload.id for event in keeping.host.events.values()} == {"a", "b", "known"}
    assert keeping.opened.counts.ingested == 3


async def test_many_are_looked_at_in_pages(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "PAGE", 3)
    monkeypatch.setattr(finding, "AT_ONCE", 2)
    for number in range(10):
        await keeping.put(f"upload{number}", b"%d" % number)
    await keeping.take("known", TEXT)
    keeping.faults.reset()
    assert await keeping.find()
    assert keeping.opened.counts.ingested == 11
    assert keeping.faults.calls.count("index.without_version") == 4
    for name in ("upload3", "known"):
        age(keeping.path(name))
    assert await keeping.find()
    assert keeping.opened.counts.ingested == 13 and await keeping.is_served_from_chunks("known")


async def test_an_upload_whose_id_was_used_again_is_taken_in_again(keeping: Server, tmp_path: Path) -> None:
    """As when this extension is turned off for a while."""
    await keeping.take("a", TEXT)
    await keeping.take("b", TEXT)
    keeping.path("a").write_bytes(NOISE)
    age(keeping.path("a"))
    keeping.host.records["a"] = keeping.host.records["a"].evolve(length=len(NOISE), offset=len(NOISE))
    assert not await keeping.is_served_from_chunks("a")
    assert await keeping.find()
    assert await keeping.is_served_from_chunks("a") and await keeping.read("a") == NOISE
    assert keeping.opened.counts.ingested == 3


async def test_an_upload_whose_version_is_damaged_is_taken_in_again(keeping: Server) -> None:
    for name in ("a", "b"):
        await keeping.take(name, TEXT)
    with contextlib.closing(sqlite3.connect(f"{keeping.repository.path}/index.db")) as connection:
        connection.execute("UPDATE versions SET seal = zeroblob(32) WHERE upload = 'a'")
        connection.commit()
    assert await keeping.find() and keeping.opened.counts.ingested == 3
    assert await keeping.is_served_from_chunks("a")


async def test_where_nothing_can_be_looked_at_that_is_told_in_short(
    keeping: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And everybody else goes on."""
    monkeypatch.setattr(finding, "TOLD", 2)
    monkeypatch.setattr(finding, "LEAST_REST", 0.0)
    for number in range(20):
        await keeping.put(f"a{number}", TEXT)

    async def fail(_: object) -> object:
        raise StorageFailure("no")

    monkeypatch.setattr(keeping.host, "look", fail)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    going_on = asyncio.create_task(others())
    with caplog.at_level("INFO", "tusd_py.cas"):
        assert not await keeping.opened.finder.look_at_all()
    going_on.cancel()
    assert turns >= 20
    assert caplog.text.count("can't be told") == 2
    assert caplog.records[-1].fields == {"found": 0, "failed": 20}  # type: ignore[attr-defined]


async def test_what_can_not_be_looked_at_holds_nobody_up(
    keeping: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await keeping.put("a", TEXT)
    await keeping.put("b", NOISE)
    look = keeping.host.look

    async def fail(upload_id: str) -> object:
        if upload_id == "a":
            raise StorageFailure("no")
        return await look(upload_id)

    monkeypatch.setattr(keeping.host, "look", fail)
    assert not await keeping.find()
    assert await keeping.is_served_from_chunks("b") and "can't be told" in caplog.text


async def test_uploads_that_can_not_be_listed_are_another_time(
    keeping: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ids() -> AsyncIterator[str]:
        raise StorageFailure("no")
        yield ""

    monkeypatch.setattr(keeping.host, "ids", ids)
    assert not await keeping.opened.finder.look_at_all()
    assert "could not be looked through" in caplog.text


@pytest.mark.parametrize("called", ["by the hour", "by this process", "by another process"])
async def test_all_are_looked_at_again(keeping: Server, monkeypatch: pytest.MonkeyPatch, called: str) -> None:
    monkeypatch.setattr(finding, "LOOK", 0.01)
    if called == "by the hour":
        monkeypatch.setattr(finding, "AGAIN", 0.05)
    running = asyncio.create_task(keeping.opened.finder.run())
    working = asyncio.create_task(keeping.opened.queue.run())
    await until(lambda: keeping.faults.calls.count("host.ids done") >= 2)
    await keeping.put("a", TEXT)
    if called == "by this process":
        keeping.opened.queue.missed = True
    elif called == "by another process":
        Signal(keeping.repository.path).give()
    await until(lambda: keeping.version("a"))
    if called != "by the hour":
        looks = keeping.faults.calls.count("host.ids")
        await asyncio.sleep(0.1)
        assert keeping.faults.calls.count("host.ids") == looks, "a call is answered once"
    for task in (running, working):
        task.cancel()
    await asyncio.gather(running, working, return_exceptions=True)


async def test_versions_are_looked_at_until_all_could_be(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not found then is not found before the next start."""
    monkeypatch.setattr(finding, "AGAIN", 0.01)
    await keeping.take("a", TEXT)
    age(keeping.path("a"))
    without_version, failures = keeping.repository.index.without_version, [StorageFailure("no") for _ in range(5)]

    def fail(page: Sequence[str]) -> Sequence[str]:
        if failures:
            raise failures.pop()
        found: Sequence[str] = without_version(page)
        return found

    keeping.repository.index.without_version = fail
    tasks = [asyncio.create_task(work()) for work in (keeping.opened.finder.run, keeping.opened.queue.run)]
    await until(lambda: keeping.opened.counts.ingested == 2)
    assert await keeping.is_served_from_chunks("a")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_signal_is_taken_once(tmp_path: Path) -> None:
    signal = Signal(str(tmp_path))
    assert not signal.take()
    signal.give()
    signal.give()
    assert Signal(str(tmp_path)).take() and not signal.take()
    Signal(str(tmp_path / "missing")).give()
