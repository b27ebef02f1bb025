"""Finals: put together in chunks where files are given up anyway, else in files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tusd_py_cas.model import ChunksMissing
from tusd_py_cas.serving import joining

from tests.cas.serving.support import NOISE, TEXT, Server, until
from tusd_py.ports.failures import StorageFailure, UploadNotFound

PIECES = (TEXT, b"", NOISE, b"x")
WHOLE = b"".join(PIECES)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """One that gives files up, and is at work."""
    async with Server(tmp_path, "replace") as server:
        server.opened._running = True  # without the rounds, which would take things in at their own time
        yield server


async def parts(server: Server, *pieces: bytes) -> list[str]:
    names = [f"part{number}" for number in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        await server.put(name, piece, is_partial=True)
    return names


async def test_ingested_partials_are_put_together_without_touching_a_byte(server: Server) -> None:
    names = await parts(server, *PIECES)
    for name in names:
        await server.deliver(name)
        await server.replace(name)
    read, stored = server.worker.bytes_read, sorted(server.chunk_files())
    counts, before = server.opened.counts, server.opened.counts.bytes_in
    await server.begin_final("final", names)
    server.faults.reset()
    final = await server.assemble("final", names)
    assert "inner.concatenate" not in server.faults.calls and "inner.open_writer" not in server.faults.calls
    assert final.storage == {"Type": "cas", "Path": str(server.path("final"))}
    assert server.worker.bytes_read == read and sorted(server.chunk_files()) == stored
    assert await server.read("final") == WHOLE
    await server.deliver("final")
    assert (counts.ingested, counts.bytes_in - before) == (len(names) + 1, len(WHOLE)), "it is counted like any other"
    assert server.path("final").exists()
    assert await server.replace("final")
    assert not server.path("final").exists(), "an empty file is of no use"
    assert await server.read("final") == WHOLE
    for name in names:
        await server.remove(name)
    await server.worker.collect(grace=0)
    assert await server.read("final") == WHOLE


async def test_it_costs_as_much_for_large_contents_as_for_small_ones(server: Server) -> None:
    """Counted in calls, as a clock tells little."""
    calls = []
    for size in (1000, 400_000):
        names = [f"{size}-{number}" for number in range(4)]
        for number, name in enumerate(names):
            await server.take(name, (NOISE * 3)[number : number + size])
        await server.begin_final(f"final-{size}", names)
        server.faults.reset()
        await server.assemble(f"final-{size}", names)
        calls.append(list(server.faults.calls))
    assert calls[0] == calls[1]


async def test_a_final_waits_for_what_is_being_taken_in(server: Server) -> None:
    names = await parts(server, *PIECES)
    final = await server.begin_final("final", names)
    concatenating = asyncio.create_task(server.store.concatenate(final, [server.host.records[name] for name in names]))
    for name in names:
        await asyncio.sleep(0)
        assert not concatenating.done()
        assert server.opened._is_awaited(), "so that ingest is not slowed down for others"
        await server.deliver(name)
    storage = await concatenating
    assert not server.opened._is_awaited()
    assert storage is not None and storage["Type"] == "cas"


async def test_also_by_another_process(server: Server, tmp_path: Path) -> None:
    names = await parts(server, *PIECES)
    final = await server.begin_final("final", names)
    concatenating = asyncio.create_task(server.store.concatenate(final, [server.host.records[name] for name in names]))
    async with Server(tmp_path, "replace", host=server.host) as other:
        for name in names:
            await other.deliver(name)
        assert await concatenating == {**final.storage, "Type": "cas"}


async def test_it_does_not_wait_for_what_has_failed(server: Server) -> None:
    names = await parts(server, *PIECES)
    server.opened.intake.failed[names[1]] = None
    server.opened.joiner._patience = 1e6
    await server.assemble("final", names)
    assert server.path("final").read_bytes() == WHOLE


async def test_nor_where_nobody_is_at_work(server: Server) -> None:
    names = await parts(server, *PIECES)
    server.opened._running = False
    server.opened.joiner._patience = 1e6
    await server.assemble("final", names)
    assert server.path("final").read_bytes() == WHOLE


async def test_nor_for_ever(server: Server) -> None:
    names = await parts(server, *PIECES)
    server.opened.joiner._patience = 0.0
    await server.assemble("final", names)
    assert server.path("final").read_bytes() == WHOLE


async def test_who_stops_waiting_leaves_nothing(server: Server) -> None:
    names = await parts(server, *PIECES)
    final = await server.begin_final("final", names)
    concatenating = asyncio.create_task(server.store.concatenate(final, [server.host.records[name] for name in names]))
    await until(lambda: "inner.open_content done" in server.faults.calls)
    concatenating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await concatenating
    assert server.path("final").read_bytes() == b"" and server.version("final") is None
    assert not server.opened._is_awaited()


@pytest.mark.parametrize("failing", ["compose", "add_version"])
async def test_what_is_collected_at_that_moment_is_copied(server: Server, failing: str) -> None:
    names = await parts(server, *PIECES)
    for name in names:
        await server.deliver(name)

    def fail(*_: object, **__: object) -> None:
        raise ChunksMissing(frozenset())

    setattr(server.repository.index, failing, fail)
    final = await server.assemble("final", names)
    assert final.storage["Type"] == "filestore" and server.path("final").read_bytes() == WHOLE


async def test_partials_whose_files_go_while_others_are_waited_for_are_copied(server: Server) -> None:
    names = await parts(server, *PIECES)
    final = await server.begin_final("final", names)
    records = [server.host.records[name] for name in names]
    await server.deliver(names[0])
    concatenating = asyncio.create_task(server.store.concatenate(final, records))
    await until(lambda: "inner.open_content done" in server.faults.calls)
    assert await server.replace(names[0])
    server.opened.intake.failed[names[1]] = None
    assert await concatenating is None
    assert server.path("final").read_bytes() == WHOLE


async def test_a_partial_that_is_nowhere_is_told_of(server: Server) -> None:
    names = await parts(server, *PIECES)
    final = await server.begin_final("final", names)
    server.path(names[2]).unlink()
    server.opened._running = False
    with pytest.raises(UploadNotFound):
        await server.store.concatenate(final, [server.host.records[name] for name in names])


async def test_partials_in_chunks_and_in_files_are_copied(server: Server) -> None:
    names = await parts(server, *PIECES)
    await server.deliver(names[0])
    assert await server.replace(names[0])
    server.opened._running = False
    final = await server.assemble("final", names)
    assert final.storage["Type"] == "filestore" and server.path("final").read_bytes() == WHOLE


async def test_also_where_files_are_kept_from_now_on(server: Server, tmp_path: Path) -> None:
    names = await parts(server, *PIECES)
    for name in names:
        await server.deliver(name)
        assert await server.replace(name)
    async with Server(tmp_path, "keep", host=server.host) as other:
        await other.assemble("final", names)
        assert other.path("final").read_bytes() == WHOLE
        await other.deliver("final")
        assert other.worker.bytes_read == 0, "its partials are known"
        assert await other.is_served_from_chunks("final") and await other.read("final") == WHOLE


@pytest.mark.parametrize("piece", [1000, 1 << 20])
async def test_a_copy_that_fails_half_way_leaves_the_final_as_it_was(
    server: Server, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(joining, "PIECE", piece)
    names = await parts(server, NOISE, TEXT)
    for name in names:
        await server.deliver(name)
        assert await server.replace(name)
    server.opened._running = False
    server.opened.joiner._replaces = False
    server.damage()
    with pytest.raises(StorageFailure):
        await server.assemble("final", names)
    assert server.path("final").read_bytes() == b"" and not list((server.directory / ".tusd-py/tmp").iterdir())


async def test_a_partial_that_is_too_short_is_a_failure(server: Server) -> None:
    names = await parts(server, TEXT, NOISE)
    await server.deliver(names[0])
    assert await server.replace(names[0])
    server.opened._running = False
    server.path(names[1]).write_bytes(NOISE[:100])
    with pytest.raises(StorageFailure, match="100 bytes"):
        await server.assemble("final", names)
    assert server.path("final").read_bytes() == b""


async def test_concatenating_again_gives_the_same(server: Server) -> None:
    """The process died before the record said where the bytes are."""
    names = await parts(server, *PIECES)
    for name in names:
        await server.deliver(name)
    final = await server.begin_final("final", names)
    records = [server.host.records[name] for name in names]
    assert await server.store.concatenate(final, records) == await server.store.concatenate(final, records)
    assert not await server.replace("final") and server.path("final").exists(), "it is not finished"
    await server.assemble("final", names)
    assert await server.read("final") == WHOLE
    assert len(list(server.repository.index.versions("final"))) == 1
