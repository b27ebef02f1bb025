"""Opening `events.db`, and what SQLite's errors mean to those who asked for something."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from tusd_py.fs.directories import sync_directory
from tusd_py.fs.errors import translate
from tusd_py.fs.wal import use_wal
from tusd_py.outbox.schema import migrate, version
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure

__all__ = ["BUSY_TIMEOUT", "is_beyond_repair", "open_database", "open_existing", "translate_sqlite"]

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process that is writing. A commit takes milliseconds, on a disk that is failing seconds."""

FILE_MODE = 0o600
"""Events hold the headers of requests, and those hold passwords."""

_WAL_LIMIT = 64 * 1024 * 1024
"""Bytes that the log keeps on disk after a burst."""


def open_database(path: str, *, durable: bool) -> sqlite3.Connection:
    """The database, made or brought up to date if need be; the calling thread's. Blocks.

    With `durable`, a database that is new, and the names of the directories that lead to it, would survive a power cut.
    Raises `StorageFailure`.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        if durable:
            _sync_names(path)
    except OSError as error:
        raise translate(error, f"opening {path!r}") from error
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(f"file:{_quoted(path)}?mode=rw")
        use_wal(connection, BUSY_TIMEOUT)
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        migrate(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise translate_sqlite(error, f"opening {path!r}") from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def open_existing(path: str) -> sqlite3.Connection | None:
    """The database that a server has made, for administration; None where there is none. Raises `StorageFailure`."""
    if not os.path.exists(path):
        return None
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(f"file:{_quoted(path)}?mode=rw")
        if version(connection) == 0:
            connection.close()
            return None
        migrate(connection)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise translate_sqlite(error, f"opening {path!r}") from error
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _sync_names(path: str) -> None:
    """SQLite syncs the directory of its files, not what leads to that. Where the uploads' directory is may be out of reach."""
    state = os.path.dirname(path)
    uploads = os.path.dirname(state)
    sync_directory(state)
    sync_directory(uploads)
    with contextlib.suppress(PermissionError):
        sync_directory(os.path.dirname(uploads))


_SPACE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG})
_NOT_ALLOWED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# Extended codes: making room in the index of the log fails like any input or output, but means that there is none.
_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE})


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def translate_sqlite(error: sqlite3.Error, doing: str) -> StorageFailure:
    """The failure to raise `from error`, which happened while `doing`."""
    code, primary = getattr(error, "sqlite_errorcode", 0), _primary(error)
    if primary in _SPACE or code in _NO_ROOM:
        return OutOfSpace(f"{doing}: {error}")
    if primary in _NOT_ALLOWED:
        return ReadOnlyStorage(f"{doing}: {error}")
    if primary in _BUSY:
        return StorageFailure(f"{doing}: another process kept the database for {BUSY_TIMEOUT:g} s")
    if primary in _BROKEN:
        return StorageFailure(f"{doing}: {error}; move events.db away to begin anew, without the events in it")
    return StorageFailure(f"{doing}: {error}")


def is_beyond_repair(error: BaseException) -> bool:
    """Whether the connection that raised this had better be opened again."""
    usual = {*_SPACE, *_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_INTERRUPT}
    return isinstance(error, sqlite3.Error) and _primary(error) not in usual
