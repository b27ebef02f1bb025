"""Digests of contents that were put together of others: computed afterwards, one content at a time.

Which have none yet is for the index to say, so that nothing is forgotten over a restart.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Protocol

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.model import ChunkDamaged, IndexDamaged, Manifest, RepositoryError
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.intake import Intake

__all__ = ["Digester", "Digests"]

_log = logging.getLogger("tusd_py.cas")

LOOK = 10.0
"""Seconds between two looks for contents without digests."""

PAGE = 100

FAILED = 10_000
"""Contents that are remembered to have failed."""

AGAIN = 3600.0
"""Seconds until they are tried again: the disk was full, or the process was killed; a damaged chunk may be whole again."""


class Digests(Protocol):
    """The ingest process, as far as it is needed here."""

    async def digest(self, manifest: Manifest) -> tuple[bytes, bytes]:
        """BLAKE3 and SHA-256 of a content, which are noted in the index as well. Raises `StorageFailure`, `ChunkDamaged`,
        `RepositoryError`."""


class Digester:
    """Waits while anything is being taken in."""

    def __init__(self, access: Access, digests: Digests, intake: Intake) -> None:
        self._access, self._index = access, access.repository.index
        self._digests, self._intake = digests, intake
        self._failed: dict[bytes | str, float] = {}  # when, by name, or by what is wrong where not even that can be read

    async def run(self) -> None:
        """Until cancelled. Failures are logged."""
        while True:
            try:
                while await self.look():
                    pass
            except StorageFailure as failure:
                _log.error("contents without digests could not be looked up", extra={"fields": {"error": str(failure)}})
            await asyncio.sleep(LOOK)

    async def look(self) -> bool:
        """Compute some that are missing, if any are; whether it is worth another look at once. Raises `StorageFailure`."""
        found = await self._access.look(lambda: self._index.undigested(PAGE + len(self._failed)))
        done = 0
        for manifest in found:
            if isinstance(manifest, IndexDamaged):
                self._note_damage(manifest)
            elif time.monotonic() - self._failed.get(manifest.name, -math.inf) >= AGAIN:
                await self._intake.idle()
                await self._digest(manifest)
                done += 1
        return bool(done)

    def _note_damage(self, damage: IndexDamaged) -> None:
        if str(damage) not in self._failed:
            self._remember(str(damage))
            _log.error("a content without digests is damaged in the index", extra={"fields": {"error": str(damage)}})

    def _remember(self, failed: bytes | str) -> None:
        self._failed.pop(failed, None)
        self._failed[failed] = time.monotonic()
        if len(self._failed) > FAILED:
            del self._failed[next(iter(self._failed))]

    async def _digest(self, manifest: Manifest) -> None:
        try:
            await self._digests.digest(manifest)
            self._failed.pop(manifest.name, None)
        except (StorageFailure, RepositoryError, ChunkDamaged) as failure:
            self._remember(manifest.name)
            fields = {"content": manifest.name.hex(), "error": str(failure)}
            _log.warning("the digests of a content could not be computed", extra={"fields": fields})
