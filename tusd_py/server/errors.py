"""Why the server does not start."""

from __future__ import annotations

__all__ = ["StartError", "reason"]


class StartError(Exception):
    """The server cannot start. The message is one sentence for whoever started it."""


def reason(error: OSError) -> str:
    """What the system says, without the number and the file name."""
    return (error.strerror or str(error)).lower()
