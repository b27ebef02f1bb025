"""How much room a file system has."""

from __future__ import annotations

import os

from tusd_py.fs.errors import translate

__all__ = ["free_bytes"]


def free_bytes(directory: str) -> int:
    """Bytes that files below `directory` can still grow by, without what is kept for root. Raises `StorageFailure`. Blocks."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise translate(error, f"asking for the free space of {directory!r}") from error
    return found.f_bavail * found.f_frsize
