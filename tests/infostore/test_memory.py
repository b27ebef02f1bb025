"""`MemoryInfoStore` keeps the port's promises."""

from __future__ import annotations

import pytest

from tusd_py.infostore.memory import MemoryInfoStore
from tusd_py.testing import InfoStoreSuite


class TestMemoryInfoStore(InfoStoreSuite):
    @pytest.fixture
    def store(self) -> MemoryInfoStore:
        return MemoryInfoStore()
