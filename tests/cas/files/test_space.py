"""A file system that is full, at every step of storing chunks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.description import create_description, new_parameters, read_description
from tusd_py_cas.layout import Layout, make_directory
from tusd_py_cas.model import Codec, StoredChunk

from tests.cas.files.contents import describe, noise, store
from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage

pytestmark = pytest.mark.root


@pytest.mark.parametrize("size", [100, 4096, 70_000, 300_000])
def test_a_full_disk_refuses_chunks_and_keeps_what_it_has(tmp_path: Path, size: int) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        (disk / "tmp").mkdir()
        files = ChunkFiles(str(disk))
        chunks: list[StoredChunk] = []
        with pytest.raises(OutOfSpace, match="storing the chunk"):
            while True:
                chunks.append(store(files, noise(size, len(chunks))))
        assert os.listdir(disk / "tmp") == []
        assert [files.read(chunk) for chunk in chunks] == [noise(size, seed) for seed in range(len(chunks))]
        assert {found.name for found in files.walk()} == {chunk.name for chunk in chunks}
        remount(disk, "size=2m")
        assert files.read(store(files, noise(size, len(chunks)))) == noise(size, len(chunks))


@pytest.mark.parametrize("left", range(4))
def test_no_step_without_a_file_to_spare(tmp_path: Path, left: int) -> None:
    """What a chunk needs is three: its file, its directory, and the directory of that."""
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", f"size=1m,nr_inodes={2 + left}") as disk:
        (disk / "tmp").mkdir()
        files = ChunkFiles(str(disk))
        chunk = describe(noise(100), Codec.RAW, noise(100))
        if left == 3:
            assert files.read(store(files, noise(100))) == noise(100)
            return
        with pytest.raises(OutOfSpace):
            store(files, noise(100))
        assert not files.exists(chunk)
        assert os.listdir(disk / "tmp") == []
        remount(disk, "nr_inodes=100")
        assert files.read(store(files, noise(100))) == noise(100)


def test_a_description_is_whole_or_not_there(tmp_path: Path) -> None:
    requires_mounts()
    outcomes = []
    for inodes in range(2, 6):
        with mounted_tmpfs(tmp_path / "disk", f"size=64k,nr_inodes={inodes}") as disk:
            layout = Layout(str(disk))
            try:
                make_directory(layout.temporary, durable=True)
                made = create_description(layout, new_parameters(), durable=True)
            except (OutOfSpace, OSError) as failure:
                outcomes.append(type(failure))
                assert read_description(layout) is None
            else:
                outcomes.append(type(made))
                assert read_description(layout) == made
    assert len(set(outcomes)) > 1, "some should have had space enough"


def test_a_disk_that_may_not_be_written_can_be_read(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        (disk / "tmp").mkdir()
        files = ChunkFiles(str(disk))
        chunk = store(files, noise(1000))
        remount(disk, "ro")
        for write in (lambda: store(files, noise(1000, 1)), lambda: files.remove(chunk)):
            with pytest.raises(ReadOnlyStorage):
                write()
        assert files.read(chunk) == noise(1000)
        assert not files.quarantine(chunk)
