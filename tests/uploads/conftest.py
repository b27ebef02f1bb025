"""A world per test, closed behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.uploads.support import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.close()
