"""Chunks in files: what was stored comes back, and nothing else that lies there ever does."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.codec import Compressor
from tusd_py_cas.model import ChunkDamaged, Codec, StoredChunk

from tests.cas.files.contents import KINDS, SIZES, describe, file_of, noise, store, text
from tusd_py.ports.failures import StorageFailure


@pytest.fixture
def files(tmp_path: Path) -> ChunkFiles:
    (tmp_path / "tmp").mkdir()
    return ChunkFiles(str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_what_was_stored_is_read(files: ChunkFiles, tmp_path: Path, kind: str, size: int) -> None:
    data = KINDS[kind](size)
    chunk = store(files, data)
    assert files.exists(chunk)
    assert files.read(chunk) == data
    assert files.read(chunk, from_disk=True) == data
    assert files.verify_stored(chunk, files.read_stored(chunk)) == data
    assert file_of(tmp_path, chunk).stat().st_size == chunk.stored_size
    assert file_of(tmp_path, chunk).stat().st_mode & 0o777 == 0o600
    assert file_of(tmp_path, chunk).parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "tmp") == []


def test_without_durability_it_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    files = ChunkFiles(str(tmp_path), durable=False)
    assert files.read(store(files, noise(1000))) == noise(1000)


def test_storing_again_overwrites(files: ChunkFiles, tmp_path: Path) -> None:
    chunk = store(files, text(5000))
    file_of(tmp_path, chunk).write_bytes(b"an orphan that a crash or a bad disk has left")
    assert not files.exists(chunk)
    assert store(files, text(5000)) == chunk
    assert files.read(chunk) == text(5000)


def test_a_chunk_has_one_file_for_each_form(files: ChunkFiles) -> None:
    compressed, raw = store(files, text(5000)), store(files, text(5000), Codec.RAW)
    assert compressed.name == raw.name
    assert files.read(compressed) == files.read(raw) == text(5000)
    files.remove(compressed)
    assert not files.exists(compressed)
    assert files.exists(raw)
    store(files, text(5000))
    files.remove(raw)
    assert not files.exists(raw)


def test_removing_what_is_not_there_is_fine(files: ChunkFiles) -> None:
    chunk = describe(b"a", Codec.RAW, b"a")
    files.remove(chunk)
    assert not files.quarantine(chunk)


def test_a_directory_that_somebody_tidied_away_is_made_again(files: ChunkFiles, tmp_path: Path) -> None:
    chunk = store(files, noise(1000))
    shutil.rmtree(tmp_path / "chunks")
    assert not files.exists(chunk)
    assert store(files, noise(1000)) == chunk
    assert files.read(chunk) == noise(1000)


def test_only_the_right_form_and_size_exist(files: ChunkFiles) -> None:
    chunk = store(files, noise(1000))
    assert not files.exists(replace(chunk, stored_size=999))
    assert not files.exists(replace(chunk, codec=Codec.ZSTD))
    assert not files.exists(replace(chunk, name=bytes(32)))


def test_a_link_of_the_right_size_does_not_exist(files: ChunkFiles, tmp_path: Path) -> None:
    chunk = store(files, noise(20))
    file_of(tmp_path, chunk).unlink()
    file_of(tmp_path, chunk).symlink_to("x" * 20)
    assert not files.exists(chunk)


def test_sound_files_are_found_in_any_form(files: ChunkFiles, tmp_path: Path) -> None:
    chunk = store(files, text(5000))
    assert files.find_sound(chunk.name) == chunk
    raw = store(files, text(5000), Codec.RAW)
    file_of(tmp_path, chunk).write_bytes(b"damaged")
    assert files.find_sound(chunk.name) == raw
    file_of(tmp_path, raw).write_bytes(b"damaged too")
    assert files.find_sound(chunk.name) is None
    file_of(tmp_path, raw).unlink()
    file_of(tmp_path, raw).mkdir()
    assert files.find_sound(chunk.name) is None


def test_a_sound_file_of_another_size_than_was_known_is_not_set_aside(files: ChunkFiles) -> None:
    """Somebody with another compressor has stored it again; it may be the only one there is."""
    known = store(files, text(50_000))
    better = bytes(Compressor(19).encode(text(50_000))[1])
    assert len(better) < known.stored_size
    files.write(known.name, Codec.ZSTD, better)
    with pytest.raises(ChunkDamaged, match="not"):
        files.read(known)
    assert not files.quarantine(known)
    assert files.find_sound(known.name) == replace(known, stored_size=len(better))


def test_what_is_too_large_for_a_chunk_is_not_looked_at(files: ChunkFiles, tmp_path: Path) -> None:
    """Nor decompressed: memory is bounded by what a chunk may have."""
    data = bytes((16 << 20) + 1)
    for codec, stored in ((Codec.RAW, data), (Codec.ZSTD, Compressor().encode(data)[1])):
        chunk = describe(data, codec, stored)
        files.write(chunk.name, codec, stored)
        assert files.find_sound(chunk.name) is None
        files.remove(chunk)


def test_threads_store_and_sync_at_once(files: ChunkFiles) -> None:
    contents = [noise(3000, seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        chunks = list(pool.map(lambda data: store(files, data), contents * 2))
    assert [files.read(chunk) for chunk in chunks] == contents * 2
    assert {found.name for found in files.walk()} == {chunk.name for chunk in chunks}
    assert not list(files._unsynced)


# What is in the place of a file


def put_nothing(path: Path) -> None:
    path.unlink()


def put_a_link(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def put_a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def put_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_full_directory(path: Path) -> None:
    path.unlink()
    (path / "with").mkdir(parents=True)


def put_a_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{directory}/{path.name[:20]}")
        finally:
            os.close(directory)
    path.with_name(path.name[:20]).rename(path)


def put_other_bytes(path: Path) -> None:
    path.write_bytes(noise(path.stat().st_size, seed=99))


def put_nothing_in_it(path: Path) -> None:
    path.write_bytes(b"")


def put_more_in_it(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def put_less_in_it(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def put_a_file_for_the_directory(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


REPLACEMENTS: list[Callable[[Path], None]] = [
    put_nothing,
    put_a_link,
    put_a_link_to_nowhere,
    put_a_fifo,
    put_a_directory,
    put_a_full_directory,
    put_a_socket,
    put_other_bytes,
    put_nothing_in_it,
    put_more_in_it,
    put_less_in_it,
    put_a_file_for_the_directory,
]
STAYS_AWAY = (put_nothing, put_a_file_for_the_directory)  # nothing to put into quarantine


@pytest.mark.parametrize("data", [noise(3000), text(3000)], ids=["raw", "zstd"])
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_only_a_regular_file_of_the_right_bytes_is_a_chunk(
    files: ChunkFiles, tmp_path: Path, replacement: Callable[[Path], None], data: bytes
) -> None:
    chunk = store(files, data)
    replacement(file_of(tmp_path, chunk))
    with pytest.raises(ChunkDamaged) as damage:
        files.read(chunk)
    assert damage.value.name == chunk.name
    assert files.exists(chunk) == (replacement is put_other_bytes)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_what_is_damaged_is_moved_away_and_can_be_stored_again(
    files: ChunkFiles, tmp_path: Path, replacement: Callable[[Path], None]
) -> None:
    chunk = store(files, noise(3000))
    path = file_of(tmp_path, chunk)
    replacement(path)
    assert files.quarantine(chunk) == (replacement not in STAYS_AWAY)
    assert not os.path.lexists(path)
    if replacement is put_a_file_for_the_directory:
        path.parent.unlink()
    else:
        assert files.quarantine(chunk) is False
    if replacement not in STAYS_AWAY:
        (kept,) = os.listdir(tmp_path / "quarantine")
        assert kept.startswith(f"{chunk.name.hex()}.")
    assert store(files, noise(3000)) == chunk
    assert files.read(chunk) == noise(3000)


def test_a_sound_chunk_stays_out_of_quarantine(files: ChunkFiles, tmp_path: Path) -> None:
    chunk = store(files, noise(3000))
    assert not files.quarantine(chunk)
    assert not (tmp_path / "quarantine").exists()
    assert files.read(chunk) == noise(3000)


def test_a_chunk_that_is_stored_again_meanwhile_comes_back(
    files: ChunkFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = store(files, noise(3000))
    path = file_of(tmp_path, chunk)
    path.write_bytes(noise(3000, seed=1))
    rename = os.rename

    def heal_first(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        store(files, noise(3000))
        rename(source, target)

    monkeypatch.setattr(os, "rename", heal_first)
    assert not files.quarantine(chunk)
    assert files.read(chunk) == noise(3000)


def test_quarantine_keeps_every_file(files: ChunkFiles, tmp_path: Path) -> None:
    for seed in (1, 2):
        chunk = store(files, noise(3000))
        file_of(tmp_path, chunk).write_bytes(noise(3000, seed))
        assert files.quarantine(chunk)
    assert {path.read_bytes() for path in (tmp_path / "quarantine").iterdir()} == {noise(3000, 1), noise(3000, 2)}


def test_a_chunk_of_another_size_in_the_index_is_damaged(files: ChunkFiles) -> None:
    for data in (noise(3000), text(3000)):
        chunk = store(files, data)
        with pytest.raises(ChunkDamaged):
            files.read(replace(chunk, size=2999))
        with pytest.raises(ChunkDamaged):
            files.read(replace(chunk, size=3001))


# Everything that is there


def test_all_files_are_found(files: ChunkFiles, tmp_path: Path) -> None:
    assert files.is_empty()
    assert list(files.walk()) == []
    chunks = [store(files, kind(1000 + seed, seed)) for seed in range(300) for kind in (noise, text)]
    found = {(each.name, each.codec, each.size): each for each in files.walk()}
    assert found.keys() == {(chunk.name, chunk.codec, chunk.stored_size) for chunk in chunks}
    one = found[chunks[0].name, chunks[0].codec, chunks[0].stored_size]
    assert one.modified == file_of(tmp_path, chunks[0]).stat().st_mtime
    assert not files.is_empty()


def test_the_order_is_that_of_directories(files: ChunkFiles) -> None:
    for seed in range(300):
        store(files, noise(10, seed))
    firsts = [found.name[0] for found in files.walk()]
    assert firsts == sorted(firsts)


def test_what_is_not_ours_is_passed_over(files: ChunkFiles, tmp_path: Path) -> None:
    chunk = store(files, noise(1000))
    chunks = tmp_path / "chunks"
    directory = file_of(tmp_path, chunk).parent
    name = chunk.name.hex()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ("00" + name[2:])).write_bytes(b"")
    other = directory.name[:2] + "0" * 62
    for path in (
        chunks / name,  # not in its directory
        chunks / "README",
        directory / "README",
        directory / (name + ".tmp"),
        directory / name.upper(),
        directory / ("f" * 64 if name[0] != "f" else "e" * 64),  # in another's directory
        directory / "\udcff\n.zst",
    ):
        path.write_bytes(b"")
    os.mkfifo(directory / other)
    (directory / (other + ".zst")).mkdir()
    (directory / (directory.name + "1" * 62)).symlink_to(file_of(tmp_path, chunk))
    free = next(each for each in ("00", "01") if each != directory.name)
    (chunks / free).symlink_to(elsewhere)
    (chunks / "AB").mkdir()
    (chunks / "abc").mkdir()
    assert [found.name for found in files.walk()] == [chunk.name]


def test_a_file_for_the_directory_of_chunks_is_no_chunk(files: ChunkFiles, tmp_path: Path) -> None:
    (tmp_path / "chunks").write_bytes(b"")
    assert list(files.walk()) == []
    assert files.is_empty()
    with pytest.raises(StorageFailure):
        store(files, noise(1000))
    assert os.listdir(tmp_path / "tmp") == []


def test_old_temporary_files_are_tidied_away(files: ChunkFiles, tmp_path: Path) -> None:
    for name, modified in (("old", 1000), ("new", 3000)):
        (tmp_path / "tmp" / name).write_bytes(b"")
        os.utime(tmp_path / "tmp" / name, (modified, modified))
    (tmp_path / "tmp" / "directory").mkdir()
    os.utime(tmp_path / "tmp" / "directory", (1000, 1000))
    (tmp_path / "tmp" / "link").symlink_to("new")
    assert files.tidy(2000) == 1
    assert set(os.listdir(tmp_path / "tmp")) == {"new", "directory", "link"}
    shutil.rmtree(tmp_path / "tmp")
    assert files.tidy(2000) == 0


@pytest.mark.parametrize("name", [b"", b"../../../etc/passwd", b"\0" * 31, b"/" * 33])
def test_no_path_is_made_of_anything_but_a_name(files: ChunkFiles, name: bytes) -> None:
    chunk = StoredChunk(name, 1, 1, Codec.RAW)
    for act in (files.exists, files.read, files.remove, files.quarantine):
        with pytest.raises(ValueError, match="32 bytes"):
            act(chunk)
    with pytest.raises(ValueError, match="32 bytes"):
        files.write(name, Codec.RAW, b"x")
