"""Write-ahead logging in a SQLite database that several processes open at the same moment."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["use_wal"]

_PAUSE = 0.01


def use_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switch the database to a write-ahead log, or see that it has one. Blocks, at most `patience` seconds.

    SQLite's own timeout does not cover this: where another process is about to write to a database that has no such log yet,
    the switch fails at once with SQLITE_BUSY. Raises `sqlite3.OperationalError`.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return
