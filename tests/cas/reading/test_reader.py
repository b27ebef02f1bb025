"""Contents from chunks: the right bytes of any range, or an error."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tusd_py_cas.index import Index
from tusd_py_cas.model import ChunkDamaged, Codec, IndexDamaged, Manifest, Piece, RepositoryError, State, StoredChunk
from tusd_py_cas.reading import Reader, read_chunk, read_stored
from tusd_py_cas.repository import Repository

from tests.cas.files.contents import file_of, noise, store, text
from tests.cas.reading.repositories import make, put, put_chunk

PARTS = [noise(7), text(300), noise(1), b"0", text(70_000), noise(5000), text(300), noise(7)]
DATA = b"".join(PARTS)
EDGES = [0, *itertools.accumulate(map(len, PARTS))]


FLIPS = ["stored_size = stored_size + 1", "codec = 0, stored_size = size", "state = 1", "size = size + 1"]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    repository = make(tmp_path)
    yield repository
    repository.close()


@pytest.fixture
def reader(repository: Repository) -> Reader:
    return Reader(repository, put(repository, PARTS))


def state_of(repository: Repository, chunk: StoredChunk) -> State:
    return {row.name: state for row, state in repository.index.all_chunks()}[chunk.name]


def test_all_of_it(reader: Reader) -> None:
    assert b"".join(reader.iter_bytes()) == DATA
    assert list(reader.iter_bytes()) == PARTS
    assert reader.read(0, len(DATA)) == DATA
    assert [piece.start for piece in reader.pieces()] == EDGES[:-1]


def test_ranges_at_every_edge(reader: Reader) -> None:
    places = sorted({edge + off for edge in EDGES for off in (-1, 0, 1) if 0 <= edge + off <= len(DATA)})
    for start, end in itertools.combinations_with_replacement(places, 2):
        assert reader.read(start, end - start) == DATA[start:end]
        assert b"".join(reader.iter_bytes(start, end)) == DATA[start:end]


def test_ranges_anywhere(reader: Reader) -> None:
    chance = random.Random(1)
    for _ in range(300):
        start, end = sorted(chance.choices(range(len(DATA) + 1), k=2))
        assert reader.read(start, end - start) == DATA[start:end]


def test_reading_ends_where_the_content_does(reader: Reader) -> None:
    assert reader.read(len(DATA) - 3, 10) == DATA[-3:]
    assert reader.read(len(DATA), 10) == b""
    assert b"".join(reader.iter_bytes(5, 1 << 40)) == DATA[5:]


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (len(DATA) + 1, None), (5, 4), (len(DATA) + 1, len(DATA) + 2)])
def test_other_ranges_are_refused(reader: Reader, start: int, end: int | None) -> None:
    with pytest.raises(ValueError, match=f"is no range of {len(DATA)} bytes"):
        reader.iter_bytes(start, end)
    with pytest.raises(ValueError, match=f"is no range of {len(DATA)} bytes"):
        reader.pieces(start, end)


def test_an_empty_content(repository: Repository) -> None:
    reader = Reader(repository, put(repository, []))
    assert reader.read(0, 10) == b""
    assert list(reader.iter_bytes()) == []
    assert list(reader.pieces()) == []


@pytest.mark.parametrize("size", [1, 4 << 20])
@pytest.mark.parametrize("kind", [noise, text])
def test_a_content_of_one_chunk(repository: Repository, kind: object, size: int) -> None:
    data = noise(size) if kind is noise else text(size)
    assert Reader(repository, put(repository, [data])).read(0, size) == data


def test_a_content_put_together_of_others(repository: Repository) -> None:
    parts = [put(repository, PARTS[:3]), put(repository, []), put(repository, PARTS[3:]), put(repository, PARTS[:3])]
    reader = Reader(repository, repository.index.compose(parts))
    whole = DATA + b"".join(PARTS[:3])
    assert reader.read(0, len(whole)) == whole
    assert reader.read(200, 400) == whole[200:600]


def test_only_chunks_of_the_range_are_read(reader: Reader, tmp_path: Path) -> None:
    pieces = list(reader.pieces())
    for piece in (*pieces[:4], *pieces[5:]):
        file_of(tmp_path, piece.chunk).unlink(missing_ok=True)
    assert reader.read(EDGES[4], len(PARTS[4])) == PARTS[4]


def test_the_last_chunk_is_kept(reader: Reader, tmp_path: Path) -> None:
    assert reader.read(EDGES[4], 10) == PARTS[4][:10]
    file_of(tmp_path, next(reader.pieces(EDGES[4], EDGES[5])).chunk).unlink()
    assert reader.read(EDGES[4] + 60_000, 10_000) == PARTS[4][60_000:]
    assert b"".join(reader.iter_bytes(EDGES[4], EDGES[5])) == PARTS[4]


# Damage


def test_a_damaged_chunk_is_an_error_and_is_set_aside(
    repository: Repository, reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chunk = next(reader.pieces(EDGES[5], EDGES[6])).chunk
    file_of(tmp_path, chunk).write_bytes(noise(5000, seed=1))
    handed_out: list[bytes] = []
    with pytest.raises(ChunkDamaged) as damage:
        handed_out.extend(reader.iter_bytes())
    assert handed_out == PARTS[:5]
    assert damage.value.name == chunk.name
    assert state_of(repository, chunk) is State.DAMAGED
    assert not file_of(tmp_path, chunk).exists()
    assert [path.read_bytes() for path in (tmp_path / "quarantine").iterdir()] == [noise(5000, seed=1)]
    (record,) = (record for record in caplog.records if record.message == "chunk damaged")
    assert record.__dict__["fields"]["chunk"] == chunk.name.hex()


def test_the_other_ranges_can_still_be_read(reader: Reader, tmp_path: Path) -> None:
    file_of(tmp_path, next(reader.pieces(EDGES[5], EDGES[6])).chunk).unlink()
    assert reader.read(0, EDGES[5]) == DATA[: EDGES[5]]
    assert reader.read(EDGES[6], 1000) == DATA[EDGES[6] :]
    with pytest.raises(ChunkDamaged, match="its file is missing"):
        reader.read(EDGES[6] - 1, 1)


def test_the_next_upload_of_the_same_bytes_heals_it(repository: Repository, reader: Reader, tmp_path: Path) -> None:
    chunk = next(reader.pieces(EDGES[4], EDGES[5])).chunk
    file_of(tmp_path, chunk).write_bytes(b"")
    with pytest.raises(ChunkDamaged):
        reader.read(0, len(DATA))
    assert not repository.index.is_whole(reader.manifest)
    put(repository, [PARTS[4]])
    assert repository.index.is_whole(reader.manifest)
    assert reader.read(0, len(DATA)) == DATA


def test_a_chunk_stored_again_in_another_form_is_found(repository: Repository, tmp_path: Path) -> None:
    """Between the look into the index and the look at the file."""
    data = text(5000)
    before = put_chunk(repository, data)
    file_of(tmp_path, before).unlink()
    repository.damaged(before)
    now = put_chunk(repository, data, Codec.RAW)
    assert now.codec is not before.codec
    assert read_chunk(repository, before) == data
    assert read_stored(repository, before) == (now, data, data)
    assert state_of(repository, before) is State.LIVE


def test_who_has_an_old_idea_of_a_chunk_damages_nothing(
    repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = put_chunk(repository, text(5000))
    file_of(tmp_path, before).unlink()
    repository.damaged(before)
    now = put_chunk(repository, text(5000), Codec.RAW)
    caplog.clear()
    repository.damaged(before)
    assert caplog.messages == []
    assert repository.index.find_chunks([now.name]) == {now.name: now}
    file_of(tmp_path, now).unlink()
    with pytest.raises(ChunkDamaged):
        read_chunk(repository, before)
    assert state_of(repository, now) is State.DAMAGED


def test_a_sound_chunk_is_not_set_aside(repository: Repository) -> None:
    chunk = put_chunk(repository, noise(500))
    repository.damaged(chunk)
    assert state_of(repository, chunk) is State.LIVE
    assert read_chunk(repository, chunk) == noise(500)


def test_many_who_find_it_damaged_at_once(repository: Repository, tmp_path: Path) -> None:
    chunk = put_chunk(repository, noise(500))
    file_of(tmp_path, chunk).write_bytes(bytes(500))
    for _ in range(3):
        with pytest.raises(ChunkDamaged):
            read_chunk(repository, chunk)
    assert state_of(repository, chunk) is State.DAMAGED
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_setting_aside_never_fails(repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chunk = put_chunk(repository, noise(500))
    file_of(tmp_path, chunk).write_bytes(bytes(500))
    (tmp_path / "quarantine").rmdir()
    (tmp_path / "quarantine").write_bytes(b"no directory")
    with pytest.raises(ChunkDamaged):
        read_chunk(repository, chunk)
    assert state_of(repository, chunk) is State.DAMAGED
    assert "a damaged chunk could not be set aside" in caplog.messages
    repository.close()
    repository.damaged(chunk)


@pytest.mark.parametrize("flip", FLIPS)
def test_a_sound_file_that_the_index_has_wrong_stays(repository: Repository, tmp_path: Path, flip: str) -> None:
    manifest = put(repository, [text(5000)])
    (piece,) = repository.index.pieces(manifest)
    edit(tmp_path, f"UPDATE chunks SET {flip}")
    with pytest.raises(IndexDamaged):
        Reader(repository, manifest).read(0, 10)
    assert read_chunk(repository, piece.chunk) == text(5000)
    put(repository, [text(5000)])
    assert Reader(repository, manifest).read(0, 5000) == text(5000)
    assert list(repository.index.check()) == []


def test_another_file_of_the_chunk_heals_it_at_once(repository: Repository, tmp_path: Path) -> None:
    """Two ingests with different ideas of how to store it have left one each."""
    chunk = put_chunk(repository, text(5000))
    other = store(repository.chunks, text(5000), Codec.RAW)
    file_of(tmp_path, chunk).write_bytes(b"damaged")
    with pytest.raises(ChunkDamaged):
        read_chunk(repository, chunk)
    assert repository.index.find_chunks([chunk.name]) == {chunk.name: other}
    assert read_chunk(repository, chunk) == text(5000)


def edit(root: Path, statement: str) -> None:
    connection = sqlite3.connect(root / "index.db")
    try:
        with connection:
            assert connection.execute(statement).rowcount == 1
    finally:
        connection.close()


# What the index says


class Told:
    """An index that says what the test wants of the pieces of a content."""

    def __init__(self, index: Index, pieces: list[Piece]) -> None:
        self._index, self._pieces = index, pieces
        self.find_chunks = index.find_chunks

    def pieces(self, manifest: Manifest, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        return iter(self._pieces)


@pytest.mark.parametrize(
    "starts",
    [[], [0], [0, 10], [10, 20], [0, 20], [0, 10, 10, 20], [0, 10, 21], [0, 11, 20], [0, 10, 20, 30], [5, 10, 20], [20, 10, 0]],
    ids=str,
)
def test_pieces_that_do_not_fit_are_a_damaged_index(tmp_path: Path, starts: list[int]) -> None:
    repository = make(tmp_path)
    manifest = put(repository, [noise(10), noise(10, 1), noise(10, 2)])
    chunk = put_chunk(repository, noise(10))
    told = Told(repository.index, [Piece(start, chunk) for start in starts])
    repository.index.close()
    repository.index = told  # type: ignore[assignment]
    with pytest.raises(IndexDamaged, match=manifest.name.hex()):
        Reader(repository, manifest).read(0, 30)


@pytest.mark.parametrize("sizes", [[31], [10, 21], [15, 16]], ids=str)
def test_pieces_behind_the_end_are_a_damaged_index(tmp_path: Path, sizes: list[int]) -> None:
    repository = make(tmp_path)
    manifest = put(repository, [noise(30)])
    starts = [0, *sizes[:1]]
    told = Told(
        repository.index,
        [Piece(start, put_chunk(repository, noise(size, 5))) for start, size in zip(starts, sizes, strict=False)],
    )
    repository.index.close()
    repository.index = told  # type: ignore[assignment]
    with pytest.raises(IndexDamaged, match="does not fit its size"):
        list(Reader(repository, manifest).pieces())


def test_a_content_that_is_gone(repository: Repository, reader: Reader) -> None:
    gone = replace(reader.manifest, id=reader.manifest.id + 1000, name=bytes(32))
    with pytest.raises(RepositoryError):
        Reader(repository, gone).read(0, 10)


def test_the_files_alone_are_enough_to_heal(repository: Repository, tmp_path: Path) -> None:
    chunk = put_chunk(repository, text(5000))
    file_of(tmp_path, chunk).unlink()
    repository.damaged(chunk)
    assert not repository.heal(chunk.name)
    store(repository.chunks, text(5000), Codec.RAW)
    assert repository.heal(chunk.name)
    assert read_chunk(repository, chunk) == text(5000)
