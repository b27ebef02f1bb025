"""The extension in a server process: opened, at work with its real ingest process, and closed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tusd_py_cas import EXTENSION
from tusd_py_cas.index import Totals
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.serving import finding, metrics, open_cas, opened
from tusd_py_cas.serving.access import WRITERS, Access
from tusd_py_cas.serving.consumer import CasConsumer
from tusd_py_cas.serving.metrics import TotalsKept

from tests.cas.serving.support import NOISE, TEXT, DictHost, Server, until
from tusd_py.datastore.filesystem import FilesystemStore
from tusd_py.fs.sync import GroupSync
from tusd_py.ports.extension import Opened, Place
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload


def values(**changed: object) -> dict[str, Any]:
    defaults = {option.name: option.default for option in EXTENSION.options}
    return {**defaults, "cas-chunk-size": 64 << 10, **{name.replace("_", "-"): value for name, value in changed.items()}}


def place(directory: Path, **changed: Any) -> Place:
    return Place(
        upload_dir=str(directory),
        state_dir=f"{directory}/.tusd-py",
        dir_mode=0o755,
        file_mode=0o644,
        durable=False,
        **changed,
    )


async def test_an_unusable_repository_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / ".tusd-py" / "cas").mkdir(parents=True)
    (tmp_path / ".tusd-py" / "cas" / "repository.json").write_text("{}")
    with pytest.raises(StorageFailure, match=r"repository\.json"):
        open_cas(values(cas="keep"), place(tmp_path))


async def test_a_repository_keeps_its_chunks_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for size in (64 << 10, 128 << 10):
        opened_cas = open_cas(values(cas="keep", cas_chunk_size=size), place(tmp_path))
        assert opened_cas.access.repository.parameters.avg_size == 64 << 10
        await opened_cas.close()
        await opened_cas.close()
    assert caplog.text.count("average size of chunks") == 1


@pytest.mark.parametrize("mode", ["keep", "replace"])
async def test_with_its_process(tmp_path: Path, mode: str) -> None:
    """Everything together, as a server has it."""
    extension: Opened = open_cas(values(cas=mode), place(tmp_path))
    assert not extension.consumers
    inner, host = FilesystemStore(str(tmp_path), group=GroupSync()), DictHost()
    store = extension.around(inner)
    extension.attach(host)
    running = asyncio.create_task(extension.run())
    for upload_id, data in (("a", NOISE), ("b", TEXT)):
        upload = Upload(id=upload_id, length=len(data), storage=store.place(upload_id))
        writer = await store.create(upload)
        writer.write(data)
        await writer.commit()
        await writer.close()
        host.records[upload_id] = upload = upload.evolve(offset=len(data))
        extension.finished(upload)
    await until(lambda: len(host.events) == 2)
    if mode == "replace":
        await until(lambda: not (tmp_path / "a").exists() and not (tmp_path / "b").exists())
    for upload_id, data in (("a", NOISE), ("b", TEXT)):
        content = await store.open_content(host.records[upload_id])
        assert content.is_named_by_content and await content.read(0, len(data)) == data
        await content.close()
    shown = {reading.name: reading.read() for reading in extension.readings}
    assert shown["tusd_py_cas_ingested_total"] == 2 and shown["tusd_py_cas_bytes_in_total"] == len(NOISE + TEXT)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await extension.close()
    inner.close()


async def test_with_hooks_that_want_to_know_uploads_come_by_the_outbox(tmp_path: Path) -> None:
    """It delivers again what a crash has kept from being told."""
    extension = open_cas(values(cas="keep"), place(tmp_path, told=frozenset({HookType.POST_INGEST})))
    (consumer,) = extension.consumers
    assert consumer.name == "cas" and consumer.types == {HookType.POST_FINISH}
    inner, host = FilesystemStore(str(tmp_path), group=GroupSync()), DictHost()
    store = extension.around(inner)
    extension.attach(host)
    upload = Upload(id="a", length=0, storage=store.place("a"))
    await (await store.create(upload)).close()
    host.records["a"] = upload
    extension.finished(upload)
    assert not extension.queue.depth
    for _ in range(2):
        await consumer.deliver(HookEvent(type=HookType.POST_FINISH, upload=upload))
    assert [event.type for event in host.events.values()] == [HookType.POST_INGEST]
    await extension.close()
    inner.close()


async def test_what_comes_by_the_outbox_is_taken_in_in_its_order() -> None:
    """A large upload takes longer, and the next version of its object waits for it."""
    begun: list[str] = []
    go = asyncio.Event()

    async def take(upload_id: str) -> None:
        begun.append(upload_id)
        await go.wait()

    def event(upload_id: str, name: bytes | None) -> HookEvent:
        metadata = Metadata({} if name is None else {"object": name})
        upload = Upload(id=upload_id, length=0, metadata=metadata, is_partial=upload_id.startswith("part"))
        return HookEvent(type=HookType.POST_FINISH, upload=upload)

    consumer = CasConsumer(take)
    uploads = [("a1", b"a"), ("a2", b"a"), ("b1", b"b"), ("x", None), ("y", None), ("part1", b"a"), ("part2", b"a")]
    deliveries = [asyncio.create_task(consumer.deliver(event(*each))) for each in uploads]
    await until(lambda: len(begun) == 6)
    await asyncio.sleep(0.01)
    assert begun == ["a1", "b1", "x", "y", "part1", "part2"], "a final may wait for partials, whose order nobody asks for"
    go.set()
    await asyncio.gather(*deliveries)
    assert begun[-1] == "a2"


def test_files_are_not_given_up_where_nobody_knows_who_has_been_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fire-and-forget"):
        open_cas(values(cas="replace"), place(tmp_path, keeps_events=False))
    assert not list(tmp_path.iterdir())


async def test_that_something_was_missed_is_told_off_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.Thread] = []
    monkeypatch.setattr(finding.Signal, "give", lambda _: told.append(threading.current_thread()))
    async with Server(tmp_path) as server:
        server.opened.queue.missed = True
    assert told and threading.current_thread() not in told


async def test_who_has_not_the_turn_asks_who_has_it_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start: the process in whose place it is may have had uploads in mind; and when there were too many."""
    monkeypatch.setattr(opened, "TURN", 0.01)
    monkeypatch.setattr(finding, "LOOK", 0.01)
    async with Server(tmp_path) as first, Server(tmp_path, host=first.host) as second:
        first.run()
        await until(lambda: first.opened._turn._fd >= 0)
        for number, upload_id in enumerate(("a", "b")):
            await second.put(upload_id, NOISE)
            if not number:
                second.run()
            second.opened.queue.missed = True
            await until(lambda: len(first.host.events) == number + 1)  # noqa: B023
        assert first.opened.counts.ingested == 2 and not second.opened.queue.missed


