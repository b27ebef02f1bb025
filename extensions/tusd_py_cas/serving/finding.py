"""Finding finished uploads that nobody has taken in: from before this extension was turned on, or when the process that had
finished them was gone too soon.

Whoever has the turn looks for all: at its start, every hour, and when another process has missed something or has just begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from tusd_py.ports.extension import Host
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py_cas.layout import FILE_MODE
from tusd_py_cas.model import Version
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.queue import IntakeQueue
from tusd_py_cas.serving.versions import Versions, in_chunks

__all__ = ["Finder", "Signal"]

_log = logging.getLogger("tusd_py.cas")

AGAIN = 3600.0
"""Seconds after which all are looked at again: some could not be taken in."""

LOOK = 2.0
"""Seconds between two looks for the signal of another process."""

PAGE = 500
"""Uploads that the index is asked about at once."""

REST, LEAST_REST = 3.0, 0.005
"""How much longer it rests than it looks at uploads: that is work on the event loop, and there may be a million of them. And
the seconds that are worth a rest: shorter ones take longer than they should."""

SIGNAL = "look-again"


class Signal:
    """Tells the process that has the turn that there may be uploads nobody knows of: a file in the repository at `path`."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}/{SIGNAL}"

    def give(self) -> None:
        """Idempotent until it is taken. One that can't be given is no failure: there is a look every hour."""
        with contextlib.suppress(OSError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE))

    def take(self) -> bool:
        """Whether it was given since the last time."""
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True


class Finder:
    """Puts what it finds into `queue`. `host` is set before anything is asked for. Belongs to an event loop."""

    host: Host

    def __init__(self, access: Access, versions: Versions, queue: IntakeQueue, signal: Signal) -> None:
        self._access, self._index = access, access.repository.index
        self._versions, self._queue, self._signal = versions, queue, signal

    async def run(self) -> None:
        """Until cancelled. At first what is taken in is looked at, too: with this extension turned off, ids are used again.
        That takes longer, and nobody waits for it."""
        async with asyncio.TaskGroup() as work:
            work.create_task(self._look_at_versions_once())
            looked = -AGAIN
            while True:
                if await self._called() or time.monotonic() - looked >= AGAIN:
                    await self.look_at_all()
                    looked = time.monotonic()
                await asyncio.sleep(LOOK)

    async def _look_at_versions_once(self) -> None:
        while not await self.look_at_versions():  # noqa: ASYNC110 - a disk tells nobody that it can be read again
            await asyncio.sleep(AGAIN)

    async def _called(self) -> bool:
        """Whether something was missed since the last time, here or elsewhere."""
        missed, self._queue.missed = self._queue.missed, False
        return await self._access.change(self._signal.take) or missed

    async def look_at_all(self) -> bool:
        """Find finished uploads that are no versions. Whether all could be looked at; failures are logged."""
        return await self._look(self._without_version, self._is_finished)

    async def look_at_versions(self) -> bool:
        """Find uploads whose version is that of another file. Whether all could be looked at; failures are logged."""
        return await self._look(self._with_version, self._is_another)

    async def _look(self, select: _Select, is_wanted: _IsWanted) -> bool:
        found = failed = 0
        owed = 0.0
        try:
            async for page in self._pages():
                for upload_id in await select(page):
                    began = time.monotonic()
                    try:
                        wanted = await is_wanted(upload_id)
                    except StorageFailure as failure:
                        failed += 1
                        fields = {"id": upload_id, "error": str(failure)}
                        _log.warning("whether an upload is taken in can't be told", extra={"fields": fields})
                        continue
                    owed += REST * (time.monotonic() - began)
                    if owed >= LEAST_REST:
                        await asyncio.sleep(owed)
                        owed = 0.0
                    if wanted:
                        found += 1
                        await self._queue.put(upload_id)
        except StorageFailure as failure:
            failed += 1
            _log.error("uploads could not be looked through", extra={"fields": {"error": str(failure)}})
        if found or failed:
            _log.info("finished uploads were found", extra={"fields": {"found": found, "failed": failed}})
        return not failed

    async def _pages(self) -> AsyncIterator[Sequence[str]]:
        page: list[str] = []
        async for upload_id in self.host.ids():
            page.append(upload_id)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    async def _without_version(self, page: Sequence[str]) -> Sequence[str]:
        return await self._access.look(lambda: self._index.without_version(page))

    async def _with_version(self, page: Sequence[str]) -> Sequence[str]:
        others = set(await self._without_version(page))
        return [upload_id for upload_id in page if upload_id not in others]

    async def _is_finished(self, upload_id: str) -> bool:
        return await self.host.look(upload_id) is not None

    async def _is_another(self, upload_id: str) -> bool:
        upload = await self.host.look(upload_id)
        if upload is None or in_chunks(upload):
            return False
        try:
            chosen = await self._versions.choose(upload)
        except UploadNotFound:
            return False  # it has just been removed
        if isinstance(chosen, Version):
            return False
        await chosen.close()
        return True


_Select = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
_IsWanted = Callable[[str], Awaitable[bool]]
