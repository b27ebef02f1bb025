"""`OSError` to `tusd_py.ports.failures`, in one place. The message says what was being done; the cause keeps the rest."""

from __future__ import annotations

from tusd_py.fs.errors import translate
from tusd_py.ports.failures import StorageFailure

__all__ = ["reading_failed", "writing_failed"]


def writing_failed(error: OSError, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing` something that changes the repository."""
    return translate(error, doing)


def reading_failed(error: OSError, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing` something that only looks."""
    return StorageFailure(f"{doing}: {error.strerror or error}")
