"""Making a whole file system durable at once: `syncfs`, where it is known to be as good as many `fsync`s, and cheaper.

One `syncfs` is one journal commit and one cache flush for all files that wait, while `fsync` file by file costs a commit each.
It is not always the better way: it waits for everything that is dirty, other people's gigabytes included.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import weakref
from collections.abc import Iterable

__all__ = ["FileSystems", "dirty_bytes", "file_system_types"]

_TRUSTED = frozenset({"ext2", "ext3", "ext4", "xfs"})
"""Where `syncfs` writes out data and journal and flushes the disk's cache. Network and FUSE file systems may do less."""

_REPORTS_ERRORS = (5, 8)
"""Linux version since which `syncfs` fails if any file of the file system could not be written out."""


def dirty_bytes() -> int:
    """How much of the machine's memory waits to be written to disks."""
    total = 0
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith((b"Dirty:", b"Writeback:")):
                total += int(line.split()[1]) * 1024
    return total


def _kernel_reports_errors() -> bool:
    release = platform.release().split(".")
    try:
        return (int(release[0]), int(release[1])) >= _REPORTS_ERRORS
    except (IndexError, ValueError):
        return False


def file_system_types() -> dict[int, str]:
    """The type of each mounted file system by its device number; nothing where the kernel does not tell."""
    found: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            major, _, minor = fields.split()[2].partition(":")
            found[os.makedev(int(major), int(minor))] = rest.split()[0]
    return found


class FileSystems:
    """Syncs whole file systems, each through a descriptor of its own that stays open: what can't be written out, at any time
    from then on, is reported at the next sync."""

    def __init__(self) -> None:
        self._roots: dict[int, int] = {}  # device number -> descriptor of a directory there
        weakref.finalize(self, _close_all, self._roots)
        self._untrusted: set[int] = set()
        self._syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if _kernel_reports_errors() else None

    def trust(self, directories: Iterable[str], devices: Iterable[int]) -> bool:
        """Whether all of `devices` can be synced as a whole; `directories` are places on them."""
        if self._syncfs is None or not os.path.exists("/proc/self/mountinfo"):
            return False
        missing = set(devices) - self._roots.keys()
        if missing & self._untrusted:
            return False
        for directory in directories if missing else ():
            self._open(directory, missing)
        return set(devices) <= self._roots.keys()

    def _open(self, directory: str, missing: set[int]) -> None:
        with contextlib.suppress(OSError):
            device = os.stat(directory).st_dev
            if device not in missing or device in self._roots:
                return
            if file_system_types().get(device) in _TRUSTED:
                self._roots[device] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                self._untrusted.add(device)

    def sync(self, devices: Iterable[int]) -> bool:
        """Sync these file systems; whether that worked. Blocks."""
        assert self._syncfs is not None
        return all(self._syncfs(self._roots[device]) == 0 for device in set(devices))

    def close(self) -> None:
        """What is dropped without it is closed as well: threads may be at work on it until then."""
        _close_all(self._roots)


def _close_all(roots: dict[int, int]) -> None:
    while roots:
        os.close(roots.popitem()[1])
