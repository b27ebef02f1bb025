"""An index on a disk, and its clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tusd_py_cas.sqlite_index import SqliteIndex

from tests.cas.index.support import Clock, open_index


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def index(tmp_path: Path, clock: Clock) -> Iterator[SqliteIndex]:
    index = open_index(tmp_path / "index.db", clock)
    yield index
    index.close()
