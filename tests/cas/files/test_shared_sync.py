"""Who shares whose sync of a directory, and its failure."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tusd_py_cas.chunk_files import shared_sync
from tusd_py_cas.chunk_files.shared_sync import SharedSync

from tests.support.waiting import until


class Disk:
    """Syncs when it is told to, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.may_go_on = threading.Semaphore(0)
        self.errors: dict[int, OSError] = {}
        monkeypatch.setattr(shared_sync, "sync_directory", self.sync)

    def sync(self, path: str) -> None:
        self.begun += 1
        number = self.begun
        self.may_go_on.acquire()
        if number in self.errors:
            raise self.errors[number]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def ask(pool: ThreadPoolExecutor, sync: SharedSync, count: int) -> list[Future[None]]:
    """So many threads that have asked for the directory and wait."""
    asking = threading.Barrier(count + 1)

    def one() -> None:
        asking.wait()
        sync.sync("/directory")

    futures = [pool.submit(one) for _ in range(count)]
    asking.wait()
    return futures


def test_those_who_come_while_it_is_being_synced_share_the_next_time(disk: Disk) -> None:
    sync = SharedSync()
    with ThreadPoolExecutor(8) as pool:
        first = ask(pool, sync, 1)
        until(lambda: disk.begun == 1)
        others = ask(pool, sync, 7)
        directory = sync._directories["/directory"]
        until(lambda: directory.waiting == 7, what="all have said what they want")
        disk.may_go_on.release(8)
        for future in first + others:
            future.result(10)
    assert disk.begun == 2


def test_who_comes_later_does_not_share_what_began_before(disk: Disk) -> None:
    sync = SharedSync()
    disk.may_go_on.release(3)
    for count in (1, 2, 3):
        sync.sync("/directory")
        assert disk.begun == count


def test_a_failure_is_one_for_all_who_share_it(disk: Disk) -> None:
    sync = SharedSync()
    disk.errors[2] = OSError(errno.EIO, "the disk is gone")
    with ThreadPoolExecutor(4) as pool:
        first = ask(pool, sync, 1)
        until(lambda: disk.begun == 1)
        others = ask(pool, sync, 3)
        until(lambda: sync._directories["/directory"].waiting == 3)
        disk.may_go_on.release(4)
        first[0].result(10)
        for future in others:
            with pytest.raises(OSError, match="the disk is gone"):
                future.result(10)
    assert disk.begun == 2
    disk.may_go_on.release()
    sync.sync("/directory")
    assert disk.begun == 3


def test_directories_do_not_wait_for_each_other(disk: Disk) -> None:
    sync = SharedSync()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(sync.sync, path) for path in ("/one", "/other")]
        until(lambda: disk.begun == 2)
        disk.may_go_on.release(2)
        for future in futures:
            future.result(10)
