"""Taking uploads in: what becomes of them, and what can come in between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tusd_py_cas.model import ChunksMissing
from tusd_py_cas.naming import object_name, text_metadata
from tusd_py_cas.serving import intake
from tusd_py_cas.serving.described import post_ingest

from tests.cas.serving.support import CONTENTS, NOISE, TEXT, Server, age, until
from tusd_py.datastore.memory import MemoryStore
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload

# What uploads are called


@pytest.mark.parametrize("name", ["report.pdf", "ünï/cödé", " ", "x" * 1024])
def test_the_metadata_name_the_object(name: str) -> None:
    assert object_name(Upload(id="a", length=1, metadata=Metadata({"object": name.encode()}))) == name


@pytest.mark.parametrize("value", [b"", b"\xff", b"x\ny", "a\x85b".encode(), b"x" * 1025, b"\0"])
def test_an_impossible_name_is_no_name(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tusd_py.cas"):
        assert object_name(Upload(id="a", length=1, metadata=Metadata({"object": value}))) == "a"
    assert "name no object" in caplog.text


def test_without_a_name_the_id_is_one(caplog: pytest.LogCaptureFixture) -> None:
    assert object_name(Upload(id="a", length=1)) == "a" and not caplog.text


def test_metadata_that_are_no_text_are_left_out() -> None:
    pairs = {"name": "ünï".encode(), "binary": b"\xff\xfe", "empty": b""}
    assert text_metadata(Upload(id="a", length=1, metadata=Metadata(pairs))) == {"name": "ünï", "empty": ""}


# Taking in


async def test_an_upload_becomes_a_version(keeping: Server) -> None:
    metadata = {"object": b"report", "filename": b"r.pdf", "binary": b"\xff"}
    await keeping.take("a", TEXT, metadata=metadata, owner="joe")
    version = keeping.version("a")
    assert version is not None
    assert (version.object, version.owner, version.number) == ("report", "joe", 1)
    assert version.metadata == {"object": "report", "filename": "r.pdf"}
    assert version.raw and version.created_at == os.stat(keeping.path("a")).st_mtime
    await keeping.take("b", NOISE, metadata=metadata, owner="joe")
    again = keeping.version("b")
    assert again is not None and again.number == 2


async def test_it_is_told_what_it_has_become(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    [event] = keeping.host.events.values()
    version = keeping.version("a")
    assert version is not None and event.type is HookType.POST_INGEST
    name = version.manifest.name.hex()
    assert event.upload.storage == {
        "Type": "filestore",
        "Path": str(keeping.path("a")),
        "Object": "a",
        "Version": "1",
        "ETag": f'"{name}"',
        "Blake3": name,
        "Sha256": (version.manifest.sha256 or b"").hex(),
        "BytesNew": event.upload.storage["BytesNew"],
        "BytesStored": event.upload.storage["BytesStored"],
    }
    assert int(event.upload.storage["BytesStored"]) < int(event.upload.storage["BytesNew"]) <= len(TEXT)


async def test_it_is_told_before_anybody_can_remove_it(keeping: Server) -> None:
    """Or somebody would hear of it behind its end. Also when it is told again."""
    told: list[bool] = []
    for _ in range(2):
        keeping.faults.acts["host.publish"] = lambda: told.append("a" in keeping.host.locked)
        await (keeping.deliver("a") if told else keeping.take("a", TEXT))
    assert told == [True, True]


async def test_what_could_not_be_told_is_told_later(keeping: Server, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise StorageFailure("full")

    keeping.faults.acts["host.publish"] = fail
    with pytest.raises(StorageFailure, match="full"):
        await keeping.take("a", TEXT)
    assert keeping.version("a") is not None and not keeping.host.events
    await keeping.deliver("a")
    assert len(keeping.host.events) == 1 and keeping.opened.counts.ingested == 1


async def test_an_id_that_is_used_again_just_then_is_not_told_of_as_the_old_one(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    [first] = keeping.host.events

    async def again() -> None:
        await keeping.remove("a")
        await keeping.put("a", NOISE)

    keeping.host.events.clear()
    keeping.faults.acts["host.relocate"] = again
    await keeping.deliver("a")
    assert not keeping.host.events
    await keeping.deliver("a")
    assert len(keeping.host.events) == 1 and first not in keeping.host.events


async def test_the_same_event_again_changes_nothing(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    read = keeping.worker.bytes_read
    before, event_ids = keeping.version("a"), list(keeping.host.events)
    await keeping.deliver("a")
    assert keeping.version("a") == before and keeping.worker.bytes_read == read
    assert list(keeping.host.events) == event_ids, "the same event has the same id"
    counts = keeping.opened.counts
    assert (counts.ingested, counts.bytes_in, counts.failures) == (1, len(TEXT), 0)


async def test_other_contents_are_told_under_other_ids(keeping: Server) -> None:
    upload = await keeping.take("a", TEXT)
    await keeping.take("b", TEXT)
    await keeping.take("c", NOISE)
    assert len(keeping.host.events) == 3
    version, other = keeping.version("a"), keeping.version("c")
    assert version is not None and other is not None
    assert post_ingest(upload, version, None).id != post_ingest(upload, other, None).id


async def test_known_bytes_are_counted_as_such(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    await keeping.take("b", NOISE)
    counts = keeping.opened.counts
    assert (counts.ingested, counts.bytes_in, counts.bytes_deduplicated) == (2, 2 * len(NOISE), len(NOISE))
    assert counts.bytes_stored >= len(NOISE) * 0.99


async def test_many_at_once(keeping: Server) -> None:
    sources = {f"{n}-{number}": data for n, data in enumerate(CONTENTS.values()) for number in range(5)}
    for upload_id, data in sources.items():
        await keeping.put(upload_id, data)
    await asyncio.gather(*(keeping.deliver(upload_id) for upload_id in sources for _ in range(2)))
    for upload_id, data in sources.items():
        assert await keeping.is_served_from_chunks(upload_id)
        assert await keeping.read(upload_id) == data
    assert keeping.opened.counts.ingested == len(sources)


@pytest.mark.parametrize("fields", [{"held": True}, {"failure": "rejected"}, {"length": 10**6}])
async def test_what_is_not_finished_is_not_taken_in(keeping: Server, fields: dict[str, object]) -> None:
    upload = await keeping.put("a", TEXT)
    keeping.host.records["a"] = upload.evolve(**fields)
    await keeping.deliver("a")
    assert keeping.version("a") is None and not keeping.host.events


async def test_what_is_gone_is_not_taken_in(keeping: Server) -> None:
    await keeping.deliver("never")
    await keeping.put("a", TEXT)
    await keeping.inner.remove(keeping.host.records["a"])  # the file is gone, the record not yet
    await keeping.deliver("a")
    assert keeping.version("a") is None and not keeping.host.events


async def test_a_file_that_is_too_short_is_a_failure(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    keeping.path("a").write_bytes(TEXT[:10])
    with pytest.raises(StorageFailure, match="10 bytes"):
        await keeping.deliver("a")
    assert keeping.opened.counts.failures == 1 and "a" in keeping.opened.intake.failed


async def test_bytes_that_are_in_no_file_are_a_failure(keeping: Server) -> None:
    store = MemoryStore()
    writer = await store.create(Upload(id="a", length=3))
    writer.write(b"abc")
    content = await store.open_content(Upload(id="a", length=3))
    with pytest.raises(StorageFailure, match="no file"):
        intake.segments_of(content, "a")


async def test_failures_go_up_and_are_remembered_for_a_while(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "REMEMBERED", 2)

    async def fail(_: object) -> None:
        raise StorageFailure("full")

    with monkeypatch.context() as patch:
        patch.setattr(keeping.worker, "take", fail)
        for upload_id in "abc":
            await keeping.put(upload_id, TEXT)
            with pytest.raises(StorageFailure, match="full"):
                await keeping.deliver(upload_id)
    assert list(keeping.opened.intake.failed) == ["b", "c"]
    await keeping.deliver("b")
    assert list(keeping.opened.intake.failed) == ["c"]
    assert keeping.opened.counts.failures == 3


# What comes in between


def while_storing(server: Server, act: Callable[[], object]) -> None:
    """Do something once the bytes have been stored, and before that is known."""
    real = server.worker.take

    async def take(segments: object) -> object:
        taken = await real(segments)  # type: ignore[arg-type]
        server.worker.take = real  # type: ignore[method-assign]
        done = act()
        if done is not None:
            await done  # type: ignore[misc]
        return taken

    server.worker.take = take  # type: ignore[method-assign, assignment]


async def test_removed_while_it_is_taken_in(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    while_storing(keeping, lambda: keeping.remove("a"))
    await keeping.deliver("a")
    assert keeping.version("a") is None and not keeping.host.events


async def test_its_id_is_used_again_while_it_is_taken_in(keeping: Server) -> None:
    """For another content of the same size, and finished before the first was through."""
    await keeping.put("a", TEXT)

    async def again() -> None:
        await keeping.remove("a")
        await keeping.put("a", TEXT[::-1])

    while_storing(keeping, again)
    await keeping.deliver("a")
    assert await keeping.is_served_from_chunks("a")
    assert await keeping.read("a") == TEXT[::-1]
    assert len(keeping.host.events) == 1


async def test_its_id_is_used_again_and_again(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    real = keeping.worker.take

    async def take(segments: object) -> object:
        taken = await real(segments)  # type: ignore[arg-type]
        await keeping.remove("a")
        await keeping.put("a", os.urandom(len(TEXT)))
        return taken

    keeping.worker.take = take  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageFailure, match="3 times"):
        await keeping.deliver("a")
    assert keeping.version("a") is None


async def test_its_content_is_collected_before_it_is_a_version(keeping: Server) -> None:
    await keeping.put("a", TEXT)

    async def collect() -> None:
        await keeping.worker.collect(grace=0)

    while_storing(keeping, collect)
    await keeping.deliver("a")
    assert await keeping.is_served_from_chunks("a") and await keeping.read("a") == TEXT


async def test_it_waits_for_the_lock(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    keeping.host.locked.add("a")
    delivering = asyncio.create_task(keeping.deliver("a"))
    await until(lambda: "host.relocate done" in keeping.faults.calls)
    keeping.host.locked.clear()
    await delivering
    assert keeping.version("a") is not None


async def test_but_not_for_ever(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LOCK_WAIT", 0.0)
    await keeping.put("a", TEXT)
    keeping.host.locked.add("a")
    with pytest.raises(StorageFailure, match="locked"):
        await keeping.deliver("a")


async def test_a_cancelled_delivery_lets_nobody_else_down(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    stored, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        stored.set()
        await go_on.wait()

    while_storing(keeping, wait)
    tasks = [asyncio.create_task(keeping.deliver("a")) for _ in range(2)]
    await stored.wait()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].cancelled() and tasks[1].exception() is None
    assert await keeping.is_served_from_chunks("a")
    await keeping.opened.intake.idle()


async def test_another_process_gives_its_file_up_while_it_is_taken_in(tmp_path: Path) -> None:
    """Who looks for what was missed finds what somebody else is just taking in."""
    async with Server(tmp_path, "replace") as one, Server(tmp_path, "replace", host=one.host) as other:
        await one.put("a", NOISE)

        async def overtake() -> None:
            await other.deliver("a")
            assert await other.replace("a")

        one.faults.acts["host.relocate"] = overtake
        taken = await one.opened.intake.take("a")
        assert taken is not None and not taken.fresh and await one.read("a") == NOISE
        assert not one.opened.counts.failures and not one.opened.intake.failed


async def test_a_file_is_taken_in_whose_record_says_that_it_went(replacing: Server) -> None:
    """Of an upload whose version is lost, the file may be there all the same."""
    upload = await replacing.put("a", NOISE)
    replacing.host.records["a"] = upload.evolve(storage={**upload.storage, "Type": "cas"})
    await replacing.deliver("a")
    assert replacing.version("a") is not None and await replacing.replace("a") and await replacing.read("a") == NOISE


async def test_two_processes_at_once(tmp_path: Path) -> None:
    async with Server(tmp_path) as one, Server(tmp_path, host=one.host) as other:
        for number in range(10):
            await one.put(f"a{number}", TEXT)
        await asyncio.gather(*(server.deliver(f"a{number}") for server in (one, other) for number in range(10)))
        for number in range(10):
            assert await one.read(f"a{number}") == await other.read(f"a{number}") == TEXT
        assert len(one.host.events) == 10
        assert {version.number for version in one.repository.index.versions()} == {1}
        assert sum(server.opened.counts.ingested for server in (one, other)) == 10, "each is counted once"


# Finals


async def parts(server: Server, *pieces: bytes) -> list[str]:
    names = [f"part{number}" for number in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        await server.put(name, piece, is_partial=True)
        age(server.path(name))
    return names


async def test_a_final_of_ingested_partials_is_made_without_reading_a_byte(keeping: Server) -> None:
    names = await parts(keeping, TEXT, b"", NOISE, b"x")
    for name in names:
        await keeping.deliver(name)
    read, stored = keeping.worker.bytes_read, sorted(keeping.chunk_files())
    await keeping.assemble("final", names)
    await keeping.deliver("final")
    assert keeping.worker.bytes_read == read and sorted(keeping.chunk_files()) == stored
    version = keeping.version("final")
    assert version is not None and version.manifest.composed
    assert await keeping.is_served_from_chunks("final")
    assert await keeping.read("final") == TEXT + NOISE + b"x"
    assert keeping.opened.counts.bytes_deduplicated >= len(TEXT + NOISE + b"x")
    event = list(keeping.host.events.values())[-1]
    assert "Sha256" not in event.upload.storage and "BytesNew" not in event.upload.storage


async def test_partials_that_were_not_taken_in_yet_are_first(keeping: Server) -> None:
    names = await parts(keeping, TEXT, NOISE)
    await keeping.assemble("final", names)
    await keeping.deliver("final")
    version = keeping.version("final")
    assert version is not None and version.manifest.composed and await keeping.read("final") == TEXT + NOISE
    assert keeping.worker.bytes_read == len(TEXT + NOISE)
    for name in names:
        await keeping.deliver(name)
    assert keeping.worker.bytes_read == len(TEXT + NOISE)


async def test_a_final_of_partials_that_are_gone_is_read(keeping: Server) -> None:
    names = await parts(keeping, TEXT, NOISE)
    await keeping.assemble("final", names)
    await keeping.remove(names[0])
    await keeping.deliver("final")
    version = keeping.version("final")
    assert version is not None and not version.manifest.composed and await keeping.read("final") == TEXT + NOISE


async def test_other_partials_under_the_same_ids_are_not_what_a_final_is_of(keeping: Server) -> None:
    names = await parts(keeping, TEXT, NOISE)
    await keeping.assemble("final", names)
    age(keeping.path("final"), 5)
    await keeping.remove(names[0])
    await keeping.put(names[0], TEXT[::-1], is_partial=True)
    await keeping.deliver("final")
    assert await keeping.is_served_from_chunks("final") and await keeping.read("final") == TEXT + NOISE


async def test_a_final_one_of_whose_partials_can_not_be_taken_in_is_read(
    keeping: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await parts(keeping, TEXT, NOISE)
    await keeping.assemble("final", names)
    keeping.path(names[0]).write_bytes(b"short")
    await keeping.deliver("final")
    assert await keeping.is_served_from_chunks("final") and await keeping.read("final") == TEXT + NOISE


async def test_partials_whose_sizes_do_not_fit_are_not_what_a_final_is_of(keeping: Server) -> None:
    names = await parts(keeping, TEXT, NOISE)
    await keeping.assemble("final", names)
    keeping.host.records["final"] = keeping.host.records["final"].evolve(partials=(names[0], names[0]))
    await keeping.deliver("final")
    assert await keeping.is_served_from_chunks("final") and await keeping.read("final") == TEXT + NOISE


async def test_partials_that_are_collected_at_that_moment_do_not_matter(keeping: Server) -> None:
    names = await parts(keeping, TEXT, NOISE)
    await keeping.assemble("final", names)

    def compose(_: object) -> None:
        raise ChunksMissing(frozenset())

    keeping.repository.index.compose = compose
    await keeping.deliver("final")
    assert await keeping.is_served_from_chunks("final") and await keeping.read("final") == TEXT + NOISE


async def test_a_version_of_another_file_makes_way(keeping: Server) -> None:
    """Of the same content even, or the file would never count as taken in."""
    await keeping.take("a", TEXT)
    age(keeping.path("a"))
    assert not await keeping.is_served_from_chunks("a")
    await keeping.deliver("a")
    assert await keeping.is_served_from_chunks("a")
    version = keeping.version("a")
    assert version is not None and version.created_at < time.time() - 5


async def test_a_damaged_version_makes_way(keeping: Server) -> None:
    """The file is there, and is taken in again."""
    await keeping.take("a", TEXT)
    with contextlib.closing(sqlite3.connect(f"{keeping.repository.path}/index.db")) as connection:
        connection.execute("UPDATE versions SET seal = zeroblob(32)")
        connection.commit()
    assert not await keeping.is_served_from_chunks("a")
    await keeping.deliver("a")
    assert await keeping.is_served_from_chunks("a") and await keeping.read("a") == TEXT
