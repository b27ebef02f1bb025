"""What the tests of limiters share: records, a clock that is turned, and how a limiter is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tusd_py.limits.rules import LimitSettings
from tusd_py.ports.failures import RecordDamaged, UploadNotFound
from tusd_py.ports.limits import Limiter
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.upload import Upload

__all__ = ["ME", "YOU", "LimiterTests", "Open", "TurnedClock", "Uploads"]

ME, YOU = "192.0.2.1", "192.0.2.2"


class TurnedClock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


class Uploads:
    """Records for a limiter to recover from; whoever is in `damaged` can't be read."""

    def __init__(self) -> None:
        self.records: dict[str, Upload] = {}
        self.damaged: set[str] = set()
        self.on_load: Callable[[str], Awaitable[None]] | None = None

    def put(self, *uploads: Upload) -> None:
        self.records.update((upload.id, upload) for upload in uploads)

    async def ids(self) -> AsyncIterator[str]:
        for upload_id in [*self.records, *self.damaged]:
            yield upload_id

    async def load(self, upload_id: str) -> Upload:
        if upload_id in self.damaged:
            raise RecordDamaged(upload_id)
        if upload_id not in self.records:
            raise UploadNotFound(upload_id)
        found = self.records[upload_id]
        if self.on_load is not None:
            await self.on_load(upload_id)
        return found


Open = Callable[[LimitSettings], Limiter]
"""Opens a limiter with these limits over the test's records, its clock and its free space."""


class LimiterTests:
    """Override `open`, using `clock`, `uploads` and `free` (a callable that returns `self.room`)."""

    room = 1 << 40

    def free(self) -> int:
        return self.room

    @pytest.fixture
    def clock(self) -> TurnedClock:
        return TurnedClock()

    @pytest.fixture
    def uploads(self) -> Uploads:
        return Uploads()

    @pytest.fixture
    def open(self, clock: TurnedClock, uploads: Uploads) -> Open:
        raise NotImplementedError("an adapter's test class overrides this fixture")

    async def refused(self, limiter: Limiter, upload: Upload, client: str = ME) -> Refusal | None:
        try:
            await limiter.admit(upload, client)
        except Refusal as refusal:
            return refusal
        return None
