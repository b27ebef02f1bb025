"""A server with the extension, for tests that need but one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cas.serving.support import Server


@pytest.fixture
async def keeping(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path, "keep") as server:
        yield server


@pytest.fixture
async def replacing(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path, "replace") as server:
        yield server
