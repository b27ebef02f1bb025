"""The two ways of writing to an upload's file: straight to its place, or aside until the bytes are known to be good.

Know descriptors, positions and temporary files; not where uploads are or what a request is. `write` is plain synchronous code
because its caller decides which thread it runs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from threading import Event
from typing import NamedTuple

from tusd_py.fs.copying import CopyStopped, copy_bytes
from tusd_py.fs.errors import translate
from tusd_py.fs.intents import Intents
from tusd_py.fs.paths import ancestors
from tusd_py.fs.sync import GroupSync
from tusd_py.fs.temporary import TemporaryFile, write_all
from tusd_py.fs.threads import run_to_end

__all__ = ["LARGE", "MEMORY_LIMIT", "DirectWriter", "Place", "StagedWriter", "cut"]

logger = logging.getLogger(__name__)

LARGE = 64 * 1024 * 1024
"""From here on, freeing the blocks of a file takes ext4 milliseconds, and a thread is worth its hop."""

MEMORY_LIMIT = 1024 * 1024
"""Unverified bytes kept in memory; checksummed chunks are mostly smaller, and beyond it a file costs little in comparison."""

_WRITE_INLINE = 256 * 1024
"""Copying this much into the page cache takes less than handing it to a thread and coming back."""


class Place(NamedTuple):
    """What a writer needs to know of its store. A named tuple since one is made for every upload."""

    upload_id: str
    path: str
    intents: Intents
    root: str
    tmp_dir: str
    file_mode: int
    group: GroupSync
    pool: Executor


async def cut(fd: int, size: int, length: int, pool: Executor) -> None:
    """Shorten a file from `size` to `length`. Raises `OSError`."""
    if size - length > LARGE:
        await run_to_end(pool, lambda _stop: os.ftruncate(fd, length))
    else:
        os.ftruncate(fd, length)


class DirectWriter:
    """Bytes go to their place in the file at once, and are part of the upload as they arrive."""

    def __init__(self, place: Place, fd: int, start: int) -> None:
        self._place, self._fd, self._start = place, fd, start
        self.position = start

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place.path!r} {self._start}..{self.position}>"

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        try:
            written = os.pwrite(self._fd, data, self.position)
            self.position += written
            if written != len(data):
                self._write_rest(memoryview(data)[written:])
        except OSError as error:
            raise translate(error, f"writing to {self._place.path!r}") from error

    def _write_rest(self, rest: memoryview) -> None:
        """The kernel took a part; the next call takes more or says why not. `position` counts what was taken."""
        while rest:
            written = os.pwrite(self._fd, rest, self.position)
            self.position += written
            rest = rest[written:]

    async def commit(self) -> None:
        """They already are."""

    async def sync(self) -> None:
        await self._place.group.sync(self._fd, *ancestors(self._place.root, self._place.path))

    async def rollback(self) -> None:
        try:
            await cut(self._fd, self.position, self._start, self._place.pool)
        except OSError as error:
            logger.error("rolling back %r to %d failed: %s", self._place.path, self._start, error)
        else:
            self.position = self._start

    async def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)


class StagedWriter(DirectWriter):
    """Bytes wait in memory, or in a temporary file if they are many, until `commit`."""

    def __init__(self, place: Place, fd: int, start: int) -> None:
        super().__init__(place, fd, start)
        self._memory = bytearray()
        self._staging: TemporaryFile | None = None
        self._committed = False

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        if self._committed:
            raise ValueError("nothing can be written after commit")
        if self._staging is None and len(self._memory) + len(data) <= MEMORY_LIMIT:
            self._memory += data
        else:
            try:
                write_all(self._spill().fd, data, self.position - self._start)
            except OSError as error:
                raise translate(error, f"staging bytes for {self._place.path!r}") from error
        self.position += len(data)

    def _spill(self) -> TemporaryFile:
        """The staging file; at first, with what was in memory."""
        if self._staging is None:
            self._staging = TemporaryFile(self._place.tmp_dir, self._place.file_mode, hold=True)
            write_all(self._staging.fd, self._memory, 0)
            self._memory = bytearray()
        return self._staging

    async def commit(self) -> None:
        if self._committed:
            return
        try:
            if self._staging is None:
                await self._commit_all(self._commit_memory)
            elif self._start > 0 or not self._become(self._staging):
                await self._commit_all(self._commit_copy)
        except OSError as error:
            raise translate(error, f"committing bytes to {self._place.path!r}") from error
        self._committed = True
        await self._drop()

    async def _commit_all(self, write: Callable[[], Awaitable[None]]) -> None:
        """Let all bytes become part of the upload at once, or none, even if the process is killed or `write` fails half-way."""
        if self.position == self._start:
            return
        intents, upload_id = self._place.intents, self._place.upload_id
        intents.begin(upload_id, self._start)
        try:
            await write()
            intents.end(upload_id)
        except BaseException:
            await super().rollback()
            if self.position == self._start:  # else the bytes stay, and only the note keeps them out of the upload
                intents.end(upload_id)
            raise

    def _become(self, staging: TemporaryFile) -> bool:
        """Let the staging file be the upload's file, which is empty: no byte is copied. False if it can't."""
        try:
            os.fchmod(staging.fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            staging.publish(self._place.path)
        except OSError as error:
            if error.errno == errno.EXDEV:  # the upload's path leads to another file system
                return False
            raise
        os.close(self._fd)
        self._fd = staging.detach()
        return True

    async def _commit_memory(self) -> None:
        if len(self._memory) <= _WRITE_INLINE:
            write_all(self._fd, self._memory, self._start)
        else:
            await run_to_end(self._place.pool, lambda _stop: write_all(self._fd, self._memory, self._start))

    async def _commit_copy(self) -> None:
        assert self._staging is not None
        source = self._staging.fd

        def copy(stop: Event) -> None:
            copy_bytes(source, 0, self._fd, self._start, self.position - self._start, stop)

        try:
            await run_to_end(self._place.pool, copy)
        except CopyStopped as stopped:
            raise asyncio.CancelledError from stopped

    async def rollback(self) -> None:
        await self._drop()
        if self._committed:
            await super().rollback()
        else:
            self.position = self._start

    async def _drop(self) -> None:
        self._memory = bytearray()
        staging, self._staging = self._staging, None
        if staging is None:
            return
        if self.position - self._start > LARGE:
            await run_to_end(self._place.pool, lambda _stop: staging.discard())
        else:
            staging.discard()

    async def close(self) -> None:
        await self._drop()
        await super().close()
