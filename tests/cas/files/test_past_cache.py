"""What is written past the page cache is what was to be written, also where that is not possible."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import LifoQueue

import pytest
from tusd_py_cas import past_cache
from tusd_py_cas.layout import write_temporary
from tusd_py_cas.past_cache import write_past_cache

from tests.support.mounts import LoopDisk, mounted_tmpfs, requires_mounts

PIECE = past_cache._PIECE
DATA = random.Random(1).randbytes(3 * PIECE)
SIZES = [1, 511, 4096, 4097, 128 << 10, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 4095, 3 * PIECE]

Write = Callable[[int, memoryview, int], int]


def check(path: Path, data: bytes | memoryview) -> None:
    write_temporary(str(path), data, durable=True)
    assert path.read_bytes() == data
    path.unlink()


@pytest.mark.parametrize("size", SIZES)
def test_all_sizes(tmp_path: Path, size: int) -> None:
    for start in (0, 1, 4095):
        check(tmp_path / "file", memoryview(DATA)[start : start + size])


def test_the_position_is_behind_what_was_written(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert write_past_cache(fd, DATA[:-5]) == os.lseek(fd, 0, os.SEEK_CUR) == len(DATA) - 5
        assert os.pread(fd, len(DATA), 0) == DATA[:-5]
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_other_file_systems(kind: str) -> None:
    requires_mounts(kind)
    with LoopDisk(kind) as disk:
        for size in SIZES:
            check(disk.path / "file", DATA[:size])


def test_in_memory(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=16m") as mount:
        check(mount / "file", DATA[:-1])


def test_no_space(tmp_path: Path) -> None:
    requires_mounts()
    with LoopDisk("ext4") as disk:
        full = disk.path / "full"
        with pytest.raises(OSError, match="No space"), full.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(8 << 20))
        path = disk.path / "file"
        with pytest.raises(OSError, match="No space"):
            write_temporary(str(path), DATA, durable=True)
        assert not path.exists()
        full.unlink()
        check(path, DATA)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_a_file_system_that_does_not_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int, error: int) -> None:
    """Some refuse each write only when it comes."""
    taken = 0

    def refuse(fd: int, piece: memoryview, position: int) -> int:
        nonlocal taken
        if taken == pieces:
            raise OSError(error, os.strerror(error))
        taken += 1
        return write(fd, piece, position)

    write: Write = past_cache._write_piece
    monkeypatch.setattr(past_cache, "_write_piece", refuse)
    check(tmp_path / "file", DATA[:-7])


@pytest.mark.parametrize("count", [0, 4096, 5000])
def test_writes_that_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(past_cache, "_write_piece", lambda fd, piece, at: count and os.pwrite(fd, piece[:count], at))
    monkeypatch.setattr(past_cache.fcntl, "fcntl", lambda *arguments: 0)
    check(tmp_path / "file", DATA[: 1 << 20])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child does nothing that threads could be in the way of
def test_a_fork_has_memory_of_its_own(tmp_path: Path) -> None:
    """Or both would write what either has put there."""
    check(tmp_path / "file", DATA)
    buffer = past_cache._free.queue[-1]
    assert buffer is not None
    before = bytes(buffer)
    if (child := os.fork()) == 0:
        buffer[:4] = b"fork"
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert buffer == before


def test_buffers_are_given_back_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(past_cache, "_free", free := LifoQueue[memoryview | None]())
    free.put(None)
    for name in ("os.pwrite", "_new"):
        with monkeypatch.context() as patched:
            patched.setattr(f"tusd_py_cas.past_cache.{name}", fail)
            with pytest.raises(OSError, match="Input/output error"):
                write_temporary(str(tmp_path / "file"), DATA, durable=True)
            free.put(free.get(timeout=1) and None)
    check(tmp_path / "file", DATA)


def test_more_threads_than_buffers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3 * past_cache._BUFFERS) as pool:
        list(pool.map(lambda n: check(tmp_path / f"{n}", DATA[n : n + (1 << 20)]), range(6 * past_cache._BUFFERS)))
