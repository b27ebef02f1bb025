"""Dropping versions whose uploads are gone: removed while this extension was turned off, or by hand, or when the process died
between the record and the version.

An upload is what its record says, so a version without one can't be reached any more. As a record may be missing by mistake,
and then be brought back, it has as long as garbage has: the index remembers since when it is missing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial

from tusd_py.ports.extension import Host
from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.serving.access import Access

__all__ = ["Clearer"]

_log = logging.getLogger("tusd_py.cas")

AGAIN = 3600.0
"""Seconds between two rounds, and at most until the first."""

PAGE = 500
"""Uploads whose records are looked for at once."""

REST = 0.05
"""Seconds between two pages."""


class Clearer:
    """Drops what has been missing for `grace` seconds. `host` is set before anything is asked for. Belongs to an event loop."""

    host: Host

    def __init__(self, access: Access, *, grace: float) -> None:
        self._access, self._grace = access, grace
        self._repository, self._index = access.repository, access.repository.index
        self._place = os.stat(self._repository.path)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look_around()
            await asyncio.sleep(min(AGAIN, max(self._grace, 1.0)) * (0.9 + random.random() / 5))

    async def look_around(self) -> int:
        """One round; how many versions were dropped. Failures are logged, and drop nothing."""
        dropped = 0
        try:
            await self._forgive()
            after = ""
            while page := await self._access.look(partial(self._index.uploads, after, PAGE)):
                dropped += await self._look_at(page)
                after = page[-1]
                await asyncio.sleep(REST)
        except StorageFailure as failure:
            fields = {"error": str(failure)}
            _log.error("versions of uploads that are gone could not be looked for", extra={"fields": fields})
        if dropped:
            _log.info("versions of uploads that are gone have been dropped", extra={"fields": {"versions": dropped}})
        return dropped

    async def _forgive(self) -> None:
        """Records that were missing and are back."""
        after = ""
        while page := await self._access.look(partial(self._index.vanished, after, PAGE)):
            missing = set(await self.host.without_record(page))
            back = [upload_id for upload_id in page if upload_id not in missing]
            if back:
                await self._access.change(partial(self._index.note_present, back))
            after = page[-1]

    async def _look_at(self, page: Sequence[str]) -> int:
        missing = await self.host.without_record(page)
        if not missing or not await self._access.look(self._is_in_place):
            return 0
        now = time.time()
        since = await self._access.change(lambda: self._note(missing, now))
        return sum([await self._drop(each) for each in missing if since.get(each, now) <= now - self._grace])

    def _note(self, missing: Sequence[str], now: float) -> Mapping[str, float]:
        """Since when they have been missing; what was noted by a clock that has been set back counts from now. Blocks."""
        since = self._index.note_vanished(missing, now)
        ahead = [upload_id for upload_id, at in since.items() if at > now]
        if not ahead:
            return since
        self._index.note_present(ahead)
        return {**since, **self._index.note_vanished(ahead, now)}

    def _is_in_place(self) -> bool:
        """If the whole directory was moved or unmounted under us, or another is in its place, it is not the records that are
        missing. Blocks."""
        try:
            return os.path.samestat(self._place, os.stat(self._repository.path))
        except OSError:
            return False

    async def _drop(self, upload_id: str) -> bool:
        async def drop() -> None:
            await self._access.change(lambda: self._index.drop_version(upload_id))

        return await self.host.clear_away(upload_id, drop)
