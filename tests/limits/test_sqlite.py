"""`SqliteLimiter` keeps the port's promises; and what is special about a database that several processes write to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tusd_py.limits.rules import LimitSettings
from tusd_py.limits.sqlite import SqliteLimiter
from tusd_py.testing.limiter_suite import LimiterSuite, TurnedClock, Uploads


class TestSqliteLimiter(LimiterSuite):
    @pytest.fixture
    async def open(
        self, clock: TurnedClock, uploads: Uploads, tmp_path: Path
    ) -> AsyncIterator[Callable[[LimitSettings], SqliteLimiter]]:
        async with AsyncExitStack() as stack:

            def make(limits: LimitSettings) -> SqliteLimiter:
                limiter = SqliteLimiter(str(tmp_path), limits, uploads, clock=clock, free=self.free)
                stack.push_async_callback(limiter.close)
                return limiter

            yield make
