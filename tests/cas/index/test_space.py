"""A disk that is full: nothing has changed, and once there is space everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tusd_py_cas.model import StoredChunk
from tusd_py_cas.sqlite_index import SqliteIndex

from tests.cas.index.support import (
    Files,
    add_content,
    chunk,
    chunks,
    collect,
    content,
    numbers_of,
    open_index,
    store,
    version,
)
from tests.cas.index.worker import FOREVER
from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        yield disk


def fill(disk: Path) -> Path:
    """Take the rest of the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return ballast


def many(start: int) -> list[StoredChunk]:
    return chunks(*range(start, start + 500))


def test_every_kind_of_change_on_a_full_disk(disk: Path) -> None:
    index = open_index(disk / "index.db", durable=True)
    kept = content(index, *range(20))
    composed = index.compose([kept, content(index, 30)])
    version(index, "a", kept)
    before = (list(index.all_chunks()), list(index.versions()))
    ballast = fill(disk)
    changes = [
        lambda: store(index, many(1000)),
        lambda: [add_content(index, list(range(20)) * 40) for _ in range(20)],
        lambda: [version(index, f"{n}", kept) for n in range(2000)],
    ]
    for change in changes:
        for _ in range(3):
            with pytest.raises(OutOfSpace):
                change()
    assert numbers_of(index.pieces(kept)) == list(range(20)), "what is there can be read"
    ballast.unlink()
    assert list(index.check()) == []
    assert [each for each in index.all_chunks() if each in before[0]] == before[0]
    assert index.find_version("a") in before[1]
    store(index, many(1000))
    index.set_digests(composed, blake3=bytes(32), sha256=bytes(32))
    index.close()


def test_collecting_on_a_full_disk_does_as_much_as_there_is_space_for(disk: Path) -> None:
    index = open_index(disk / "index.db")
    files = Files()
    files.write(many(0))
    content(index, *range(500))
    ballast = fill(disk)
    for _ in range(3):
        with pytest.raises(OutOfSpace):
            for _ in range(100):
                collect(index, files, FOREVER)
                store(index, many(0))
    assert list(index.check()) == []
    ballast.unlink()
    collect(index, files, FOREVER)
    assert (list(index.all_chunks()), files.present) == ([], set())
    index.close()


def test_making_one_on_a_full_disk(disk: Path) -> None:
    ballast = fill(disk)
    for _ in range(2):
        with pytest.raises(OutOfSpace):
            open_index(disk / "index.db")
    ballast.unlink()
    index = open_index(disk / "index.db")
    store(index, chunks(1))
    index.close()


def test_a_disk_that_becomes_read_only(disk: Path) -> None:
    index = open_index(disk / "index.db")
    store(index, chunks(1))
    index.close()
    remount(disk, "ro")
    with pytest.raises(ReadOnlyStorage, match="opening the index"):
        open_index(disk / "index.db", create=False)
    remount(disk, "rw")
    index = open_index(disk / "index.db", create=False)
    assert index.find_chunks([chunk(1).name])
    index.close()


def test_an_index_in_use_whose_disk_has_no_more_files(disk: Path, index: SqliteIndex) -> None:
    """The files beside the database are there as long as it is open."""
    remount(disk, "nr_inodes=5")
    one = open_index(disk / "index.db")
    (disk / "last").touch()
    with pytest.raises(OSError, match="No space left"):
        (disk / "one more").touch()
    store(one, many(0))
    one.close()
