"""Group commit: concurrent callers share the work of making files durable.

Each fsync of a new file costs the file system a journal commit and the disk a cache flush. Both are for everybody who waits
at that moment, so the trick is to have many wait at once: while few do, a few threads instead of one, write-out of a whole
queue begun before the first of them waits, and a path asked for by many (the upload directory) synced once. Once many wait
and little else is dirty, the file system is synced as a whole, for all of them (`tusd_py.fs.whole`). What the server gains
by it is in docs/explanation/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from tusd_py.fs.errors import translate
from tusd_py.fs.whole import FileSystems, dirty_bytes

__all__ = ["DEFAULT_THREADS", "GroupSync"]

DEFAULT_THREADS = 8
"""Measured with 64 new files of 4 KiB and their directory, on ext4 and a virtual disk, 2 cores (medians, ms):

                                          idle disk   busy disk
    one fsync after the other, inline            11         325
    one after the other, each in a thread        15
    here, 1 thread                                7          42
    here, 4 threads                             4.2          23
    here, 8 threads                             4.2          24
    here, 16 threads                            7.5          12

The slower the flush, the more there is to share: with an idle virtual disk it is nearly free, and most of the rest is CPU.
"""

TOGETHER = 6
"""So many waiting files and directories are synced with their whole file system: three uploads' worth."""

LITTLE = 64 * 1024 * 1024
"""Dirty bytes in the machine up to which syncing a whole file system keeps nobody waiting for what is not theirs."""

GATHER = 0.0005
"""Seconds to let the next ones come together, after many have been served at once: those just answered ask again soon."""

_BEGIN_AT_MOST = 128 * 1024
"""How much of a queued file to begin writing out ahead of its turn: all of a small one. A large one would block the queue."""

_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What file systems answer that can't sync a directory (some network and FUSE mounts). Nothing else is forgiven."""

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class _Item:
    """One thing to sync, and who waits for it."""

    __slots__ = ("apart", "begun", "fd", "path", "waiters")

    def __init__(self, fd: int, path: str | None) -> None:
        self.fd, self.path = fd, path
        self.begun = self.apart = False
        self.waiters: list[_Waiter] = []


