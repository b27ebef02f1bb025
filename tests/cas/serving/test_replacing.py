"""Giving up files for chunks: when, when not, and what can come in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tusd_py_cas.model import State
from tusd_py_cas.serving import replacing

from tests.cas.serving.support import CONTENTS, NOISE, TEXT, Server, age, until
from tusd_py.ports.failures import StorageFailure


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path, "replace") as server:
        yield server


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
async def test_the_file_goes_and_the_bytes_stay(server: Server, data: bytes) -> None:
    await server.take("a", data)
    assert await server.replace("a")
    assert not server.path("a").exists()
    assert server.host.records["a"].storage["Type"] == "cas"
    assert await server.is_served_from_chunks("a") and await server.read("a") == data
    version = server.version("a")
    assert version is not None and not version.raw
    assert not server.repository.index.with_raw()
    assert await server.replace("a"), "again does no harm"


async def test_not_before_everybody_has_heard_of_it(server: Server) -> None:
    await server.take("a", TEXT)
    server.host.waiting["a"] = 1
    assert not await server.replace("a")
    assert server.path("a").exists() and server.host.records["a"].storage["Type"] == "filestore"
    server.host.waiting.clear()
    assert await server.replace("a")


async def test_what_is_held_up_for_long_is_told_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await server.take("a", TEXT)
    server.host.waiting["a"] = 3
    with caplog.at_level(logging.INFO, "tusd_py.cas"):
        await server.replace("a")
        assert "keeps its file" not in caplog.text
        monkeypatch.setattr(replacing, "LATE", 0.0)
        for _ in range(3):
            await server.replace("a")
    [record] = [each for each in caplog.records if "keeps its file" in each.message]
    assert record.fields == {"id": "a", "events": 3}  # type: ignore[attr-defined]


@pytest.mark.parametrize("fields", [{"held": True}, {"failure": "rejected"}])
async def test_what_is_not_finished_keeps_its_file(server: Server, fields: dict[str, object]) -> None:
    upload = await server.take("a", TEXT)
    server.host.records["a"] = upload.evolve(**fields)
    assert not await server.replace("a") and server.path("a").exists()


async def test_what_is_not_taken_in_keeps_its_file(server: Server) -> None:
    await server.put("a", TEXT)
    assert not await server.replace("a") and not await server.replace("never")
    assert server.path("a").read_bytes() == TEXT


async def test_what_is_locked_keeps_its_file_for_now(server: Server) -> None:
    await server.take("a", TEXT)
    server.host.locked.add("a")
    assert not await server.replace("a") and server.path("a").exists()


async def test_a_file_that_has_changed_is_kept(server: Server) -> None:
    await server.take("a", TEXT)
    server.path("a").write_bytes(TEXT[::-1])
    assert not await server.replace("a")
    assert server.path("a").read_bytes() == TEXT[::-1]
    assert server.host.records["a"].storage["Type"] == "filestore"


async def test_what_is_removed_just_then_is_no_failure(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    await server.take("a", TEXT)

    async def remove() -> None:
        await server.remove("a")

    server.faults.acts["inner.open_content"] = remove
    server.opened.replacer.consider("a")
    assert not await server.opened.replacer.look_around()
    assert not caplog.records and not server.path("a").exists()


async def test_an_id_that_is_used_again_just_then_keeps_its_file(server: Server) -> None:
    await server.take("a", TEXT)

    async def again() -> None:
        await server.remove("a")
        await server.put("a", NOISE)

    server.faults.acts["host.relocate"] = again
    assert not await server.replace("a")
    assert server.host.records["a"].storage["Type"] == "filestore", "its record is put right"
    assert server.path("a").read_bytes() == await server.read("a") == NOISE


async def test_an_id_that_is_used_again_and_taken_in_just_then(server: Server) -> None:
    await server.take("a", TEXT)

    async def again() -> None:
        await server.remove("a")
        await server.take("a", NOISE)

    server.faults.acts["host.relocate"] = again
    assert not await server.replace("a")
    assert await server.read("a") == NOISE
    assert await server.replace("a") and await server.read("a") == NOISE


async def test_a_damaged_version_is_mended_first(server: Server) -> None:
    await server.take("a", TEXT)
    names = [chunk.name for chunk, _ in server.repository.index.all_chunks()]
    server.repository.index.mark_damaged(names[:3])
    for path in server.chunk_files():
        if path.name[:64] in {name.hex() for name in names[:3]}:
            path.unlink()
    assert not await server.replace("a") and server.path("a").exists()
    assert {state for _, state in server.repository.index.all_chunks()} == {State.LIVE}
    assert await server.replace("a")
    assert await server.read("a") == TEXT


async def test_mending_is_not_tried_all_the_time(server: Server) -> None:
    await server.take("a", TEXT)
    server.repository.index.is_whole = lambda _: False
    read = server.worker.bytes_read
    for _ in range(5):
        assert not await server.replace("a")
    assert server.worker.bytes_read == read + len(TEXT)


async def test_a_relocated_upload_whose_file_is_back_loses_it_again(server: Server) -> None:
    """A power cut can bring it back: its removal was not synced. And so can a crash before it."""
    await server.take("a", TEXT)
    upload = server.host.records["a"]
    server.host.records["a"] = upload.evolve(storage={**upload.storage, "Type": "cas"})
    assert await server.replace("a") and not server.path("a").exists()
    assert await server.read("a") == TEXT


async def test_a_relocated_upload_with_another_file_keeps_it(server: Server) -> None:
    await server.take("a", TEXT)
    upload = server.host.records["a"]
    server.host.records["a"] = upload.evolve(storage={**upload.storage, "Type": "cas"})
    age(server.path("a"))
    assert not await server.replace("a") and server.path("a").exists()
    assert server.host.records["a"].storage["Type"] == "filestore"


async def test_a_file_that_was_touched_is_taken_in_again_and_goes(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """By a program that copies files back and forth, say. Nobody else would notice before the next start."""
    await server.take("a", TEXT)
    age(server.path("a"))
    for _ in range(2):
        assert not await server.opened.replacer.look_around()
    assert caplog.text.count("it is taken in again") == 1 and server.opened.queue.depth == 1
    server.run()
    await until(lambda: not server.path("a").exists())
    assert await server.read("a") == TEXT


async def test_a_file_that_can_not_be_looked_at_is_not_taken_for_gone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be another one by now."""
    await server.take("a", TEXT)
    upload = server.host.records["a"]
    server.host.records["a"] = upload.evolve(storage={**upload.storage, "Type": "cas"})

    async def fail(_: object) -> None:
        raise StorageFailure("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(server.inner, "open_content", fail)
        with pytest.raises(StorageFailure, match="too many"):
            await server.replace("a")
    assert server.path("a").exists()
    assert await server.replace("a") and not server.path("a").exists()
    assert await server.replace("a"), "it is gone, and that is found out"


# Rounds


async def test_rounds_go_through_all_in_pages(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "PAGE", 3)
    for number in range(8):
        await server.take(f"a{number}", TEXT[number:])
    server.host.waiting.update({"a1": 1, "a7": 1})
    rounds = 0
    while await server.opened.replacer.look_around():
        rounds += 1
        assert rounds < 10
    assert server.repository.index.with_raw() == ["a1", "a7"]
    await server.opened.replacer.look_around()
    assert server.opened.counts.waiting == 2


async def test_what_fails_is_told_once_and_holds_nobody_up(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    await server.take("a", TEXT)
    await server.take("b", NOISE)

    async def undelivered(upload_id: str, *, besides: str) -> int:
        if upload_id == "a":
            raise StorageFailure("the outbox is full")
        return 0

    server.host.undelivered = undelivered  # type: ignore[method-assign]
    for _ in range(3):
        await server.opened.replacer.look_around()
    assert server.path("a").exists() and not server.path("b").exists()
    assert caplog.text.count("could not be replaced") == 1


async def test_where_the_index_can_not_be_read_the_next_round_goes_on(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    await server.take("a", TEXT)
    real = server.repository.index.with_raw

    def fail(*_: object) -> None:
        raise StorageFailure("no")

    server.repository.index.with_raw = fail
    assert not await server.opened.replacer.look_around()
    assert "could not be looked up" in caplog.text
    server.repository.index.with_raw = real
    assert await server.opened.replacer.look_around()


async def test_what_has_been_taken_in_goes_soon(server: Server) -> None:
    following = asyncio.create_task(server.opened.replacer.follow())
    for number in range(3):
        await server.take(f"a{number}", TEXT)
    await until(lambda: not server.repository.index.with_raw())
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_few_are_remembered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "REMEMBERED", 2)
    monkeypatch.setattr(replacing, "LATE", 0.0)
    for number in range(4):
        await server.take(f"a{number}", TEXT)
        server.host.waiting[f"a{number}"] = 1
        await server.replace(f"a{number}")
    replacer = server.opened.replacer
    assert len(replacer._soon) == len(replacer._told) == len(replacer._first_seen) == 2


async def test_two_processes_at_once(tmp_path: Path) -> None:
    async with Server(tmp_path, "replace") as one, Server(tmp_path, "replace", host=one.host) as other:
        for number in range(10):
            await one.take(f"a{number}", TEXT[number:])
        await asyncio.gather(one.opened.replacer.look_around(), other.opened.replacer.look_around())
        await one.opened.replacer.look_around()
        for number in range(10):
            assert not one.path(f"a{number}").exists()
            assert await one.read(f"a{number}") == await other.read(f"a{number}") == TEXT[number:]
