"""Waiting for a condition on the event loop, always bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["reached"]


async def reached(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Return once `condition` is true; fails after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - conditions are anything
            await asyncio.sleep(0.001)
