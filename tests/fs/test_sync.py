"""Group commit: work is shared, failures are not, and nobody is told before his bytes are safe."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Event, Lock

import pytest

from tusd_py.fs.sync import GroupSync
from tusd_py.ports.failures import OutOfSpace, StorageFailure


class Disk:
    """An fsync that counts, by path; that waits while `open` is not set; and that fails where told to."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.open = Event()
        self.open.set()
        self.failing: dict[str, int] = {}
        self._lock = Lock()

    def fsync(self, fd: int) -> None:
        self.open.wait(30)
        path = os.path.realpath(f"/proc/self/fd/{fd}")
        with self._lock:
            self.synced.append(path)
        if path in self.failing:
            raise OSError(self.failing[path], os.strerror(self.failing[path]))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def one_thread(disk: Disk) -> Iterator[GroupSync]:
    group = GroupSync(1, disk.fsync)
    yield group
    disk.open.set()
    group.close()


async def begin(group: GroupSync, *targets: int | str) -> asyncio.Task[None]:
    task = asyncio.create_task(group.sync(*targets))
    await asyncio.sleep(0)
    return task


def make(tmp_path: Path, *names: str) -> list[str]:
    for name in names:
        (tmp_path / name).write_bytes(b"bytes")
    return [str(tmp_path / name) for name in names]


async def test_a_directory_is_synced_once_for_all_who_wait(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    paths = make(tmp_path, *(f"file{number}" for number in range(20)))
    disk.open.clear()
    tasks = [await begin(one_thread, path, str(tmp_path)) for path in paths]
    disk.open.set()
    await asyncio.gather(*tasks)
    assert disk.synced.count(str(tmp_path)) == 1
    assert sorted(disk.synced) == sorted([*paths, str(tmp_path)])


async def test_who_comes_during_a_sync_gets_another(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    """What is being synced may have been read from the file before the newcomer wrote to it."""
    disk.open.clear()
    first = await begin(one_thread, str(tmp_path))
    while repr(one_thread) != "<GroupSync 0 queued, 1/1 threads busy>":  # noqa: ASYNC110 - what it waits for is in a thread
        await asyncio.sleep(0)
    others = [await begin(one_thread, str(tmp_path)) for _ in range(5)]
    disk.open.set()
    await asyncio.gather(first, *others)
    assert disk.synced == [str(tmp_path)] * 2


async def test_nobody_is_told_too_early(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    (path,) = make(tmp_path, "file")
    disk.open.clear()
    task = await begin(one_thread, path, str(tmp_path))
    await asyncio.sleep(0.01)
    assert not task.done()
    disk.open.set()
    await task


async def test_each_gets_its_own_failure(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    good, bad, full = make(tmp_path, "good", "bad", "full")
    disk.failing = {bad: errno.EIO, full: errno.ENOSPC}
    results = await asyncio.gather(*(one_thread.sync(path) for path in (good, bad, full)), return_exceptions=True)
    assert results[0] is None
    assert type(results[1]) is StorageFailure
    assert isinstance(results[1].__cause__, OSError)
    assert type(results[2]) is OutOfSpace


async def test_one_failure_among_several_targets_is_a_failure(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    good, bad = make(tmp_path, "good", "bad")
    disk.failing = {bad: errno.EIO}
    with pytest.raises(StorageFailure, match="bad"):
        await one_thread.sync(good, bad)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
async def test_file_systems_without_it_are_forgiven(tmp_path: Path, disk: Disk, one_thread: GroupSync, number: int) -> None:
    (path,) = make(tmp_path, "file")
    disk.failing = {str(tmp_path): number, path: number}
    await one_thread.sync(str(tmp_path))
    with pytest.raises(StorageFailure):
        await one_thread.sync(path)
    disk.failing = {str(tmp_path): errno.EIO}
    with pytest.raises(StorageFailure):
        await one_thread.sync(str(tmp_path))


async def test_a_descriptor_may_be_closed_at_once(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    (path,) = make(tmp_path, "file")
    disk.open.clear()
    fd = os.open(path, os.O_RDWR)
    task = await begin(one_thread, fd)
    os.close(fd)
    disk.open.set()
    await task
    assert disk.synced == [path]


async def test_a_cancelled_waiter_disturbs_nobody(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    disk.open.clear()
    impatient, patient = await begin(one_thread, str(tmp_path)), await begin(one_thread, str(tmp_path))
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    disk.open.set()
    await patient
    assert set(disk.synced) == {str(tmp_path)}


async def test_descriptors_do_not_leak(tmp_path: Path, disk: Disk, one_thread: GroupSync) -> None:
    (path,) = make(tmp_path, "file")
    fd = os.open(path, os.O_RDWR)
    before = len(os.listdir("/proc/self/fd"))
    disk.failing = {path: errno.EIO}
    for _ in range(5):
        with pytest.raises(StorageFailure):
            await one_thread.sync(fd, path)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(fd)


async def test_what_is_not_there_is_a_failure(tmp_path: Path, one_thread: GroupSync) -> None:
    with pytest.raises(StorageFailure):
        await one_thread.sync(str(tmp_path / "missing"))
    with pytest.raises(StorageFailure):
        await one_thread.sync(10**6)


async def test_nothing_to_sync_is_done(one_thread: GroupSync) -> None:
    await one_thread.sync()


async def test_threads_work_at_once(tmp_path: Path) -> None:
    """All four must be inside fsync together, or none gets out."""
    barrier = Barrier(4, timeout=30)
    group = GroupSync(4, lambda fd: barrier.wait() and None)
    await asyncio.gather(*map(group.sync, make(tmp_path, "a", "b", "c", "d")))
    group.close()


async def test_for_real(tmp_path: Path) -> None:
    group = GroupSync()
    fds = [os.open(path, os.O_RDWR) for path in make(tmp_path, *(f"file{number}" for number in range(64)))]
    await asyncio.gather(*(group.sync(fd, str(tmp_path)) for fd in fds))
    group.close()
    for fd in fds:
        os.close(fd)
