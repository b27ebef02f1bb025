"""What SQLite's errors mean to those who asked for something. The statements of this package are right: where SQLite does not
understand them, or finds a constraint broken that they keep, the database is not what was written."""

from __future__ import annotations

import sqlite3

from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure
from tusd_py_cas.model import IndexDamaged

__all__ = ["BUSY_TIMEOUT", "ERRORS", "is_busy", "translate"]

ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite's module raises. The latter in the place of an error whose message quotes damaged bytes."""

BUSY_TIMEOUT = 30.0
"""Seconds to wait for others who write. Transactions take milliseconds; on a disk that is failing, seconds."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether others keep the index locked."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


_NOT_ALLOWED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,  # a table or column is not there
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,  # nothing that is written is: a length has changed
    }
)

# Extended codes: making room in the index of the log fails like any input or output, but means that there is none.
_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE})


def translate(error: Exception, path: str, doing: str) -> Exception:
    """The failure to raise `from error`, which happened while `doing` something with the index at `path`."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: a text that is no UTF-8, or a connection used wrongly
        if isinstance(error, sqlite3.OperationalError | UnicodeDecodeError):
            return _damaged(error, path, doing)
        return StorageFailure(f"{doing}: {error}")
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code in _NO_ROOM:
        return OutOfSpace(f"{doing}: {error}")
    if primary in _NOT_ALLOWED:
        return ReadOnlyStorage(f"{doing}: {error}")
    if primary in _BUSY:
        return StorageFailure(f"{doing}: another process kept the index {path!r} for {BUSY_TIMEOUT:g} s")
    if primary in _DAMAGED:
        return _damaged(error, path, doing)
    return StorageFailure(f"{doing}: {error}")


def _damaged(error: Exception, path: str, doing: str) -> IndexDamaged:
    return IndexDamaged(f"{doing}: the index {path!r} is damaged ({error}): restore it from a backup")
