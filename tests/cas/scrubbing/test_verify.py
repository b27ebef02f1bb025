"""`verify`: damage of every kind is found, told and set aside, and nothing that is sound."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.codec import Compressor
from tusd_py_cas.keeping.scrubbing import Finding, Verified, verify
from tusd_py_cas.model import ChunkDamaged, Codec, State, StoredChunk
from tusd_py_cas.reading import Reader, read_chunk
from tusd_py_cas.repository import Repository

from tests.cas.files.contents import file_of, noise, store, text
from tests.cas.index.test_opening import edit as execute
from tests.cas.reading.repositories import make, publish, put, put_chunk
from tests.support.waiting import until
from tusd_py.ports.failures import StorageFailure

PARTS = [noise(3000, 1), text(70_000, 2), text(3000, 3), noise(80_000, 4), noise(1, 5)]


FLIPS = ["stored_size = stored_size + 1", "codec = 0, stored_size = size", "state = 1", "size = size + 1"]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    repository = make(tmp_path)
    yield repository
    repository.close()


@pytest.fixture
def chunks(repository: Repository) -> list[StoredChunk]:
    """Of a content that is a version of an object."""
    manifest = put(repository, PARTS)
    publish(repository, "upload", manifest)
    return [piece.chunk for piece in repository.index.pieces(manifest)]


def states(repository: Repository) -> dict[bytes, State]:
    return {chunk.name: state for chunk, state in repository.index.all_chunks()}


def sound(found: Verified, chunks: list[StoredChunk]) -> bool:
    return found == Verified(checked=len(chunks), bytes=sum(chunk.stored_size for chunk in chunks)) and found.sound


def test_an_empty_repository_is_sound(repository: Repository) -> None:
    assert sound(verify(repository), [])


def test_what_was_stored_is_sound(repository: Repository, chunks: list[StoredChunk]) -> None:
    told: list[int] = []
    assert sound(verify(repository, progress=told.append), chunks)
    assert sorted(told) == sorted(chunk.stored_size for chunk in chunks)


def test_more_chunks_than_a_page_of_the_index_has(repository: Repository) -> None:
    for seed in range(0, 2500, 500):
        batch = [store(repository.chunks, noise(20, seed + each)) for each in range(500)]
        repository.index.add_chunks(batch, repository.chunks.exists)
    assert verify(repository).checked == 2500


def damage_missing(path: Path) -> str:
    path.unlink()
    return "its file is missing"


def damage_empty(path: Path) -> str:
    os.truncate(path, 0)
    return "its file has 0 bytes, not 3000"


def damage_bit(path: Path) -> str:
    stored = bytearray(path.read_bytes())
    stored[1234] ^= 4
    path.write_bytes(stored)
    return "its bytes have another hash"


def damage_link(path: Path) -> str:
    path.unlink()
    path.symlink_to("/dev/zero")
    return "a symbolic link is in the place of its file"


def damage_fifo(path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "what is in the place of its file is no regular file"


@pytest.mark.parametrize("damage", [damage_missing, damage_empty, damage_bit, damage_link, damage_fifo])
def test_damage_is_found_and_set_aside(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    what = damage(file_of(tmp_path, chunks[0]))
    found = verify(repository)
    assert found.damaged == (Finding(chunks[0].name, what),)
    assert (found.checked, found.sound, found.complete, found.healed) == (len(chunks), False, True, 0)
    assert [version.upload_id for version in found.affected] == ["upload"]
    assert states(repository) == {chunk.name: State.DAMAGED if chunk is chunks[0] else State.LIVE for chunk in chunks}
    assert not os.path.lexists(file_of(tmp_path, chunks[0]))
    assert len(list((tmp_path / "quarantine").iterdir())) == (damage is not damage_missing)
    again = verify(repository)
    assert [name for name, _ in again.damaged] == [chunks[0].name]
    assert again.affected == found.affected


def test_a_damaged_version_hides_no_other_that_is_affected(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    publish(repository, "another", put(repository, PARTS), "an object")
    publish(repository, "third", put(repository, PARTS))
    edit(tmp_path, "UPDATE versions SET metadata = '[]' WHERE upload = 'upload'")
    file_of(tmp_path, chunks[0]).unlink()
    found = verify(repository)
    assert found.complete
    assert found.index_errors == ("the version of upload 'upload' does not fit its seal",)
    assert [version.upload_id for version in found.affected] == ["another", "third"]


def test_flipped_bits_anywhere_are_found(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    """In chunks in either form. A bit of a frame that does not matter to what comes out is no damage."""
    chance = random.Random(3)
    for _ in range(40):
        chunk = chance.choice(chunks)
        path = file_of(tmp_path, chunk)
        stored = bytearray(before := path.read_bytes())
        stored[chance.randrange(len(stored))] ^= 1 << chance.randrange(8)
        path.write_bytes(stored)
        try:
            repository.chunks.read(chunk)
        except ChunkDamaged:
            assert [name for name, _ in verify(repository).damaged] == [chunk.name]
            path.write_bytes(before)
            assert verify(repository).healed == 1
        else:
            assert chunk.codec is Codec.ZSTD
            assert verify(repository).sound
            path.write_bytes(before)


def test_the_same_bytes_uploaded_again_heal(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    for chunk in chunks:
        damage_empty(file_of(tmp_path, chunk))
    assert len(verify(repository).damaged) == len(chunks)
    manifest = put(repository, PARTS)
    assert sound(verify(repository), chunks)
    assert Reader(repository, manifest).read(0, manifest.size) == b"".join(PARTS)


def test_a_file_that_is_put_back_heals(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    path = file_of(tmp_path, chunks[0])
    before = path.read_bytes()
    damage_bit(path)
    verify(repository)
    path.write_bytes(before)
    found = verify(repository)
    assert (found.healed, found.damaged, found.sound) == (1, (), True)
    assert states(repository)[chunks[0].name] is State.LIVE


def test_what_a_crash_has_left_before_it_was_moved_is_moved(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    damage_bit(file_of(tmp_path, chunks[0]))
    repository.index.mark_damaged([chunks[0].name])
    assert verify(repository).damaged == (Finding(chunks[0].name, "its bytes have another hash"),)
    assert not file_of(tmp_path, chunks[0]).exists()
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_only_versions_with_damaged_chunks_are_affected(repository: Repository, tmp_path: Path) -> None:
    shared, alone = noise(500, 1), noise(500, 2)
    contents = {"with": [shared, alone], "too": [alone, shared, alone], "without": [alone], "same": [shared, alone]}
    manifests = {name: put(repository, parts) for name, parts in contents.items()}
    manifests["composed"] = repository.index.compose([manifests["without"], manifests["with"]])
    for name, manifest in manifests.items():
        publish(repository, name, manifest, name=name)
    damage_missing(file_of(tmp_path, put_chunk(repository, shared)))
    affected = verify(repository).affected
    assert {version.object for version in affected} == {"with", "too", "same", "composed"}


def test_a_sample_is_a_part_and_can_be_had_again(repository: Repository) -> None:
    batch = [store(repository.chunks, noise(20, seed)) for seed in range(1000)]
    repository.index.add_chunks(batch, repository.chunks.exists)
    checked = [verify(repository, fraction=0.1, seed=seed).checked for seed in (1, 1, 2)]
    assert checked[0] == checked[1]
    assert all(50 < count < 150 for count in checked)
    assert verify(repository, fraction=0.0).checked == 0


def test_a_sample_has_all_that_were_set_aside(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    damage_missing(file_of(tmp_path, chunks[2]))
    verify(repository)
    found = verify(repository, fraction=0.0)
    assert [name for name, _ in found.damaged] == [chunks[2].name]
    assert found.checked == 1


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_that_is_none_is_refused(repository: Repository, fraction: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        verify(repository, fraction=fraction)


@pytest.mark.parametrize("rate", [0, -1.0])
def test_a_rate_that_gets_nothing_done_is_refused(repository: Repository, rate: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        verify(repository, rate=rate)


def test_files_without_a_row_are_counted(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    for seed in range(10):
        store(repository.chunks, noise(100, 100 + seed))
    compressed = next(chunk for chunk in chunks if chunk.codec is Codec.ZSTD)
    store(repository.chunks, PARTS[chunks.index(compressed)], Codec.RAW)
    found = verify(repository)
    assert found.orphans == 11
    assert found.sound
    assert verify(repository, fraction=0.0).orphans == 11


def test_collected_chunks_are_nobodys(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    """Condemned, and removed between the look into the index and the look at the file."""
    gone = put_chunk(repository, noise(700, 77))
    walk = repository.index.all_chunks

    def collect_first(after: bytes = b"", limit: int = 1000) -> object:
        rows = walk(after, limit)
        if repository.chunks.exists(gone):
            assert repository.index.condemn(2**40) == 1
            condemned = repository.index.condemned()
            assert repository.index.bury(condemned, repository.chunks.remove) == 1
        return rows

    repository.index.all_chunks = collect_first  # type: ignore[method-assign]
    found = verify(repository)
    assert sound(found, chunks)
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_condemned_chunks_are_left_alone(repository: Repository, tmp_path: Path) -> None:
    put_chunk(repository, noise(700))
    assert repository.index.condemn(2**40) == 1
    (condemned,) = repository.index.condemned()
    assert sound(verify(repository), [])
    assert states(repository) == {condemned.name: State.CONDEMNED}
    damage_missing(file_of(tmp_path, condemned))
    assert sound(verify(repository), [])


def test_what_can_not_be_read_is_told_but_not_set_aside(
    repository: Repository, chunks: list[StoredChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be back tomorrow. (That EIO is a StorageFailure is shown by strace, in `tests/cas/files`.)"""
    read = ChunkFiles.read

    def fail_one(self: ChunkFiles, chunk: StoredChunk, *, from_disk: bool = False) -> bytes:
        if chunk == chunks[1]:
            raise StorageFailure("reading a chunk: Input/output error")
        return read(self, chunk, from_disk=from_disk)

    monkeypatch.setattr(ChunkFiles, "read", fail_one)
    found = verify(repository)
    assert found.unreadable == (Finding(chunks[1].name, "reading a chunk: Input/output error"),)
    assert found.damaged == ()
    assert not found.sound
    assert [version.upload_id for version in found.affected] == ["upload"]
    assert set(states(repository).values()) == {State.LIVE}


