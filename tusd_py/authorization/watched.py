"""A file of keys or tokens that is read again when it changes: rotating a key needs no restart.

Looked at once a second at most, and only when somebody asks, in a thread; who asks meanwhile waits for the same look. So what
was taken out of the file is refused a second later. A change that can't be read is logged, and what was read last goes on to
count: an editor that saves in two steps must not lock everybody out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["CHECK_INTERVAL", "MAX_FILE", "UnusableFile", "WatchedFile", "read_file"]

_log = logging.getLogger("tusd_py.authorization")

CHECK_INTERVAL = 1.0
"""Seconds between two looks. A look costs a thread some 50 us."""

MAX_FILE = 16 * 1024 * 1024
"""Bytes of the largest file that is read: some 200 000 tokens."""

SETTLED = 2.0
"""Seconds after which another change shows as another time of change, whatever the file system (FAT counts in steps of 2 s)."""

T = TypeVar("T")

_Signature = tuple[int, int, int, int]


class UnusableFile(ValueError):
    """A file that can't be read, or that makes no sense. The message is one sentence, which names the file."""


def read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file, and its state before they were read. Blocks. Raises `UnusableFile`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe would wait for its writer
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise UnusableFile(f"{path} is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_FILE + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise UnusableFile(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise UnusableFile(f"{path} is too large: expected {MAX_FILE} bytes at the most")
    return data, found


class WatchedFile(Generic[T]):
    """What `parse` makes of the file's bytes, kept up to date. Made at start, where it may block; raises `UnusableFile`.

    `parse` raises ValueError with a sentence that need not name the file. `secret` warns of a file that everybody may read.
    `interval` is in seconds. Belongs to one event loop.
    """

    def __init__(
        self, path: Path, parse: Callable[[bytes], T], *, secret: bool = True, interval: float = CHECK_INTERVAL
    ) -> None:
        self.path, self._parse, self._secret, self._interval = path.absolute(), parse, secret, interval
        self._looking: asyncio.Future[None] | None = None
        self._complaint = ""
        self._looked_at = time.monotonic()
        self._load()

    def __repr__(self) -> str:
        return f"<WatchedFile {str(self.path)!r}>"

    @property
    def value(self) -> T:
        """What was read last."""
        return self._value

    async def current(self) -> T:
        """What is in the file, as of a second ago at most."""
        if self._looking is not None or time.monotonic() - self._looked_at >= self._interval:
            if self._looking is None:
                self._looking = asyncio.get_running_loop().run_in_executor(None, self._look)
                self._looking.add_done_callback(self._looked)
            await asyncio.shield(self._looking)
        return self._value

    def _looked(self, _: asyncio.Future[None]) -> None:
        self._looking = None
        self._looked_at = time.monotonic()

    def _look(self) -> None:
        """In a thread, one at a time."""
        try:
            try:
                changed = not self._settled or _signature(os.stat(self.path)) != self._signature
            except OSError as error:
                raise UnusableFile(f"cannot read {self.path}: {error.strerror}") from None
            if changed:
                self._load()
            self._complaint = ""
        except UnusableFile as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("%s; what was read before still counts", error)

    def _load(self) -> None:
        data, found = read_file(self.path)
        try:
            self._value: T = self._parse(data)
        except ValueError as error:
            raise UnusableFile(f"{self.path}: {error}") from None
        self._signature = _signature(found)
        self._settled = time.time() - found.st_mtime > SETTLED
        if self._secret and found.st_mode & stat.S_IROTH:
            _log.warning("%s can be read by every user of this machine: expected mode 600 or 640", self.path)


def _signature(found: os.stat_result) -> _Signature:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
