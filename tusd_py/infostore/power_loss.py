"""After a power cut: cutting off the zeros that ext4 has put in the place of bytes it lost.

ext4 notes the new size of a file before the bytes are on the disk, and the sync of any other file makes that size last:

- where the last block grows, before it writes the bytes (`data=ordered` is about new blocks only), and blocks behind it may be
  written first;
- where there are new blocks, when it hands the bytes to the disk. What has not come back from it is a hole after a power cut:
  since Linux 5.6 (`dioread_nolock`) such blocks count as unwritten until then, and no commit waits for them.

The file then has zeros that nobody sent, and the client would resume behind them, or take the upload for complete. So the first
who opens a directory after the machine has been restarted, or the file system mounted anew, looks at every upload.

`Watch` knows when to look, `look_at_all` what to cut; what an upload is, and whether it is finished, their caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tusd_py.fs.directories import sync_directory
from tusd_py.fs.errors import translate
from tusd_py.fs.temporary import TemporaryFile, write_all
from tusd_py.fs.whole import file_system_types
from tusd_py.infostore.listing import RecordLister
from tusd_py.ports.failures import OutOfSpace, StorageFailure, UploadNotFound

__all__ = ["RECENT", "SCANNED", "SUSPECT", "Suspect", "Watch", "identify", "look_at_all", "strip_zeros"]

logger = logging.getLogger(__name__)

SUSPECT = 64 * 1024
"""Bytes at the end of a file, or before its first hole, that may be zeros instead of what was written: the largest block of a
Linux file system. Only a block that was on the disk already can have been lost in this way."""

SCANNED = 64 << 20
"""Bytes in which it is looked for a block that grew and was not written again, while those behind it were: a disk may write
what it is given in any order."""

RECENT = 3600.0
"""Seconds before the last write to any upload. What was written before that, a disk has had the time to write."""

_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

_PIECE = 1 << 20
_GAP = b"\0" * 8  # fewer are in random data as well, once in so many blocks

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


@dataclass(frozen=True, slots=True)
class Suspect:
    """An upload and its file. Up to `floor` its bytes are known to be synced; it does not go beyond `end`, if a commit had
    begun there. One that is `finished` may be synced as well, if that was confirmed."""

    upload_id: str
    path: str
    found: os.stat_result
    floor: int
    end: int | None = None
    finished: bool = False


class _Look:
    """One look at all uploads: first at when they were written to, then at what they have lost. What fails concerns no other
    upload."""

    def __init__(self, root: str, find: Callable[[str], Suspect | None]) -> None:
        self._root, self._find = root, find
        self._ext4 = {device for device, kind in file_system_types().items() if kind == "ext4"}
        self._newest = 0.0
        self.records = self.shortened = self.failed = 0

    def run(self) -> None:
        for upload_id in self._ids():
            with contextlib.suppress(StorageFailure):
                if suspect := self._find(upload_id):
                    self._newest = max(self._newest, suspect.found.st_mtime)
        for upload_id in self._ids():
            self.records += 1
            try:
                if suspect := self._find(upload_id):
                    self._shorten(suspect)
            except UploadNotFound:
                continue
            except (StorageFailure, OSError) as failure:
                self.failed += 1
                logger.error("upload %r could not be looked at: %s", upload_id, failure)

    def _ids(self) -> Iterator[str]:
        lister = RecordLister(self._root)
        while batch := lister.next_batch():
            yield from batch

    def _shorten(self, suspect: Suspect) -> None:
        recent = suspect.found.st_mtime >= self._newest - RECENT
        ext4 = suspect.found.st_dev in self._ext4
        if suspect.finished and not (ext4 and recent and _has_hole(suspect)):
            return
        if lost := strip_zeros(suspect.path, suspect.floor, suspect.end, holes=ext4, gaps=ext4 and recent):
            self.shortened += 1
            logger.info("upload %r is %d bytes shorter: they may not be what was sent", suspect.upload_id, lost)


def look_at_all(root: str, find: Callable[[str], Suspect | None]) -> None:
    """Shorten what `find` returns for the records below `root` (None where there is nothing to be looked at) and has lost
    bytes. `find` raises `StorageFailure`. Blocks. Raises `StorageFailure`."""
    logger.warning("%r may have lost unsynced bytes (restart or new mount): looking at all uploads", root)
    look = _Look(root, find)
    look.run()
    counts = look.records, root, look.shortened, look.failed
    logger.warning("looked at %d records below %r: %d uploads shortened, %d failures", *counts)


def strip_zeros(path: str, floor: int, end: int | None = None, *, holes: bool = False, gaps: bool = False) -> int:
    """Cut the file at `end`, if that is given; at its first hole, if `holes` are bytes that were lost; before that where a
    block ends in zeros, within `SCANNED` bytes of there, if `gaps` are; and at the zeros it ends with then, those within
    `SUSPECT` bytes; never below `floor`.

    Returns by how many bytes it is shorter now, durably. Raises `OSError`.
    """
    fd = os.open(path, _OPEN)
    try:
        size = os.fstat(fd).st_size
        end = size if end is None else min(end, size)
        end = _first_hole(fd, floor, end) if holes else end
        end = _first_gap(fd, floor, end) if gaps else end
        end = max(_end_of_bytes(fd, end, floor), floor)
        if end >= size:
            return 0
        os.ftruncate(fd, end)
        os.fsync(fd)
        return size - end
    finally:
        os.close(fd)


def _has_hole(suspect: Suspect) -> bool:
    fd = os.open(suspect.path, _OPEN)
    try:
        return _first_hole(fd, suspect.floor, suspect.found.st_size) < suspect.found.st_size
    finally:
        os.close(fd)


def _first_hole(fd: int, floor: int, size: int) -> int:
    """`size` where there is none. Blocks that were never written count, but not those that memory has the bytes of."""
    return min(os.lseek(fd, floor, os.SEEK_HOLE), size) if floor < size else size


def _first_gap(fd: int, floor: int, end: int) -> int:
    """Where a block has bytes, and zeros behind them up to its end; `end` where there is none."""
    block = os.fstatvfs(fd).f_bsize
    position = max(end - SCANNED, floor, 0) // block * block
    while position < end:
        data = os.pread(fd, _PIECE, position)
        for start in range(0, min(len(data), end - position) - block + 1, block):
            if data.startswith(_GAP, start + block - len(_GAP)) and (kept := len(data[start : start + block].rstrip(b"\0"))):
                return position + start + kept
        position += _PIECE
    return end


def _end_of_bytes(fd: int, size: int, floor: int) -> int:
    start = max(size - SUSPECT, floor, 0)
    return start + len(os.pread(fd, max(size - start, 0), start).rstrip(b"\0"))
