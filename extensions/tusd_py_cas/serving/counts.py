"""What the extension has done in this process, in numbers that only grow."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """Since the process began; the bytes are those of contents that it has taken in. Belongs to an event loop."""

    bytes_in: int = 0
    bytes_deduplicated: int = 0
    bytes_stored: int = 0
    ingested: int = 0
    failures: int = 0
    damaged: int = 0
    freed: int = 0
    waiting: int = 0
    """The one that does not only grow: uploads whose own files are to go and can't yet."""
