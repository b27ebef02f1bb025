"""What events are called, and which of them tell that there is an upload."""

from __future__ import annotations

import os

from tusd_py.protocol.hooks import HookType

__all__ = ["AFTER_CREATION", "new_event_id"]

AFTER_CREATION = frozenset({HookType.POST_RECEIVE, HookType.POST_FINISH})
"""What comes true only of uploads that have been created."""


def new_event_id(now: float) -> str:
    """A UUID of version 7 (RFC 9562) without hyphens, unique and sorting by time; `now` is in seconds since the epoch."""
    value = (int(now * 1000) & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"
