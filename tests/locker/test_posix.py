"""`PosixLocker` keeps the port's promises, also between processes."""
from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tusd_py.locker.posix import PosixLocker
from tusd_py.testing import LockerSuite


class TestPosixLocker(LockerSuite):
    @pytest.fixture
    async def locker(self, tmp_path: Path) -> AsyncIterator[PosixLocker]:
        locker = PosixLocker(str(tmp_path))
        yield locker
        await locker.close()