def test_what_had_been_set_aside_and_can_not_be_read_now_does_not_end_it(
    repository: Repository, chunks: list[StoredChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_sound = ChunkFiles.find_sound

    def fail_one(self: ChunkFiles, name: bytes) -> StoredChunk | None:
        if name == chunks[1].name:
            raise StorageFailure("reading a chunk: Input/output error")
        return find_sound(self, name)

    monkeypatch.setattr(ChunkFiles, "find_sound", fail_one)
    repository.index.mark_damaged([chunks[1].name, chunks[2].name])
    found = verify(repository)
    assert found.unreadable == (Finding(chunks[1].name, "reading a chunk: Input/output error"),)
    assert (found.damaged, found.healed, found.checked, found.complete) == ((), 1, len(chunks), True)


def test_a_bad_row_whose_file_can_not_be_read_does_not_end_it(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ChunkFiles, name: bytes) -> StoredChunk | None:
        raise StorageFailure("reading a chunk: Input/output error")

    monkeypatch.setattr(ChunkFiles, "find_sound", fail)
    edit(tmp_path, f"UPDATE chunks SET stored_size = stored_size + 1 WHERE stored_size = {chunks[1].stored_size}")
    found = verify(repository)
    assert found.unreadable == (Finding(chunks[1].name, "reading a chunk: Input/output error"),)
    assert (found.healed, found.orphans, found.complete) == (0, 0, True)
    assert [version.upload_id for version in found.affected] == ["upload"]


def test_a_sound_file_of_another_size_than_the_row_says_is_no_damage(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    """Somebody who compresses in another way has died before the index heard of it."""
    better = bytes(Compressor(19).encode(text(70_000, 2))[1])
    assert len(better) < chunks[1].stored_size
    repository.chunks.write(chunks[1].name, Codec.ZSTD, better)
    found = verify(repository)
    assert (found.healed, found.sound) == (1, True)
    assert read_chunk(repository, replace(chunks[1], stored_size=len(better))) == text(70_000, 2)
    assert verify(repository).sound
    assert list((tmp_path / "quarantine").iterdir()) == []


def edit(root: Path, statement: str) -> None:
    connection = sqlite3.connect(root / "index.db")
    try:
        with connection:
            assert connection.execute(statement).rowcount == 1
    finally:
        connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaves SET seal = zeroblob(16) WHERE id = (SELECT min(id) FROM leaves)",
        "UPDATE manifests SET size = size + 1",
        "UPDATE versions SET upload = 'another'",
    ],
)
def test_damage_of_the_index_is_told(repository: Repository, chunks: list[StoredChunk], tmp_path: Path, statement: str) -> None:
    edit(tmp_path, statement)
    found = verify(repository)
    assert found.index_errors
    assert not found.sound
    assert found.damaged == ()
    assert found.checked == len(chunks)
    assert set(states(repository).values()) == {State.LIVE}


@pytest.mark.parametrize("flip", FLIPS)
def test_rows_that_are_damaged_are_made_good_from_sound_files(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path, flip: str
) -> None:
    """And neither are true orphans taken in, nor does a bad row hide those behind it."""
    store(repository.chunks, noise(100, 100))
    chunk = min((chunk for chunk in chunks if chunk.codec is Codec.ZSTD), key=lambda chunk: chunk.name)
    last = max(chunks, key=lambda chunk: chunk.name)
    edit(tmp_path, f"UPDATE chunks SET {flip} WHERE stored_size = {chunk.stored_size}")
    damage_missing(file_of(tmp_path, last))
    found = verify(repository)
    assert (found.healed, found.orphans, found.checked) == (1, 1, len(chunks) - 1)
    assert [name for name, _ in found.damaged] == [last.name]
    assert any(chunk.name.hex() in error.lower() for error in found.index_errors)
    assert read_chunk(repository, chunk)
    assert verify(repository).index_errors == ()


def test_versions_whose_chunks_the_index_can_not_tell_are_affected(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    publish(repository, "other", put(repository, [noise(10, 1000)]), name="other")
    edit(tmp_path, f"UPDATE chunks SET stored_size = stored_size + 1 WHERE stored_size = {chunks[1].stored_size}")
    damage_missing(file_of(tmp_path, chunks[1]))  # or the row would be made good
    found = verify(repository)
    assert (found.damaged, found.complete) == ((), True)
    assert [version.upload_id for version in found.affected] == ["upload"]


def test_what_was_found_is_told_where_the_index_can_not_be_read_on(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    execute(tmp_path / "index.db", "DROP TABLE versions")
    damage_missing(file_of(tmp_path, chunks[1]))
    repository.close()  # it remembers leaves that it has read
    again = Repository.open(str(tmp_path))
    found = verify(again)
    assert [name for name, _ in found.damaged] == [chunks[1].name]
    assert not found.complete
    again.close()


# On the way


def test_a_stop_is_heard_before_each_chunk(repository: Repository) -> None:
    batch = [store(repository.chunks, noise(20, seed)) for seed in range(500)]
    repository.index.add_chunks(batch, repository.chunks.exists)
    told: list[int] = []
    found = verify(repository, progress=told.append, stop=lambda: len(told) >= 5)
    assert not found.complete
    assert 5 <= found.checked < 30


def test_a_stop_is_heard_while_it_waits_for_its_rate(repository: Repository) -> None:
    for seed in range(3):
        put_chunk(repository, noise(1000, seed))
    stopping = threading.Event()
    told: list[int] = []
    found: list[Verified] = []

    def run() -> None:
        found.append(verify(repository, rate=0.001, progress=told.append, stop=stopping.is_set))

    thread = threading.Thread(target=run)
    thread.start()
    stopping.set()  # it would take weeks
    until(lambda: found, timeout=30)
    thread.join()
    assert not found[0].complete
    assert found[0].checked <= 1


def test_a_stop_is_heard_while_the_index_is_checked(repository: Repository, chunks: list[StoredChunk]) -> None:
    found = verify(repository, stop=lambda: True)
    assert (found.checked, found.complete) == (0, False)


def test_what_was_found_before_a_stop_is_told(repository: Repository, chunks: list[StoredChunk], tmp_path: Path) -> None:
    for chunk in chunks:
        damage_missing(file_of(tmp_path, chunk))
    told: list[int] = []
    found = verify(repository, progress=told.append, stop=lambda: len(told) >= 2)
    assert len(found.damaged) >= 2
    assert not found.complete


def test_uploads_go_on_beside_it(repository: Repository) -> None:
    """Storing, and verifying over and over: no chunk is ever found bad."""
    stopping = threading.Event()
    verified: list[Verified] = []

    def run() -> None:
        while not stopping.is_set():
            verified.append(verify(repository))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for seed in range(60):
            publish(repository, str(seed), put(repository, [noise(2000, seed), text(2000, seed)]))
        until(lambda: len(verified) >= 3, timeout=60)
    finally:
        stopping.set()
        thread.join()
    assert all(each.sound and each.healed == 0 for each in verified)
    assert set(states(repository).values()) == {State.LIVE}


# What is wrong with the index


def test_what_nobody_needs_is_dropped_where_it_is_damaged(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    put(repository, [noise(10, 1000), noise(11, 1001)], leaf=1)
    edit(tmp_path, "UPDATE leaves SET count = 7 WHERE id = (SELECT MAX(id) FROM leaves)")
    edit(tmp_path, "INSERT INTO objects VALUES (99, 'nothing', 0, '', 1)")
    found = verify(repository)
    assert set(found.mended) == {"object 'nothing' has no version", "leaf 4 does not fit its seal"}
    assert (found.index_errors, found.sound, found.affected) == ((), True, ())
    assert (verify(repository).mended, verify(repository).sound) == ((), True)


def test_nothing_is_dropped_as_long_as_a_version_is_damaged(
    repository: Repository, chunks: list[StoredChunk], tmp_path: Path
) -> None:
    edit(tmp_path, "INSERT INTO objects VALUES (99, 'nothing', 0, '', 1)")
    edit(tmp_path, "UPDATE leaves SET count = 7 WHERE id = 1")
    repository.close()  # it remembers leaves that it has read
    again = Repository.open(str(tmp_path))
    found = verify(again)
    again.close()
    assert found.mended == ()
    assert set(found.index_errors) == {"object 'nothing' has no version", "leaf 1 does not fit its seal"}
    assert [version.upload_id for version in found.affected] == ["upload"]