class GroupSync:
    """Syncs files and directories. May be called from any number of tasks; does not belong to an event loop.

    `fsync` is for tests that count or fail.
    """

    def __init__(self, threads: int = DEFAULT_THREADS, fsync: Callable[[int], None] = os.fsync) -> None:
        self._threads, self._fsync = threads, fsync
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tusd-sync")
        self._lock = Lock()  # guards what follows; held for a few instructions at a time
        self._queue: deque[_Item] = deque()
        self._queued_paths: dict[str, _Item] = {}
        self._workers = 0
        self._together = False  # one worker serves all
        self._file_systems = FileSystems()

    def __repr__(self) -> str:
        return f"<GroupSync {len(self._queue)} queued, {self._workers}/{self._threads} threads busy>"

    async def sync(self, *targets: int | str) -> None:
        """Return once all `targets`, open descriptors or paths of files or directories, would survive a power cut.

        A descriptor may be closed at once. Raises the `StorageFailure` of the first that could not be synced.
        """
        loop = asyncio.get_running_loop()
        if len(targets) == 1:
            return await self._submit(targets[0], loop)
        waiting = [self._submit(target, loop) for target in targets]
        for done in await asyncio.gather(*waiting, return_exceptions=True):
            if done is not None:
                raise done
        return None

    def close(self) -> None:
        """Let the threads go once they have done what was asked of them."""
        self._pool.shutdown(wait=False)

    def _submit(self, target: int | str, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        done = loop.create_future()
        try:
            item = _Item(os.dup(target), None) if isinstance(target, int) else _Item(-1, target)
        except OSError as error:
            done.set_exception(translate(error, "syncing a file"))
            return done
        with self._lock:
            # An item that is still queued covers all that was written before this call. One that is being synced may not.
            if item.path is not None:
                item = self._queued_paths.setdefault(item.path, item)
            item.waiters.append((loop, done))
            if len(item.waiters) == 1:
                self._queue.append(item)
                if not self._together:
                    self._hire()
        return done

    def _hire(self) -> None:
        """One more worker, if there may be one: all of them are busy, since an idle one goes. Under the lock."""
        if self._workers < self._threads:
            self._pool.submit(self._work)
            self._workers += 1

    def _work(self) -> None:
        """Sync what is queued until nothing is; in a thread of the pool."""
        while True:
            with self._lock:
                if not self._queue:
                    self._workers -= 1
                    return
                many = self._take_many()
                if not many:
                    item = self._queue.popleft()
                    if item.path is not None:
                        self._queued_paths.pop(item.path, None)
                    others = [other for other in self._queue if not other.begun and other.fd >= 0]
                    for other in others:
                        other.begun = True
            if many:
                self._serve_together(many)
            else:
                _begin_writing(others)
                self._finish(item)

    def _take_many(self) -> list[_Item]:
        """All that are queued, if they are many and nobody has found yet that they have to be served apart. Under the lock."""
        if len(self._queue) < TOGETHER or self._together or self._queue[0].apart or self._fsync is not os.fsync:
            return []
        self._together = True
        items = list(self._queue)
        self._queue.clear()
        self._queued_paths.clear()
        return items

    def _serve_together(self, items: list[_Item]) -> None:
        """Sync for all of `items` at once, and go on so while many come."""
        while items:
            if not self._sync_whole(items):
                self._put_back(items)
                return
            _tell_all(items)
            time.sleep(GATHER)
            with self._lock:
                self._together = False
                items = self._take_many()
        with self._lock:
            for _ in range(len(self._queue) - 1):
                self._hire()

    def _put_back(self, items: list[_Item]) -> None:
        """They are to be synced one by one: each learns what becomes of its own, and none waits for strangers' bytes."""
        with self._lock:
            self._together = False
            for item in reversed(items):
                item.apart = True
                self._queue.appendleft(item)
            for _ in range(len(self._queue) - 1):
                self._hire()

    def _sync_whole(self, items: list[_Item]) -> bool:
        """Sync all file systems that `items` are on, if that is as good and not too much; whether it was and worked."""
        try:
            devices = {os.fstat(item.fd).st_dev if item.path is None else os.stat(item.path).st_dev for item in items}
            directories = [item.path for item in items if item.path is not None]
            if not self._file_systems.trust(directories, devices) or dirty_bytes() > LITTLE:
                return False
            synced = self._file_systems.sync(devices)
        except OSError:  # a path is gone: its own sync will say so
            return False
        if synced:
            for item in items:
                if item.fd >= 0:
                    os.close(item.fd)
        return synced

    def _finish(self, item: _Item) -> None:
        error: OSError | None = None
        try:
            self._sync_item(item)
        except OSError as failed:
            error = failed
        for loop, done in item.waiters:
            try:
                loop.call_soon_threadsafe(_settle, done, error, item.path)
            except RuntimeError:  # that loop is closed: nobody waits any more
                continue

    def _sync_item(self, item: _Item) -> None:
        fd = item.fd if item.path is None else os.open(item.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._fsync(fd)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_SYNC or not stat.S_ISDIR(os.fstat(fd).st_mode):
                raise
        finally:
            os.close(fd)


def _tell_all(items: list[_Item]) -> None:
    """Tell all who wait that it worked; one call for each event loop, since waking it costs more than all the rest."""
    waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for item in items:
        for loop, done in item.waiters:
            waiting.setdefault(loop, []).append(done)
    for loop, all_done in waiting.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, all_done)


def _settle_all(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        _settle(done, None, None)


def _settle(done: asyncio.Future[None], error: OSError | None, path: str | None) -> None:
    if done.done():  # cancelled
        return
    if error is None:
        done.set_result(None)
    else:
        failure = translate(error, f"syncing {path or 'a file'}")  # one for each waiter: exceptions collect tracebacks
        failure.__cause__ = error
        done.set_exception(failure)


def _begin_writing(items: list[_Item]) -> None:
    """Start write-out of files whose turn will come, so that one journal commit covers them all.

    `POSIX_FADV_DONTNEED` starts it without waiting (`sync_file_range` is not in the standard library); pages under write-out
    stay cached. It is advice: what fails here will fail again, and be reported, in the sync itself.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for item in items:
        try:
            os.posix_fadvise(item.fd, 0, _BEGIN_AT_MOST, os.POSIX_FADV_DONTNEED)
        except OSError:
            continue