async def test_a_part_that_fails_goes_on_and_the_others_too(
    keeping: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opened, "RESTART", 0.0)
    failures = [ValueError("a mistake"), KeyError("another")]
    done = asyncio.Event()

    async def run() -> None:
        if failures:
            raise failures.pop()
        done.set()

    monkeypatch.setattr(keeping.opened.finder, "run", run)
    keeping.run()
    async with asyncio.timeout(10):
        await done.wait()
    assert caplog.text.count("background work has failed") == 2


async def test_the_work_for_all_goes_on_too(
    keeping: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails where threads run short; all else that is done in the background went down with it."""
    monkeypatch.setattr(opened, "RESTART", 0.0)
    failures, take = [RuntimeError("can't start new thread")], keeping.opened._turn.take

    def fail() -> bool:
        if failures:
            raise failures.pop()
        return take()

    monkeypatch.setattr(keeping.opened._turn, "take", fail)
    await keeping.put("a", NOISE)
    keeping.run()
    await until(lambda: keeping.version("a"))
    assert caplog.text.count("background work has failed") == 1


async def test_who_leaves_has_another_look_for_what_it_had_in_mind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is replaced while the server goes on finishes uploads to the end, when its successor has started long since."""
    monkeypatch.setattr(opened, "TURN", 0.01)
    monkeypatch.setattr(finding, "LOOK", 0.01)
    async with Server(tmp_path) as first:
        async with Server(tmp_path, host=first.host) as second:
            first.run()
            await until(lambda: first.faults.calls.count("host.ids done") == 2)
            second.run()
            await until(lambda: first.faults.calls.count("host.ids done") == 3)
            await second.stop()
            second.opened.finished(await second.put("a", NOISE))
        await until(lambda: first.version("a"))


# Access


@pytest.fixture
async def access(keeping: Server) -> AsyncIterator[Access]:
    yield keeping.opened.access


async def test_what_is_wrong_with_the_repository_is_a_storage_failure(access: Access) -> None:
    def fail() -> None:
        raise RepositoryError("it is gone")

    for ask in (access.look, access.change):
        with pytest.raises(StorageFailure, match="it is gone"):
            await ask(fail)


async def test_a_cancelled_change_is_waited_for(access: Access) -> None:
    import threading

    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def change() -> None:
        begun.set()
        go_on.wait(10)
        done.set()

    task = asyncio.create_task(access.change(change))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_a_change_that_fails_after_its_cancellation_concerns_nobody(access: Access) -> None:
    import threading

    begun, go_on = threading.Event(), threading.Event()

    def change() -> None:
        begun.set()
        go_on.wait(10)
        raise RepositoryError("no")

    task = asyncio.create_task(access.change(change))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_change_that_has_not_begun_never_does(access: Access) -> None:
    """Where somebody keeps the index for long, a server that stops would wait for each of those that wait in line."""
    import threading

    go_on, changes = threading.Event(), list[str]()
    busy = [asyncio.create_task(access.change(lambda: go_on.wait(10))) for _ in range(WRITERS)]
    waiting = asyncio.create_task(access.change(lambda: changes.append("made")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await waiting
    go_on.set()
    await asyncio.gather(*busy)
    await access.change(lambda: None)
    assert not changes


async def test_who_comes_too_late_is_told(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        await server.take("a", NOISE)
        content = await server.open("a")
    with pytest.raises(StorageFailure, match="stopping"):
        await content.read(0, 10)
    with pytest.raises(StorageFailure, match="stopping"):
        await server.opened.access.change(lambda: None)


# Metrics


async def test_totals_are_added_up_now_and_then(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    now = 0.0
    totals = TotalsKept(keeping.opened.access, lambda: now)
    assert totals() == Totals()
    assert totals.adding is not None
    await totals.adding
    assert totals().logical == len(NOISE)
    await keeping.take("b", NOISE)
    adding = totals.adding
    now = metrics.FRESH - 1
    assert totals().logical == len(NOISE) and totals.adding is adding, "not yet"
    now = metrics.FRESH
    totals()
    await totals.adding
    assert totals().logical == 2 * len(NOISE) and totals().unique == len(NOISE)
    await totals.close()


async def test_totals_that_can_not_be_had_stay(keeping: Server, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise StorageFailure("no")

    keeping.repository.index.totals = fail
    totals = TotalsKept(keeping.opened.access)
    totals()
    assert totals.adding is not None
    with caplog.at_level(logging.WARNING, "tusd_py.cas"):
        await totals.adding
    assert totals() == Totals() and "can't be told" in caplog.text
    await TotalsKept(keeping.opened.access).close()


async def test_every_number_is_shown(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    names = {reading.name for reading in keeping.opened.readings}
    assert len(names) == len(keeping.opened.readings)
    for reading in keeping.opened.readings:
        assert reading.name.startswith("tusd_py_cas_") and reading.help.endswith(".")
        assert (reading.kind == "counter") == reading.name.endswith("_total")
        assert isinstance(reading.read(), int | float)
