"""`MemoryLimiter` keeps the port's promises."""

from __future__ import annotations

import pytest

from tusd_py.limits.memory import MemoryLimiter
from tusd_py.testing.limiter_suite import LimiterSuite, Open, TurnedClock, Uploads


class TestMemoryLimiter(LimiterSuite):
    @pytest.fixture
    def open(self, clock: TurnedClock, uploads: Uploads) -> Open:
        return lambda limits: MemoryLimiter(limits, uploads, clock=clock, free=self.free)
