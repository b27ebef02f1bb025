"""Files on their way to somewhere else: under `.tusd-py/tmp` until they are published or discarded.

A crash leaves them behind, and `remove_abandoned` finds those. It must not take one that another living process is still
writing, however slowly, so neither name, age nor size will do. A file that may live long is *held*: its writer keeps a lock
(flock) on it, which the kernel drops with the process. Short-lived ones (a record being replaced) save that system call;
they are protected by their youth.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from tusd_py.ports.failures import StorageFailure

__all__ = ["ABANDONED_AFTER", "TemporaryFile", "remove_abandoned", "write_all"]

ABANDONED_AFTER = 3600.0
"""Seconds until a temporary file that nobody holds is a crash's leftover; those that need no holding live for milliseconds."""

_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC


def write_all(fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
    """Write all of `data` at `position`, however often the kernel takes only a part of it."""
    written = os.pwrite(fd, data, position)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        position += written
        written = os.pwrite(fd, rest, position)
        rest = rest[written:]


class TemporaryFile:
    """A file without a proper name yet. Raises `OSError` as it comes: its users know what they were doing."""

    __slots__ = ("_named", "fd", "path")

    def __init__(self, directory: str, mode: int, *, hold: bool = False) -> None:
        self.path = f"{directory}/{os.urandom(12).hex()}"
        self.fd = os.open(self.path, _CREATE, mode)
        self._named = True
        if hold:
            self._hold()

    def _hold(self) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.discard()
            raise

    def publish(self, target: str) -> None:
        """Become `target`, in the place of what may be there. The descriptor stays open."""
        os.rename(self.path, target)
        self._named = False

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on."""
        fd, self.fd = self.fd, -1
        return fd

    def discard(self) -> None:
        """Close, and remove it unless it was published. Never raises; idempotent."""
        if self._named:
            self._named = False
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)


def remove_abandoned(directory: str, now: float | None = None) -> int:
    """Remove the temporary files that nobody is writing any more; returns how many. Blocks."""
    before = (time.time() if now is None else now) - ABANDONED_AFTER
    removed = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if _is_older(entry, before):
                    removed += _remove_unless_held(entry.path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageFailure(f"looking for abandoned files in {directory!r}: {error.strerror}") from error
    return removed


def _is_older(entry: os.DirEntry[str], before: float) -> bool:
    """Whether it is a file that was written before, and is still there."""
    try:
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before
    except FileNotFoundError:
        return False


def _remove_unless_held(path: str) -> bool:
    """Remove under its lock, so that nobody can begin to hold it in between."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
