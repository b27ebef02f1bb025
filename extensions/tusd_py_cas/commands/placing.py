"""Files of an upload directory, made or exchanged while servers work on it, and durable on return.

What is being written is in `.tusd-py/tmp`, where the server's own files on their way are, and is locked like those: a server
removes what a crash leaves there, and nothing else. Knows nothing of uploads. All raise `OSError`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tusd_py.fs.directories import sync_directory
from tusd_py_cas.layout import write_all
from tusd_py_cas.os_errors import NO_LINKS

__all__ = ["place_new", "replace_existing"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PERMISSIONS = 0o777
_OWN = ".tusd-py-restoring"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})


def place_new(
    upload_dir: str, path: str, content: Iterable[bytes], *, like: os.stat_result, modified_ns: int, over_empty: bool
) -> None:
    """Make the file `path` below `upload_dir`, with owner and permissions of `like`. Where there is a file already it is
    `FileExistsError`, unless that is empty and `over_empty`. Also raises what `content` raises."""
    directory = os.path.dirname(path)
    os.makedirs(directory, 0o775, exist_ok=True)
    with _temporary(_temporary_directory(upload_dir, directory)) as (fd, temporary):
        for piece in content:
            write_all(fd, piece)
        _dress(fd, like, modified_ns)
        os.fsync(fd)
        if over_empty and os.lstat(path).st_size == 0:
            os.rename(temporary, path)
        else:
            _link(temporary, path)
    sync_directory(directory)
    while directory not in (upload_dir, "/"):
        directory = os.path.dirname(directory)
        sync_directory(directory)


def replace_existing(upload_dir: str, path: str, data: bytes, *, like: os.stat_result) -> bool:
    """Let `path` hold `data` instead of what it holds; its times stay as in `like`. False if it is gone, and stays gone."""
    directory = os.path.dirname(path)
    with _temporary(_temporary_directory(upload_dir, directory)) as (fd, temporary):
        write_all(fd, data)
        _dress(fd, like, like.st_mtime_ns)
        os.fsync(fd)
        try:
            _exchange(temporary, path)
        except FileNotFoundError:
            return False
    sync_directory(directory)
    return True


@contextmanager
def _temporary(directory: str) -> Iterator[tuple[int, str]]:
    path = f"{directory}/{os.urandom(12).hex()}"
    fd = os.open(path, _CREATE, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd, path
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if directory.endswith(f"/{_OWN}"):
            with contextlib.suppress(OSError):  # another one may be using it
                os.rmdir(directory)


def _temporary_directory(upload_dir: str, directory: str) -> str:
    """On the file system of `directory`: an administrator may have linked a place on another disk into the upload directory.
    There the name begins with a dot, since nothing of an upload's does."""
    usual = f"{upload_dir}/.tusd-py/tmp"
    if os.stat(upload_dir).st_dev == os.stat(directory).st_dev:
        os.makedirs(usual, 0o775, exist_ok=True)
        return usual
    own = f"{directory}/{_OWN}"
    os.makedirs(own, 0o700, exist_ok=True)
    return own


def _dress(fd: int, like: os.stat_result, modified_ns: int) -> None:
    """Whoever runs this, the server must be able to use the file as if it had written it."""
    with contextlib.suppress(PermissionError):
        os.fchown(fd, like.st_uid, like.st_gid)
    os.fchmod(fd, like.st_mode & _PERMISSIONS)
    os.utime(fd, ns=(modified_ns, modified_ns))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)


def _exchange(first: str, second: str) -> None:
    """Both names stay, with each other's files; `FileNotFoundError` where one is missing (renameat2(2), Linux 3.15)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        if libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _CANNOT_EXCHANGE:
            raise OSError(number, os.strerror(number), second)
    os.stat(second, follow_symlinks=False)  # file systems that can't exchange leave a moment here
    os.rename(first, second)
