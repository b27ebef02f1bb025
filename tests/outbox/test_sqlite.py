"""The outbox in SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tusd_py.outbox.sqlite import SqliteOutbox
from tusd_py.testing.outbox_suite import OutboxSuite, Time


class TestSqliteOutbox(OutboxSuite):
    @pytest.fixture
    async def outbox(self, tmp_path: Path, clock: Time) -> AsyncIterator[SqliteOutbox]:
        outbox = SqliteOutbox(str(tmp_path / ".tusd-py"), retention=100.0, clock=clock)
        yield outbox
        await outbox.close()
