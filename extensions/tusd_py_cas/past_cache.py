"""Writing a file past the kernel's page cache.

What is written there first is copied, page by page, into memory that is then flushed and dropped again, at the cost of other
files' pages. A chunk that has to be durable waits for the disk anyway. Direct writing takes a third off the processor time of
storing new data (`tests/bench/cas_ingest.py`), and leaves the cache to uploads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from queue import LifoQueue

__all__ = ["write_past_cache"]

_PIECE = 4 << 20
"""Bytes that are copied to where the disk can take them from, and written, at a time: nearly every chunk at once, and from few
large pages. One MiB at a time, from small pages, costs a tenth more of the processor time of storing new data."""

_BUFFERS = 8
"""At most, for all threads: whoever has none waits for the disk that the others write to."""

_BLOCK = 4096
"""Addresses, positions and lengths are multiples of it: no disk wants more."""

_NOT_SO = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""What file systems answer that do not write past the cache, or not from or to there."""


def _new() -> memoryview:
    memory = mmap.mmap(-1, _PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # begins with a page, and is not a fork's
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


_free: LifoQueue[memoryview | None] = LifoQueue()  # None for one that has not been made yet; the last used is in the cache
for _ in range(_BUFFERS):
    _free.put(None)


def write_past_cache(fd: int, data: bytes | memoryview) -> int:
    """Write the beginning of `data` to the empty file `fd`, and return how many bytes: all of them, or fewer where the file
    system does not take them in this way. The file's position is behind them, for the rest to be written the usual way. Raises
    `OSError`."""
    view, done = memoryview(data), 0
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        while done < len(view) and done % _BLOCK == 0 and (written := _write_piece(fd, view[done : done + _PIECE], done)):
            done += written
    except OSError as error:
        if error.errno not in _NOT_SO:
            raise
    if done > len(view):
        os.ftruncate(fd, done := len(view))  # without what filled up the last block
    fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return os.lseek(fd, done, os.SEEK_SET)


def _write_piece(fd: int, piece: memoryview, position: int) -> int:
    """The bytes that were written; more than there are where the last block was filled up."""
    blocks = -(-len(piece) // _BLOCK) * _BLOCK
    buffer = _free.get()
    try:
        if buffer is None:
            buffer = _new()
        buffer[: len(piece)] = piece
        return os.pwrite(fd, buffer[:blocks], position)
    finally:
        _free.put(buffer)
