"""`OSError` to `tusd_py.ports.failures`, in one place. The message says what was being done; the cause keeps the rest."""

from __future__ import annotations

import errno

from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure

__all__ = ["translate"]

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""All three say that there is no file of that name; the last, that there never can be (tusd answers 500 to overlong ids)."""


def translate(error: OSError, doing: str, *, missing: type[StorageFailure] = StorageFailure) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing`.

    `missing` is what a name that isn't there means to the caller: often `UploadNotFound`, often just a failure.
    """
    if error.errno in _NO_SPACE:
        kind: type[StorageFailure] = OutOfSpace
    elif error.errno in _NOT_ALLOWED:
        kind = ReadOnlyStorage
    elif error.errno in _NOT_THERE:
        kind = missing
    else:
        kind = StorageFailure
    return kind(f"{doing}: {error.strerror or error}")
