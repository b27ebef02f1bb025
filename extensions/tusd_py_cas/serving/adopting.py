"""Taking in what was finished while nobody heard of it: before this extension was turned on, or when an event was lost.

One upload at a time, and only while nothing else is being taken in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tusd_py.ports.extension import Host
from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.serving.intake import Intake

__all__ = ["Adopter"]

_log = logging.getLogger("tusd_py.cas")

AGAIN = 3600.0
"""Seconds after which all are looked at again: some could not be taken in, or another process died before it could tell."""

PAUSE = 0.005
"""Seconds between two uploads: of a directory of a million, a look at each takes two hours, and nobody notices."""


class Adopter:
    """`host` is set before anything is asked for. `taken_in` is called with the id of each upload that was adopted."""

    host: Host

    def __init__(self, intake: Intake, taken_in: Callable[[str], None]) -> None:
        self._intake, self._taken_in = intake, taken_in

    async def run(self) -> None:
        """Look at all uploads, again and again, until cancelled."""
        while True:
            await self.look_at_all()
            await asyncio.sleep(AGAIN)

    async def look_at_all(self) -> bool:
        """Whether all that is finished is taken in. Failures are logged."""
        adopted = failed = 0
        try:
            async for upload_id in self.host.ids():
                await self._intake.idle()
                try:
                    adopted += await self.adopt(upload_id)
                except StorageFailure as failure:
                    failed += 1
                    fields = {"id": upload_id, "error": str(failure)}
                    _log.warning("a finished upload could not be taken in", extra={"fields": fields})
                await asyncio.sleep(PAUSE)
        except StorageFailure as failure:
            failed += 1
            _log.error("uploads could not be listed", extra={"fields": {"error": str(failure)}})
        if adopted or failed:
            counts = {"adopted": adopted, "failed": failed}
            _log.info("uploads that were finished before have been taken in", extra={"fields": counts})
        return not failed

    async def adopt(self, upload_id: str) -> bool:
        """Take an upload in and tell of it, if it is finished and was not taken in yet. Raises `StorageFailure`."""
        taken = await self._intake.take(upload_id)
        if taken is None or not taken.fresh:
            return False
        await self._intake.tell(taken)
        self._taken_in(upload_id)
        return True
