"""One byte locked by the kernel per upload: held as long as the process that locked it lives, however it dies.

tusd makes a lock file for each upload, which crashes leave behind and two processes may race to clean up. Here the files are
always the same few, and an upload is a byte in one of them, at an offset that its id hashes to; nothing is ever written there.
Knows no waiting: a lock is to be had now or it isn't.

Open file description locks, not the process's own (POSIX record locks): those vanish as soon as anything in the process closes
any descriptor of the file, and two lockers in one process would not exclude each other. The price: a process forked while
locks are held shares them. The files are made at start, so that a full disk keeps nobody from freeing space, and opened at
first use, in the process that serves: a file that is open for writing keeps its file system from being made read-only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from hashlib import blake2b

from tusd_py.fs.errors import translate

__all__ = ["KernelLocks"]

_SHARDS = 32
"""Files: the kernel keeps the locks of a file in a list, so that each costs time in proportion to the others."""

_OFFSET_MASK = 2**62 - 1
"""Offsets are signed, and offset + 1 must be one as well. With the shards, 2^68 places: were a million uploads locked at once,
the chance that any two of them share a byte would be one in 10^8."""

_FLOCK = struct.Struct("hhqqi4x")
"""`struct flock` on Linux: type, whence, start, length, pid (0, as open file description locks demand)."""

_SET = getattr(fcntl, "F_OFD_SETLK", None)

_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})


class KernelLocks:
    """Locks in the files of `directory`, for as long as this object and its process live."""

    def __init__(self, directory: str, mode: int) -> None:
        self._directory, self._mode = directory, mode
        self._files: dict[int, int] = {}
        with contextlib.suppress(OSError):  # what is wrong will be told when a lock is wanted
            for shard in range(_SHARDS):
                os.close(self._open(shard))

    def try_lock(self, upload_id: str) -> bool:
        """Whether the lock is ours now. Raises `StorageFailure` when that can't be found out."""
        shard, offset = _place(upload_id)
        try:
            _set_lock(self._file(shard), fcntl.F_WRLCK, offset)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise translate(error, f"locking upload {upload_id!r}") from error
        return True

    def unlock(self, upload_id: str) -> None:
        shard, offset = _place(upload_id)
        with contextlib.suppress(OSError):  # fails only where locking had failed
            _set_lock(self._file(shard), fcntl.F_UNLCK, offset)

    def close(self) -> None:
        """Close the files; what is still locked is so no longer."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _file(self, shard: int) -> int:
        fd = self._files.get(shard)
        if fd is None:
            fd = self._files[shard] = self._open(shard)
        return fd

    def _open(self, shard: int) -> int:
        return os.open(f"{self._directory}/{shard:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)


def _place(upload_id: str) -> tuple[int, int]:
    digest = int.from_bytes(blake2b(upload_id.encode(), digest_size=9).digest(), "little")
    return digest % _SHARDS, (digest >> 8) & _OFFSET_MASK


def _set_lock(fd: int, kind: int, offset: int) -> None:
    if _SET is not None:
        fcntl.fcntl(fd, _SET, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
    else:  # not Linux: the process's own locks, with the weaknesses described above
        command = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.lockf(fd, command, 1, offset, os.SEEK_SET)
