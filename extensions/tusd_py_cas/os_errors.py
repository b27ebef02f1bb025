"""`OSError` to `tusd_py.ports.failures`, in one place. The message says what was being done; the cause keeps the rest."""

from __future__ import annotations

import errno

from tusd_py.fs.errors import translate
from tusd_py.ports.failures import StorageFailure

__all__ = ["NO_LINKS", "reading_failed", "writing_failed"]

NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems answer that have no hard links, or no more of them."""


def writing_failed(error: OSError, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing` something that changes the repository."""
    return translate(error, doing)


def reading_failed(error: OSError, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing` something that only looks."""
    return StorageFailure(f"{doing}: {error.strerror or error}")
