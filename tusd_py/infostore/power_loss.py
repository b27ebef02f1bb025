"""After a power cut: cutting off the zeros that a file system has put in the place of bytes it lost.

ext4 notes the new size of a file whose last block grows before it writes the bytes (`data=ordered` is about new blocks only),
and the sync of any other file makes that size last. After a power cut the file then ends in zeros that nobody sent, and the
client would resume behind them. So the first who opens a directory after the machine has been restarted, or the file system
mounted anew, looks at every upload that is not finished.

`Watch` knows when to look, `strip_zeros` how a file is shortened; what an upload is, and that it is not finished, their caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
from collections.abc import Callable

from tusd_py.fs.directories import sync_directory
from tusd_py.fs.errors import translate
from tusd_py.fs.temporary import TemporaryFile, write_all
from tusd_py.infostore.listing import RecordLister
from tusd_py.ports.failures import OutOfSpace, StorageFailure, UploadNotFound

__all__ = ["SUSPECT", "Watch", "identify", "look_at_all", "strip_zeros"]

logger = logging.getLogger(__name__)

SUSPECT = 64 * 1024
"""Bytes at the end of a file that may be zeros instead of what was written: the largest block of a Linux file system. Only a
block that was on the disk already can have been lost in this way."""

_FORMAT = 1
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

_STATX_SIZE = 256
_MOUNT_ID_AT = 144
_AT_FDCWD = -100
_STATX_MNT_ID_UNIQUE = 0x4000  # Linux 6.8: never used again
_STATX_MNT_ID = 0x1000  # Linux 5.8: may be used again after an unmount


def identify(directory: str) -> str:
    """This boot of the kernel and this mount of the file system: while both are the same, nothing that was written is lost."""
    boot = "unknown"
    with contextlib.suppress(OSError), open(_BOOT_ID, encoding="ascii") as file:
        boot = file.read().strip()
    return f"version={_FORMAT} boot={boot} {_mount_of(directory)}\n"


def _mount_of(directory: str) -> str:
    for flag in (_STATX_MNT_ID_UNIQUE, _STATX_MNT_ID):
        if (number := _statx_mount_id(directory, flag)) is not None:
            return f"mount={number}"
    return f"device={os.stat(directory).st_dev}"


def _statx_mount_id(directory: str, flag: int) -> int | None:
    """What statx(2) says under `flag`; None where the kernel or the C library doesn't know it."""
    found = (ctypes.c_char * _STATX_SIZE)()
    try:
        failed = ctypes.CDLL(None).statx(_AT_FDCWD, os.fsencode(directory), 0, flag, found)
    except (AttributeError, OSError):
        return None
    mask = ctypes.c_uint32.from_buffer(found).value
    return None if failed or not mask & flag else ctypes.c_uint64.from_buffer(found, _MOUNT_ID_AT).value


class Watch:
    """Notices that unsynced bytes may have been lost since the directory was last served; under `state_dir`.

    Who serves the directory keeps a lock on the file `serving` while it lives. Whoever can take all of it for itself is the
    first; everybody else finds the directory looked at, and it would be wrong to shorten files that others write to.
    """

    def __init__(self, state_dir: str, tmp_dir: str, mode: int) -> None:
        self._session, self._tmp_dir, self._mode = f"{state_dir}/session", tmp_dir, mode
        self._state_dir = state_dir
        self._serving = -1

    def __del__(self) -> None:
        if self._serving >= 0:
            os.close(self._serving)

    def begin(self, identity: str, look: Callable[[], None]) -> None:
        """Call `look` if something may have been lost; one process at a time, the others wait. Raises `StorageFailure`."""
        try:
            checking = self._open("session.lock", os.O_RDWR)
            try:
                fcntl.flock(checking, fcntl.LOCK_EX)
                self._look_if_first(identity, look)
                # not open for writing, or nobody could remount the file system read-only under us
                self._serving = self._open("serving", os.O_RDONLY)
                fcntl.flock(self._serving, fcntl.LOCK_SH)
            finally:
                os.close(checking)
        except OSError as error:
            raise translate(error, f"looking whether the power was cut below {self._state_dir!r}") from error

    def _open(self, name: str, access: int) -> int:
        return os.open(f"{self._state_dir}/{name}", os.O_CREAT | access | os.O_CLOEXEC, self._mode)

    def _look_if_first(self, identity: str, look: Callable[[], None]) -> None:
        serving = self._open("serving", os.O_RDWR)
        try:
            fcntl.flock(serving, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._compare(identity, look)
        except BlockingIOError:
            return
        finally:
            os.close(serving)

    def _compare(self, identity: str, look: Callable[[], None]) -> None:
        try:
            with open(self._session, "rb") as file:
                before = file.read()
        except FileNotFoundError:  # a new directory, or tusd's: nothing is known about it
            before = b""
        if before == identity.encode():
            return
        if before:
            look()
        try:
            self._write(identity.encode())
        except OSError as error:
            if not isinstance(translate(error, ""), OutOfSpace):
                raise
            logger.warning("there is no space for %r; the next start looks at all uploads again", self._session)

    def _write(self, data: bytes) -> None:
        temporary = TemporaryFile(self._tmp_dir, self._mode)
        try:
            write_all(temporary.fd, data, 0)
            os.fsync(temporary.fd)
            temporary.publish(self._session)
        finally:
            temporary.discard()
        sync_directory(self._state_dir)


def look_at_all(root: str, shorten: Callable[[str], int]) -> None:
    """Call `shorten` for every record below `root`; what fails for one concerns no other. Blocks. Raises `StorageFailure`."""
    logger.warning("%r may have lost unsynced bytes (restart or new mount): looking at all unfinished uploads", root)
    records = shortened = failed = 0
    lister = RecordLister(root)
    while batch := lister.next_batch():
        for upload_id in batch:
            records += 1
            try:
                if lost := shorten(upload_id):
                    shortened += 1
                    logger.info("upload %r is %d bytes shorter: they may not be what was sent", upload_id, lost)
            except UploadNotFound:
                continue
            except StorageFailure as failure:
                failed += 1
                logger.error("upload %r could not be looked at: %s", upload_id, failure)
    logger.warning("looked at %d records below %r: %d uploads shortened, %d failures", records, root, shortened, failed)


def strip_zeros(path: str, floor: int, end: int | None = None) -> int:
    """Cut the file at `end`, if that is given, and else its last zeros, those within `SUSPECT` bytes; never below `floor`.

    Returns by how many bytes it is shorter now, durably. Raises `OSError`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        end = max(_end_of_bytes(fd, size, floor) if end is None else end, floor)
        if end >= size:
            return 0
        os.ftruncate(fd, end)
        os.fsync(fd)
        return size - end
    finally:
        os.close(fd)


def _end_of_bytes(fd: int, size: int, floor: int) -> int:
    start = max(size - SUSPECT, floor, 0)
    return start + len(os.pread(fd, max(size - start, 0), start).rstrip(b"\0"))
