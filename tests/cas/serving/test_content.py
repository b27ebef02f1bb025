"""Contents that are read from chunks, as they are and as stored frames."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tusd_py_cas.model import Codec, StoredChunk
from tusd_py_cas.serving import decoded, opening, pieces
from tusd_py_cas.serving.content import CasContent

from tests.cas.serving.support import CONTENTS, NOISE, SMALL, TEXT, Server
from tusd_py.ports.datastore import Content
from tusd_py.ports.failures import StorageFailure

ALL = b"".join(CONTENTS.values())


async def drain(content: Content, step: int = 10_000) -> bytes:
    found, offset = [], 0
    while piece := await content.read(offset, step):
        found.append(piece)
        offset += len(piece)
    return b"".join(found)


# What it says of itself


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
async def test_it_is_named_by_its_bytes(keeping: Server, data: bytes) -> None:
    await keeping.take("a", data)
    content = await keeping.open("a")
    assert content.size == len(data) and content.extents(0, len(data)) is None
    assert content.version == blake3(data).hexdigest() and content.is_named_by_content
    assert content.digests == {"sha-256": hashlib.sha256(data).digest()}
    assert content.modified == os.stat(keeping.path("a")).st_mtime
    await content.close()


# Ranges


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_range_is_the_original_s(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    size = len(ALL)
    ranges = data.draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, 100_000)), min_size=1, max_size=5))

    async def check() -> None:
        async with Server(Path(tmp_path_factory.mktemp("ranges"))) as server:
            await server.take("a", ALL)
            content = await server.open("a")
            for offset, count in ranges:
                assert await content.read(offset, count) == ALL[offset : offset + count]
            await content.close()

    asyncio.run(check())


async def test_a_range_reads_only_the_chunks_that_it_needs(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    content = await keeping.open("a")
    keeping.faults.reset()
    read: list[bytes] = []
    real = keeping.repository.chunks.read_stored
    keeping.repository.chunks.read_stored = lambda chunk: (read.append(chunk.name), real(chunk))[1]  # type: ignore[method-assign]
    assert await content.read(100_000, 100) == NOISE[100_000:100_100]
    assert 1 <= len(read) <= 2
    await content.close()


async def test_who_reads_on_finds_the_next_chunk_read_already(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    content = await keeping.open("a")
    assert isinstance(content, CasContent)
    await content.read(0, 1000)
    shelf = keeping.opened.opener._shelf
    assert not shelf._coming, "who wants one range is not helped by the next chunk"
    await content.read(1000, 1000)
    assert shelf._coming
    assert await content.read(2000, len(NOISE)) == NOISE[2000:]
    assert len(shelf._kept) <= decoded.EACH
    await content.close()
    assert not shelf._kept and not shelf._size


async def test_memory_is_bounded_for_all_downloads_together(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await keeping.take("a", NOISE)
    limit = 4 * SMALL.max_size
    shelf = keeping.opened.opener._shelf = decoded.Shelf(keeping.opened.access, limit)
    contents = [await keeping.open("a") for _ in range(20)]

    async def read(content: Content) -> bytes:
        found = b""
        while len(found) < content.size:
            found += await content.read(len(found), 3000)
            assert shelf._size <= limit
        return found

    assert set(await asyncio.gather(*map(read, contents))) == {NOISE}
    for content in contents:
        await content.close()
    assert not shelf._kept and not shelf._size


async def test_the_list_of_chunks_is_read_in_parts(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "FIRST", 10_000)
    monkeypatch.setattr(pieces, "LAST", 30_000)
    await keeping.take("a", NOISE)
    content = await keeping.open("a")
    assert await drain(content, 7000) == NOISE
    assert await content.read(5, 10) == NOISE[5:15]
    await content.close()


async def test_who_goes_away_disturbs_nobody(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    content = await keeping.open("a")
    reading = asyncio.create_task(content.read(0, len(NOISE)))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert await content.read(0, len(NOISE)) == NOISE
    await content.close()


# Damage


@pytest.mark.parametrize("data", [NOISE, TEXT], ids=["raw", "compressed"])
async def test_a_damaged_chunk_is_a_failure_before_any_wrong_byte(
    keeping: Server, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await keeping.take("a", data)
    keeping.damage()
    content = await keeping.open("a")
    with caplog.at_level(logging.ERROR, "tusd_py.cas"), pytest.raises(StorageFailure, match="chunk"):
        await content.read(0, 100)
    await content.close()
    assert keeping.opened.counts.damaged == 1
    [record] = [each for each in caplog.records if "could not be read" in each.message]
    assert record.fields["id"] == "a" and len(record.fields["chunk"]) == 64  # type: ignore[attr-defined]


async def test_damage_that_is_met_ahead_is_told_once_and_when_it_is_reached(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    content = await keeping.open("a")
    first = await keeping.opened.access.look(lambda: next(iter(keeping.repository.index.pieces(keeping.version("a").manifest))))
    for path in keeping.chunk_files():
        if not path.name.startswith(first.chunk.name.hex()):
            path.write_bytes(b"x" * path.stat().st_size)
    size = first.chunk.size
    assert await content.read(0, size // 2) + await content.read(size // 2, size - size // 2) == NOISE[:size]
    assert keeping.opened.counts.damaged == 0
    with pytest.raises(StorageFailure):
        await content.read(size, 10)
    assert keeping.opened.counts.damaged == 1
    await content.close()


async def test_a_damaged_index_is_a_failure(keeping: Server) -> None:
    import sqlite3

    await keeping.take("a", NOISE)
    content = await keeping.open("a")
    keeping.repository.index.close()
    connection = sqlite3.connect(keeping.directory / ".tusd-py/cas/index.db")
    connection.execute("UPDATE chunks SET name = randomblob(32) WHERE id = 3")
    connection.commit()
    connection.close()
    await content.close()
    async with Server(keeping.directory) as again:
        again.host.records.update(keeping.host.records)
        with pytest.raises(StorageFailure, match="seal"):
            content = await again.open("a")
            await content.read(0, len(NOISE))


async def test_the_same_bytes_again_heal_it(replacing: Server) -> None:
    await replacing.take("a", TEXT)
    assert await replacing.replace("a")
    replacing.damage()
    for _ in range(100):  # each look finds one damaged chunk
        try:
            await replacing.read("a")
        except StorageFailure:
            await replacing.take(f"b{_}", TEXT)
        else:
            break
    assert await replacing.read("a") == TEXT


# As it is stored


@pytest.mark.parametrize("step", [1 << 20, 1000])
@pytest.mark.parametrize("data", [TEXT, CONTENTS["mixed"], CONTENTS["zeros"]], ids=["text", "mixed", "zeros"])
async def test_the_stored_frames_are_the_same_bytes(keeping: Server, data: bytes, step: int) -> None:
    await keeping.take("a", data)
    content = await keeping.open("a")
    form = content.encodings["zstd"]
    assert form.version == f"{content.version}-zstd" and form.size < opening.WORTHWHILE * content.size
    encoded = await drain(form, step)
    assert len(encoded) == form.size
    assert zstandard.ZstdDecompressor().stream_reader(encoded, read_across_frames=True).read() == data
    offset = random.Random(step).randrange(form.size)
    assert await form.read(offset, 100) == encoded[offset : offset + 100]
    await form.close()
    await content.close()


@pytest.mark.parametrize("data", [b"", b"x", NOISE], ids=["nothing", "a byte", "noise"])
async def test_what_is_no_smaller_has_no_other_form(keeping: Server, data: bytes) -> None:
    await keeping.take("a", data)
    content = await keeping.open("a")
    assert not content.encodings
    await content.close()


async def test_what_is_too_large_to_count_has_no_other_form(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LARGEST", 1000)
    await keeping.take("a", TEXT)
    content = await keeping.open("a")
    assert not content.encodings
    await content.close()


async def test_few_sizes_of_forms_are_remembered(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "REMEMBERED", 2)
    for number in range(4):
        await keeping.take(f"a{number}", TEXT[number:])
        await (await keeping.open(f"a{number}")).close()
    assert len(keeping.opened.opener._frames) == 2


async def test_a_damaged_frame_is_a_failure_before_any_wrong_byte(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    form = (await keeping.open("a")).encodings["zstd"]
    keeping.damage()
    with pytest.raises(StorageFailure, match="chunk"):
        await form.read(0, 100)
    assert keeping.opened.counts.damaged == 1


def store_again(server: Server, codec: Codec) -> None:
    """A chunk of the upload `a`, in another form."""
    repository, version = server.repository, server.version("a")
    assert version is not None
    chunk = list(repository.index.pieces(version.manifest))[10].chunk
    data = repository.chunks.read(chunk)
    encoded: bytes | memoryview = zstandard.ZstdCompressor().compress(data) if codec is Codec.ZSTD else data
    stored = StoredChunk(chunk.name, chunk.size, len(encoded), codec)
    repository.chunks.remove(chunk)
    repository.index.mark_damaged([chunk.name])
    repository.chunks.write(stored.name, codec, encoded)
    repository.index.add_chunks([stored], repository.chunks.exists)


@pytest.mark.parametrize("codecs", [(Codec.ZSTD, Codec.RAW), (Codec.RAW, Codec.ZSTD)], ids=["larger", "smaller"])
async def test_frames_that_have_changed_meanwhile_are_a_failure(keeping: Server, codecs: tuple[Codec, Codec]) -> None:
    """The size has been told already: a chunk that was stored again in another form has another one."""
    await keeping.take("a", TEXT)
    await asyncio.to_thread(store_again, keeping, codecs[0])
    begun, opened = [(await keeping.open("a")).encodings["zstd"] for _ in range(2)]
    assert await begun.read(0, 10)
    await asyncio.to_thread(store_again, keeping, codecs[1])
    for form in (begun, opened, (await keeping.open("a")).encodings["zstd"]):
        with pytest.raises(StorageFailure, match="have changed"):
            await drain(form)
        assert not keeping.opened.opener._frames, "the next is told the right size"
        keeping.opened.opener._frames[bytes.fromhex(form.version[:64])] = form.size
    keeping.opened.opener._frames.clear()
    encoded = await drain((await keeping.open("a")).encodings["zstd"])
    assert zstandard.ZstdDecompressor().stream_reader(encoded, read_across_frames=True).read() == TEXT
