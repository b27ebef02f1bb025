"""Collecting what nothing refers to any more, every now and then, in the ingest process."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any, Protocol

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.serving.counts import Counts

__all__ = ["Collections", "Collector"]

_log = logging.getLogger("tusd_py.cas")


class Collections(Protocol):
    """The ingest process, as far as it is needed here."""

    async def collect(self, *, grace: float) -> Mapping[str, Any]:
        """Collect what nothing has referred to for `grace` seconds: the fields of `keeping`'s `Collected`. Raises
        `StorageFailure`, `RepositoryError`."""


class Collector:
    """Collects every `interval` seconds."""

    def __init__(self, collections: Collections, counts: Counts, *, interval: float, grace: float) -> None:
        self._collections, self._counts = collections, counts
        self._interval, self._grace = interval, grace

    async def run(self) -> None:
        """Until cancelled; never, where the interval is 0. Not at once: a server that starts has other things to do."""
        while self._interval:
            await asyncio.sleep(self._interval * (0.9 + random.random() / 5))
            await self.collect()

    async def collect(self) -> None:
        """Once. Failures are logged: whatever they are, nothing is removed that must not be."""
        try:
            collected = await self._collections.collect(grace=self._grace)
        except (StorageFailure, RepositoryError) as failure:
            _log.error("nothing could be collected", extra={"fields": {"error": str(failure)}})
            return
        self._counts.freed += collected["freed_bytes"]
