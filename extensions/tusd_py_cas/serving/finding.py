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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

from tusd_py.ports.extension import Host
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py_cas.layout import FILE_MODE
from tusd_py_cas.model import IndexDamaged, Version
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.queue import IntakeQueue
from tusd_py_cas.serving.versions import Versions, in_chunks

__all__ = ["Finder", "Signal"]

_log = logging.getLogger("tusd_py.cas")

AGAIN = 3600.0
"""Seconds after which all are looked at again: some could not be taken in."""

LOOK = 2.0
"""Seconds between two looks for the signal of another process."""

PAGE, AT_ONCE = 500, 50
"""Uploads that the index is asked about at once, and for all that it knows of them."""

TOLD = 20
"""Failures in one look that have a line in the log each; the others are counted."""

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
        pauses = _Pauses()
        try:
            async for page in self._pages():
                for upload_id, version in (await select(page)).items():
                    try:
                        with pauses.working():
                            wanted = await is_wanted(upload_id, version)
                    except StorageFailure as failure:
                        failed += 1
                        if failed <= TOLD:
                            fields = {"id": upload_id, "error": str(failure)}
                            _log.warning("whether an upload is taken in can't be told", extra={"fields": fields})
                        wanted = False
                    await pauses.rest()
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

    async def _without_version(self, page: Sequence[str]) -> _Selected:
        return dict.fromkeys(await self._access.look(lambda: self._index.without_version(page)))

    async def _with_version(self, page: Sequence[str]) -> _Selected:
        found: dict[str, Version | None] = {}
        for first in range(0, len(page), AT_ONCE):
            some = page[first : first + AT_ONCE]
            found.update(await self._access.look(partial(self._versions_of, some)))
        return found

    def _versions_of(self, upload_ids: Sequence[str]) -> _Selected:
        """Of those that have one; None for one that is damaged. Blocks."""
        found: dict[str, Version | None] = {}
        for upload_id in upload_ids:
            try:
                version = self._index.find_version(upload_id)
            except IndexDamaged:
                found[upload_id] = None
                continue
            if version is not None:
                found[upload_id] = version
        return found

    async def _is_finished(self, upload_id: str, _: Version | None) -> bool:
        return await self.host.look(upload_id) is not None

    async def _is_another(self, upload_id: str, version: Version | None) -> bool:
        """Whether the file is another one than the version was made of."""
        upload = await self.host.look(upload_id)
        if upload is None or in_chunks(upload):
            return False
        try:
            chosen = await self._versions.choose_from(upload, version)
        except UploadNotFound:
            return False  # it has just been removed
        if isinstance(chosen, Version):
            return False
        await chosen.close()
        return True


class _Pauses:
    """Rests between pieces of work, in proportion to how long they take."""

    def __init__(self) -> None:
        self._owed = 0.0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._owed += REST * (time.monotonic() - began)

    async def rest(self) -> None:
        """If it is worth one."""
        if self._owed >= LEAST_REST:
            await asyncio.sleep(self._owed)
            self._owed = 0.0


_Selected = Mapping[str, Version | None]
_Select = Callable[[Sequence[str]], Awaitable[_Selected]]
_IsWanted = Callable[[str, Version | None], Awaitable[bool]]
