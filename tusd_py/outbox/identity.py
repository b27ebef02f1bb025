"""Names for events: unique, the same each time an event is delivered, and in the order of time for people who sort them."""

from __future__ import annotations

import os

__all__ = ["new_event_id"]


def new_event_id(now: float) -> str:
    """A UUID of version 7 (RFC 9562) without hyphens; `now` is in seconds since the epoch."""
    value = (int(now * 1000) & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"
