"""A SQLite database that several processes write to, used from an event loop: all of its work is done in one thread of its own.

Foreign exceptions end here: `OutOfSpace`, `ReadOnlyStorage`, `StorageFailure`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

from tusd_py.fs.errors import translate
from tusd_py.fs.wal import use_wal
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure

__all__ = ["BUSY_TIMEOUT", "Database", "transaction"]

BUSY_TIMEOUT = 5.0
"""Seconds to wait for other processes, whose transactions take less than a millisecond: longer means that one is stopped."""

FILE_MODE = 0o600
"""The account names owners and addresses."""

_KINDS = {
    "SQLITE_FULL": OutOfSpace,
    "SQLITE_IOERR_WRITE": OutOfSpace,  # so SQLite says it where the log does not fit,
    "SQLITE_IOERR_SHMSIZE": OutOfSpace,  # and so of the log's index
    "SQLITE_READONLY": ReadOnlyStorage,
}
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_PASSING = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_CONSTRAINT")

T = TypeVar("T")


class Database:
    """The database in the file `path`, made by `migrate` inside one transaction. Opened when it is first used, so that a
    process may fork before; a power cut may take the last transactions, and never damages it (WAL, synchronous=NORMAL)."""

    def __init__(self, path: str, migrate: Callable[[sqlite3.Connection], None]) -> None:
        self._path, self._migrate = path, migrate
        self._pool: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Database {self._path!r}{' open' if self._connection else ''}>"

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in the thread, after everything that was asked for before. Raises `StorageFailure` and what `work` does.

        When the caller is cancelled, work that has begun is still done.
        """
        if self._closed:
            raise StorageFailure(f"{self._path!r} is closed")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="tusd-py sqlite")
        return await asyncio.wrap_future(self._pool.submit(self._do, work))

    async def close(self) -> None:
        """Do what was asked for, and let go. Never raises; idempotent."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.shield(asyncio.wrap_future(pool.submit(self._disconnect)))
            finally:
                pool.shutdown(wait=False)

    # In the thread

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except sqlite3.Error as error:
            if not _name(error).startswith(_PASSING):  # whatever it is, a new connection may do better
                self._disconnect()
            raise self._translated(error) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        except OSError as error:
            raise translate(error, f"opening {self._path!r}") from error
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            use_wal(connection, BUSY_TIMEOUT)
            connection.execute("PRAGMA synchronous=NORMAL")
            with transaction(connection):
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # the log that it would have tidied up is found by the next who opens it
                connection.close()

    def _translated(self, error: sqlite3.Error) -> StorageFailure:
        name = _name(error)
        if name.startswith(_DAMAGED):
            return StorageFailure(
                f"{self._path!r} is damaged ({error}): stop the server, remove it with its -wal and -shm files, start again"
            )
        kind = next((kind for start, kind in _KINDS.items() if name.startswith(start)), StorageFailure)
        return kind(f"using {self._path!r}: {error}")


def _name(error: sqlite3.Error) -> str:
    """SQLite's own name of the error; empty where Python has raised it."""
    return getattr(error, "sqlite_errorname", None) or ""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing, with the only right to write from its beginning, so that what it reads stays true."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
