"""`MemoryLocker` keeps the port's promises."""

from __future__ import annotations

import pytest

from tusd_py.locker.memory import MemoryLocker
from tusd_py.testing import LockerSuite


class TestMemoryLocker(LockerSuite):
    @pytest.fixture
    async def locker(self) -> MemoryLocker:
        return MemoryLocker()

    async def test_nothing_is_kept_of_locks_nobody_has(self, locker: MemoryLocker) -> None:
        lease = await locker.acquire("upload", lambda: None, 1)
        assert repr(locker) == "<MemoryLocker 1 held, 0 waiting>"
        await lease.release()
        assert repr(locker) == "<MemoryLocker 0 held, 0 waiting>"
