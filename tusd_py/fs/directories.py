"""Making directories: the upload directory and our own state at start, sub-directories for ids with `/` on demand."""

from __future__ import annotations

import errno
import os

from tusd_py.fs.errors import translate
from tusd_py.fs.paths import state_path
from tusd_py.ports.failures import ReadOnlyStorage

__all__ = ["make_parents", "prepare_directory", "prepare_root", "prepare_state", "sync_directory"]

_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What file systems say that can't sync a directory (some network and FUSE mounts). Nothing else is forgiven."""


def prepare_root(root: str, mode: int) -> str:
    """Make the upload directory if need be; returns its absolute path. Raises `ReadOnlyStorage`, saying where and why."""
    root = os.path.abspath(root)
    _make(root, mode)
    return root


def prepare_state(root: str, name: str, mode: int) -> str:
    """Make the directory for state of our own called `name`. Raises `ReadOnlyStorage`."""
    return prepare_directory(state_path(root, name), mode)


def prepare_directory(directory: str, mode: int) -> str:
    """Make a directory if need be, and prove that it can be written, now rather than at the first request."""
    directory = os.path.abspath(directory)
    _make(directory, mode)
    probe = f"{directory}/.probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise ReadOnlyStorage(f"cannot write to {directory!r}: {error.strerror}") from error
    return directory


def sync_directory(directory: str) -> None:
    """Make the names in a directory durable, as far as its file system can. Blocks. Raises `OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(fd)


def _make(directory: str, mode: int) -> None:
    try:
        _make_all(directory, mode)
    except OSError as error:
        raise ReadOnlyStorage(f"cannot make the directory {directory!r}: {error.strerror}") from error


def make_parents(path: str, mode: int) -> None:
    """Make the directories that lead to `path`, which the caller found missing."""
    parent = os.path.dirname(path)
    try:
        _make_all(parent, mode)
    except OSError as error:
        raise translate(error, f"making the directory {parent!r}") from error


def _make_all(directory: str, mode: int) -> None:
    """As `os.makedirs`, which gives the mode to the last directory only; tusd gives it to all that it makes."""
    try:
        _make_one(directory, mode)
    except FileNotFoundError:
        parent = os.path.dirname(directory)
        if not os.path.isdir(parent):
            _make_all(parent, mode)
        _make_one(directory, mode)  # raises where the parent is there and can't have children, as in /proc


def _make_one(directory: str, mode: int) -> None:
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        if not os.path.isdir(directory):
            raise
