"""What may be watched, and one who watches: it has the latest state of each upload that it has not been told of yet. So a slow
one misses what lay between, and holds nobody up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from tusd_py.protocol.upload import Upload
from tusd_py.uploads.progress import Progress

__all__ = ["Everything", "One", "OwnedBy", "Subject", "Watch", "subjects_of"]

MAX_PENDING = 10_000
"""Uploads with news for a watcher that takes none, a few hundred bytes each; with more the watch ends."""

CLOCK_SLACK = 0.1
"""Seconds that the time of a file may be behind the clock: file systems take it from a coarse one."""


@dataclass(frozen=True, slots=True)
class One:
    """The upload with this id."""

    upload_id: str


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """The uploads of this owner."""

    owner: str


@dataclass(frozen=True, slots=True)
class Everything:
    """All uploads."""


Subject = One | OwnedBy | Everything


class Watch:
    """One watcher. `take` is for one task."""

    def __init__(self, subject: Subject, since: float) -> None:
        self.subject, self.since = subject, since - CLOCK_SLACK
        self._pending: dict[str, Progress] = {}
        self._news, self._closed = asyncio.Event(), asyncio.Event()

    def put(self, progress: Progress) -> None:
        """Something new; it takes the place of what has not been taken of the same upload."""
        self._pending[progress.upload.id] = progress
        if len(self._pending) > MAX_PENDING:
            self.close()
        self._news.set()

    def close(self) -> None:
        """No more will come."""
        self._closed.set()
        self._news.set()

    async def wait_closed(self) -> None:
        """Return once it is closed, whoever has closed it."""
        await self._closed.wait()

    async def take(self, timeout: float) -> list[Progress] | None:
        """What is new, as soon as there is something; nothing after `timeout` seconds; None once it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()
        if self._closed.is_set():
            return None
        self._news.clear()
        taken, self._pending = list(self._pending.values()), {}
        return taken


def subjects_of(upload: Upload) -> tuple[Subject, ...]:
    """What somebody may watch to hear of this upload."""
    whole: tuple[Subject, ...] = (One(upload.id), Everything())
    return whole if upload.owner is None else (*whole, OwnedBy(upload.owner))
