"""Contents of every kind come out as they went in, and nothing is stored twice."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tusd_py_cas.ingest.cutting import Cutter
from tusd_py_cas.ingest.engine import Cancelled, Engine
from tusd_py_cas.ingest.jobs import Segment
from tusd_py_cas.ingest.windows import SMALL, WINDOW
from tusd_py_cas.model import LEAF, Codec
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import MEDIUM, TINY, Take, segments_of
from tests.support.corpus import text
from tusd_py.ports.failures import StorageFailure

Taker = Callable[[bytes], Take]

RANDOM = random.Random(1)
KINDS = {
    "random": RANDOM.randbytes(300_000),
    "text": b"All human beings are born free and equal in dignity and rights.\n" * 5000,
    "compressed": zlib.compress(RANDOM.randbytes(1000) * 100 + RANDOM.randbytes(300_000)),
    "sparse": RANDOM.randbytes(5000) + bytes(5_000_000) + RANDOM.randbytes(5000),
    "zeros": bytes(5_000_000),
    "empty": b"",
    "one byte": b"x",
    **{f"{size} bytes": RANDOM.randbytes(size) for size in (1023, 1024, 1025, 4096, 16384, 16385)},
    "a small window": RANDOM.randbytes(SMALL),
    "more than a small window": RANDOM.randbytes(SMALL + 1),
    "a window": (RANDOM.randbytes(400_000) * 50)[:WINDOW],
    "more than two windows": RANDOM.randbytes(400_000) * (2 * WINDOW // 400_000 + 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str, take: Taker) -> None:
    data = KINDS[kind]
    first, second = take(data), take(data)
    assert second.manifest == first.manifest
    distinct = {piece.chunk.name: piece.chunk for piece in first.pieces}
    assert first.ingested.chunks_new == len(distinct)
    assert first.ingested.bytes_new == sum(chunk.size for chunk in distinct.values())
    assert first.ingested.bytes_stored == sum(chunk.stored_size for chunk in distinct.values())
    assert (second.ingested.chunks_new, second.ingested.bytes_new, second.ingested.bytes_stored) == (0, 0, 0)


def test_cuts_are_those_of_the_whole(take: Taker) -> None:
    data = random.Random(2).randbytes(700_000) * (2 * WINDOW // 700_000)
    cuts = [(cut.start, cut.size) for cut in Cutter(TINY).cut(memoryview(data), at_end=True)]
    for content in (data, data):
        assert [(piece.start, piece.chunk.size) for piece in take(content).pieces] == cuts


def test_text_is_compressed_and_random_bytes_are_not(take: Taker) -> None:
    assert {piece.chunk.codec for piece in take(KINDS["text"]).pieces} == {Codec.ZSTD}
    assert {piece.chunk.codec for piece in take(KINDS["random"]).pieces} == {Codec.RAW}


def test_many_leaves(take: Taker) -> None:
    data = random.Random(3).randbytes(300_000) * 170
    first = take(data)
    assert first.ingested.chunks > 2 * LEAF
    assert take(data).manifest == first.manifest
    changed = take(data[: 45 << 20] + b"x" + data[45 << 20 :])
    assert changed.ingested.chunks_new <= 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_contents_of_the_same_parts(take: Taker, data: st.DataObject) -> None:
    parts = [random.Random(seed).randbytes(60_000) for seed in range(3)] + [bytes(40_000), b"abc" * 20_000]
    drawn = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60_000)), min_size=1, max_size=5))
    take(b"".join(parts[number][:size] for number, size in drawn))


def test_segments(tmp_path: Path, engine: Engine, repository: Repository) -> None:
    data = random.Random(6).randbytes(3_000_000)
    whole = tmp_path / "whole"
    whole.write_bytes(data)
    parts = []
    for number, (start, end) in enumerate([(0, 5), (5, 5), (5, 1_000_000), (1_000_000, 1_000_001), (1_000_001, 3_000_000)]):
        path = tmp_path / str(number)
        path.write_bytes(b"in front" + data[start:end] + b"behind")
        parts.append(Segment(str(path), 8, end - start))
    assert engine.ingest(parts).manifest == engine.ingest(segments_of(whole)).manifest
    assert engine.ingest([Segment(str(whole), 0, 9), Segment(str(whole), 9, len(data) - 9)]).chunks_new == 0


def test_no_segments(engine: Engine) -> None:
    assert engine.ingest([]).manifest.size == 0


def test_an_open_file_that_has_no_name(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "gone"
    with path.open("w+b") as file:
        file.write(KINDS["random"])
        file.flush()
        path.unlink()
        segment = Segment(f"/proc/{os.getpid()}/fd/{file.fileno()}", 0, len(KINDS["random"]))
        assert engine.ingest([segment]).bytes_in == len(KINDS["random"])


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_source_that_is_too_short(size: int, tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(size - 1))
    with pytest.raises(StorageFailure, match="was cut while it was read"):
        engine.ingest([Segment(str(path), 0, size)])


def test_a_source_that_is_missing(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(StorageFailure, match="to be taken in"):
        engine.ingest([Segment(str(tmp_path / "nothing"), 0, 1)])


@pytest.mark.parametrize("known", [False, True])
def test_a_source_that_is_written_to(known: bool, tmp_path: Path, engine: Engine) -> None:
    """Its digests and its chunks may be of different bytes."""
    path = tmp_path / "content"
    path.write_bytes(KINDS["random"])
    if known:
        engine.ingest(segments_of(path))

    def write(position: int) -> None:
        with path.open("r+b") as file:
            file.write(b"other")

    with pytest.raises(StorageFailure, match="was written to while it was read"):
        engine.ingest(segments_of(path), progress=write)
    assert engine.ingest(segments_of(path)).bytes_in == len(KINDS["random"])


def test_cancelling(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "content"
    path.write_bytes(KINDS["random"])
    with pytest.raises(Cancelled):
        engine.ingest(segments_of(path), lambda: True)


def test_digests_of_composed_content(take: Taker, engine: Engine, repository: Repository) -> None:
    one, two = take(KINDS["random"]), take(KINDS["text"])
    composed = repository.index.compose([one.manifest, two.manifest])
    whole = take(KINDS["random"] + KINDS["text"]).manifest
    assert engine.digest(composed) == (whole.blake3, whole.sha256)


def test_composed_content_is_not_followed(take: Taker, repository: Repository) -> None:
    """Its cuts are not those of its bytes."""
    data = random.Random(7).randbytes(200_000)
    parts = [take(data[:77_777]).manifest, take(data[77_777:]).manifest]
    composed = repository.index.compose(parts)
    whole = take(data)
    cuts = [(cut.start, cut.size) for cut in Cutter(TINY).cut(memoryview(data), at_end=True)]
    assert [(piece.start, piece.chunk.size) for piece in whole.pieces] == cuts
    assert whole.manifest != composed


def test_damaged_chunks_are_stored_again(take: Taker, repository: Repository) -> None:
    data = random.Random(8).randbytes(3_000_000)
    first = take(data)
    lost = [first.pieces[number].chunk for number in (0, 7, 100, -1)]
    repository.index.mark_damaged([chunk.name for chunk in lost])
    for chunk in lost:
        repository.chunks.remove(chunk)
    assert not repository.index.is_whole(first.manifest)
    again = take(data)
    assert (again.manifest, again.ingested.chunks_new) == (first.manifest, 4)
    assert repository.index.is_whole(first.manifest)


def test_collected_contents_are_stored_again(take: Taker, repository: Repository) -> None:
    from tusd_py_cas.keeping.collecting import collect

    data = random.Random(9).randbytes(3_000_000)
    first = take(data)
    assert collect(repository, grace=-60, now=4e9).chunks == first.ingested.chunks
    assert take(data).ingested.chunks_new == first.ingested.chunks


def test_what_is_collected_while_it_is_read_once_more_is_stored_again(
    tmp_path: Path, engine: Engine, repository: Repository
) -> None:
    from tusd_py_cas.keeping.collecting import collect

    path, collected = tmp_path / "content", []
    path.write_bytes(KINDS["random"])
    first = engine.ingest(segments_of(path))

    def collect_once(position: int) -> None:
        if not collected:
            collected.append(collect(repository, grace=-60, now=4e9).chunks)

    again = engine.ingest(segments_of(path), progress=collect_once)
    assert collected == [first.chunks] and again.chunks_new == first.chunks
    assert repository.index.is_whole(again.manifest)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads: int, tmp_path: Path) -> None:
    repository = Repository.open(str(tmp_path / "cas"), create=MEDIUM, durable=False)
    engine = Engine(repository, threads=threads)
    data = text(5 << 20, random.Random(10)) + random.Random(11).randbytes(40 << 20)
    try:
        Take(tmp_path / "content", repository, engine, data)
    finally:
        engine.close()
        repository.close()
