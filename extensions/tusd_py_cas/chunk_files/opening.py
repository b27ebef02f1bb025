"""One stored file: opened without being led astray by what somebody has put in its place, and read to exactly its end."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from tusd_py_cas.model import ChunkDamaged, StoredChunk

__all__ = ["drop_cached", "identity", "opened", "read_exactly"]

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # the last for a FIFO: nobody may ever write to it
_NO_FILE = {
    errno.ENOENT: "its file is missing",
    errno.ENOTDIR: "its file is missing",
    errno.ELOOP: "a symbolic link is in the place of its file",
    errno.ENXIO: "a socket is in the place of its file",
}


@contextlib.contextmanager
def opened(path: str, name: bytes) -> Iterator[int]:
    """A descriptor of the file of the chunk `name`. Raises `ChunkDamaged` where there is none, `OSError`."""
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise ChunkDamaged(name, _NO_FILE[error.errno]) from error
    try:
        yield fd
    finally:
        os.close(fd)


def read_exactly(fd: int, chunk: StoredChunk) -> bytes:
    """The chunk's stored bytes. Raises `ChunkDamaged` where there are more or fewer, `OSError`."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ChunkDamaged(chunk.name, "what is in the place of its file is no regular file")
    if found.st_size != chunk.stored_size:
        raise ChunkDamaged(chunk.name, f"its file has {found.st_size} bytes, not {chunk.stored_size}")
    parts, missing = [], chunk.stored_size
    while missing:
        parts.append(part := os.read(fd, missing))
        if not part:
            raise ChunkDamaged(chunk.name, f"its file ends {missing} bytes early")
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def drop_cached(fd: int) -> None:
    """Ask the kernel to forget the file's pages: those that are as on the disk."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # it is advice
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def identity(found: os.stat_result) -> tuple[int, int]:
    """What tells one file from any other that there is now."""
    return found.st_dev, found.st_ino
