"""Copying bytes between files without reading them into this process; on file systems that can, without copying them at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from threading import Event

from tusd_py.fs.temporary import write_all
from tusd_py.ports.failures import StorageFailure

__all__ = ["PIECE", "CopyStopped", "copy_bytes"]

PIECE = 64 * 1024 * 1024
"""Bytes per system call: some 30 ms on a plain disk, the longest that a stop has to wait."""

_BUFFER = 1024 * 1024
"""For the last resort, reading and writing."""

_UNSUPPORTED = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EPERM})
"""Answers that mean `not this way`: other file systems, old kernels, network mounts, seccomp filters that know no such call."""

_Way = Callable[[int, int, int, int, int], int]
"""source, its offset, target, its offset, count -> bytes copied"""


class CopyStopped(Exception):
    """The copy was asked to stop; what is there of it is of no use."""


def copy_bytes(source: int, source_offset: int, target: int, target_offset: int, count: int, stop: Event) -> None:
    """Copy exactly `count` bytes, by the best way that works. Blocks. Raises `OSError`, `StorageFailure`, `CopyStopped`."""
    ways = list(_WAYS)
    while count:
        if stop.is_set():
            raise CopyStopped
        try:
            copied = ways[0](source, source_offset, target, target_offset, min(count, PIECE))
        except OSError as error:
            if error.errno not in _UNSUPPORTED or len(ways) == 1:
                raise
            del ways[0]
            continue
        if not copied:
            raise StorageFailure(f"the file to copy from ends {count} bytes before its record says")
        source_offset += copied
        target_offset += copied
        count -= copied


def _copy_file_range(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    return os.copy_file_range(source, target, count, source_offset, target_offset)


def _sendfile(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    os.lseek(target, target_offset, os.SEEK_SET)
    return os.sendfile(target, source, source_offset, count)


def _read_and_write(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    data = os.pread(source, min(count, _BUFFER), source_offset)
    write_all(target, data, target_offset)
    return len(data)


_WAYS: tuple[_Way, ...] = (
    *((_copy_file_range,) if hasattr(os, "copy_file_range") else ()),
    _sendfile,
    _read_and_write,
)
