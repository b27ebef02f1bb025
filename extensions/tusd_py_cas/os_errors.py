"""`OSError` to `tusd_py.ports.failures`, in one place. The message says what was being done; the cause keeps the rest."""

from __future__ import annotations

import errno

from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure

__all__ = ["reading_failed", "writing_failed"]

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def writing_failed(error: OSError, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing` something that changes the repository."""
    if error.errno in _NO_SPACE:
        kind: type[StorageFailure] = OutOfSpace
    elif error.errno in _NOT_ALLOWED:
        kind = ReadOnlyStorage
    else:
        kind = StorageFailure
    return kind(f"{doing}: {error.strerror or error}")


def reading_failed(error: OSError, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing` something that only looks."""
    return StorageFailure(f"{doing}: {error.strerror or error}")
