"""Which uploads were there once: an empty file for each, whose time of change says since when. Knows only ids and a clock."""

from __future__ import annotations

import os
from contextlib import suppress

from tusd_py.fs.paths import flat_name
from tusd_py.ports.clock import Clock

__all__ = ["KEEP", "Tombstones"]

KEEP = 30 * 86400.0
"""Seconds to answer 410 rather than 404 for: longer than clients remember the URL of an unfinished upload."""


class Tombstones:
    """Tombstones in `directory`. Raises `OSError`; its users know what they were doing."""

    def __init__(self, directory: str, mode: int, clock: Clock) -> None:
        self._directory, self._mode, self._clock = directory, mode, clock

    def add(self, upload_id: str) -> None:
        path = f"{self._directory}/{flat_name(upload_id)}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, self._mode))
        now = self._clock()
        os.utime(path, (now, now))  # the clock that `drop_old` will ask may be another than the file system's

    def has(self, upload_id: str) -> bool:
        return os.path.lexists(f"{self._directory}/{flat_name(upload_id)}")

    def drop_old(self) -> None:
        """Forget those that are older than `KEEP`. Blocks in proportion to their number."""
        before = self._clock() - KEEP
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process tidies, or tries whether it can write here
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
