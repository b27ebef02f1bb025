"""Whether the upload directory can be written at this moment, and how much room is left in it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

__all__ = ["MIN_FREE", "StorageFailed", "free_bytes", "prove_writable"]

MIN_FREE = 16 * 1024 * 1024
"""Bytes. With less, hardly an upload can be taken, and file systems begin to behave oddly."""

_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


class StorageFailed(Exception):
    """The message says why nothing can be stored, without naming a path: it is shown to whoever asks."""


def prove_writable(directory: str) -> int:
    """Write a byte, leave nothing behind, and return how many bytes are free. Raises `StorageFailed`. May block for long."""
    try:
        _write_a_byte(directory)
        free = free_bytes(directory)
    except OSError as error:
        raise StorageFailed(f"the upload directory can't be written: {error.strerror}") from error
    if free < MIN_FREE:
        raise StorageFailed(f"there is no room for uploads: {free} bytes free, at least {MIN_FREE} expected")
    return free


def free_bytes(directory: str) -> int:
    """What those who are not root may use; no byte where no more files can be made. Raises OSError."""
    facts = os.statvfs(directory)
    if facts.f_files and not facts.f_favail:
        return 0
    return facts.f_bavail * facts.f_frsize


def _write_a_byte(directory: str) -> None:
    descriptor, name = _open_unnamed(directory)
    try:
        os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
        if name is not None:
            with suppress(FileNotFoundError):
                os.unlink(name)


def _open_unnamed(directory: str) -> tuple[int, str | None]:
    """A new file without a name, where the file system can; a crash then leaves nothing."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), None
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_TMPFILE:
            raise
    name = f"{directory}/.ready-{os.getpid()}"
    return os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600), name
