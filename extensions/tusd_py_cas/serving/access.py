"""The repository from an event loop: what blocks is done by a few threads of the extension's own.

Reading and changing have threads of their own, so that no download waits for somebody else's transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.model import IndexDamaged, RepositoryError
from tusd_py_cas.repository import Repository

__all__ = ["Access"]

_log = logging.getLogger("tusd_py.cas")

READERS = 4
"""Enough to decompress faster than a network takes it, and to wait for a disk in several places."""

WRITERS = 2
"""Transactions wait for each other anyway."""

T = TypeVar("T")


class Access:
    """Everywhere: `StorageFailure`, also in the place of `RepositoryError`; what else the functions raise goes through."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._closed = False
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="tusd-cas-read")
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="tusd-cas-write")

    def __repr__(self) -> str:
        return f"<Access to {self.repository!r}>"

    def begin(self, look: Callable[[], T]) -> asyncio.Future[T]:
        """Begin to look something up, whether or not anybody waits for the result; failures are those of `look`. Raises
        `StorageFailure`."""
        if self._closed:
            raise StorageFailure("the server is stopping: the repository is closed")
        return asyncio.get_running_loop().run_in_executor(self._readers, look)

    async def look(self, look: Callable[[], T]) -> T:
        """What `look` finds, which changes nothing."""
        try:
            return await self.begin(look)
        except RepositoryError as error:
            raise _told(error) from error

    async def change(self, change: Callable[[], T]) -> T:
        """What `change` returns. A cancellation waits for its end, unless it has not begun, and then it never does: a lock that
        this task holds covers all of it."""
        if self._closed:
            raise StorageFailure("the server is stopping: the repository is closed")
        task = self._writers.submit(change)
        job = asyncio.wrap_future(task)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            task.cancel()
            while not job.done():
                with contextlib.suppress(asyncio.CancelledError):  # a second one: the first is on its way already
                    await asyncio.wait([job])
            if not job.cancelled():
                job.exception()  # it concerns nobody any more
            raise
        except RepositoryError as error:
            raise _told(error) from error

    def hurry(self) -> None:
        """Let nobody wait long for other processes that keep the index locked."""
        self.repository.index.hurry()

    async def close(self) -> None:
        """Let the threads end what they are at, which is short, and let go of the repository."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._close)

    def _close(self) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._writers.shutdown()
        self.repository.close()


def _told(error: RepositoryError) -> StorageFailure:
    if isinstance(error, IndexDamaged):
        _log.error("the index is damaged", extra={"fields": {"error": str(error)}})
    return StorageFailure(str(error))
