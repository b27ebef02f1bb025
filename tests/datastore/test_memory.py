"""`MemoryStore` keeps the port's promises."""

from __future__ import annotations

import pytest

from tusd_py.datastore.memory import MemoryStore
from tusd_py.testing import DataStoreSuite


class TestMemoryStore(DataStoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
