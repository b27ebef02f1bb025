"""Connections to the index, and the transactions on them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from tusd_py.fs.directories import sync_directory
from tusd_py.fs.wal import use_wal
from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.layout import FILE_MODE
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.os_errors import writing_failed
from tusd_py_cas.sqlite_index.errors import BUSY_TIMEOUT, ERRORS, is_busy, translate
from tusd_py_cas.sqlite_index.schema import prepare
from tusd_py_cas.sqlite_index.seals import seal_chunk

__all__ = ["Connections"]

_CACHE = 8 * 1024
"""KiB of pages that a connection keeps: the names of a leaf's chunks are all over the index."""

_IDLE = 4
"""Connections that are kept for the next who need one."""

_STEP, _HURRIED_STEP = 0.5, 0.05
"""Seconds that SQLite waits at a time for others who write: in between it can be told that there is no time. Then several may
be waiting for one another, who have one step each."""

_WAL_LIMIT = 64 << 20
"""Bytes that the log keeps on disk after a burst."""


class Connections:
    """A transaction has a connection for itself, so that any number of threads may have one each. Those who write wait for one
    another, in this process and in others, for at most `BUSY_TIMEOUT` seconds each.

    A connection on which SQLite has failed is not used again. Everything raises `StorageFailure` and `IndexDamaged`.
    """

    def __init__(self, path: str, *, durable: bool) -> None:
        self.path = path
        self._durable = durable
        self._lock = threading.Lock()  # guards the two that follow
        self._idle: list[sqlite3.Connection] = []
        self._closed = self._hurried = False
        self._writing = threading.Lock()

    def open(self, repository_id: str, *, create: bool) -> None:
        """Look whether the index is this repository's, and with `create` make it if need be. Raises `RepositoryError` too."""
        doing = "opening the index"
        self._make_file(create)
        connection = self._connect(doing)
        try:
            use_wal(connection, BUSY_TIMEOUT)
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            prepare(connection, self.path, repository_id, create=create)
        except ERRORS as error:
            _close(connection)
            raise translate(error, self.path, doing) from error
        except BaseException:
            _close(connection)
            raise
        self._give_back(connection)

    @contextlib.contextmanager
    def reading(self, doing: str) -> Iterator[sqlite3.Connection]:
        """What is read in the block is of one moment. Nobody waits for it, nor it for others."""
        with self._transaction(_begin, doing) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """All of the block or, when it raises, nothing; nobody else writes meanwhile. Durable on return."""
        if not self._writing.acquire(timeout=BUSY_TIMEOUT):
            raise StorageFailure(f"{doing}: another thread kept the index {self.path!r} for {BUSY_TIMEOUT:g} s")
        try:
            with self._transaction(self._begin_writing, doing) as connection:
                yield connection
        finally:
            self._writing.release()

    def hurry(self) -> None:
        """Have nobody wait long for other processes any more."""
        self._hurried = True

    def close(self) -> None:
        """Connections that are in use are closed at the end of their transaction. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)

    @contextlib.contextmanager
    def _transaction(self, begin: _Begin, doing: str) -> Iterator[sqlite3.Connection]:
        connection = self._take(doing)
        try:
            begin(connection, doing)
            yield connection
            connection.execute("COMMIT")
        except ERRORS as error:
            _close(connection)  # which rolls back; a new one has no memory of what went wrong
            raise translate(error, self.path, doing) from error
        except BaseException:
            self._roll_back(connection)
            raise
        self._give_back(connection)

    def _begin_writing(self, connection: sqlite3.Connection, doing: str) -> None:
        """Waits for other processes that write. A connection on which that has failed must not be used again."""
        deadline = time.monotonic() + BUSY_TIMEOUT
        while not self._has_locked(connection):
            if self._hurried:
                raise StorageFailure(f"{doing}: another process keeps the index {self.path!r}, and there is no time to wait")
            if time.monotonic() >= deadline:
                raise StorageFailure(f"{doing}: another process kept the index {self.path!r} for {BUSY_TIMEOUT:g} s")
        _set_patience(connection, BUSY_TIMEOUT)

    def _has_locked(self, connection: sqlite3.Connection) -> bool:
        _set_patience(connection, _HURRIED_STEP if self._hurried else _STEP)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return False
            raise
        return True

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            _close(connection)
        else:
            self._give_back(connection)

    def _take(self, doing: str) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StorageFailure(f"{doing}: the index {self.path!r} is closed")
            if self._idle:
                return self._idle.pop()
        return self._connect(doing)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        _close(connection)

    def _connect(self, doing: str) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self.path))}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,  # one thread at a time has it
            )
            connection.create_function("chunk_seal", 5, seal_chunk, deterministic=True)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            connection.execute(f"PRAGMA cache_size = -{_CACHE}")
            connection.execute("PRAGMA cell_size_check = ON")  # sees some damage that would else be read over
        except ERRORS as error:
            if connection is not None:
                _close(connection)
            raise translate(error, self.path, doing) from error
        return connection

    def _make_file(self, create: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            os.close(os.open(self.path, flags, FILE_MODE))  # SQLite gives the files beside it the same mode
            if create and self._durable:
                sync_directory(os.path.dirname(self.path) or ".")
        except FileNotFoundError as error:
            raise RepositoryError(f"there is no index {self.path!r}: restore it from a backup") from error
        except OSError as error:
            raise writing_failed(error, f"opening the index {self.path!r}") from error


_Begin = Callable[[sqlite3.Connection, str], None]


def _begin(connection: sqlite3.Connection, _: str) -> None:
    connection.execute("BEGIN")


def _set_patience(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")


def _close(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # the log that it would have tidied up is found by the next who opens it
        connection.close()
