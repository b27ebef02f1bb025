"""The suite's tests of what a store may know of contents, on one that knows it: else they would pass by testing nothing."""

from __future__ import annotations

import pytest

from tests.support.coded_store import CodedStore
from tusd_py.ports.datastore import DataStore
from tusd_py.testing import DataStoreSuite


class TestCodedStore(DataStoreSuite):
    @pytest.fixture
    def store(self) -> DataStore:
        return CodedStore()
