"""Several processes make the same database: none is turned away because another is at it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tusd_py.fs.wal import use_wal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process that has begun to write, with the journal that a new database has."""
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE one (n)")
        writer.execute("BEGIN IMMEDIATE")
        yield writer


def mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_waits_for_one_that_writes(path: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not wait there, whatever its timeout."""
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        writer.execute("COMMIT")

    monkeypatch.setattr("tusd_py.fs.wal.time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        use_wal(connection, 60)
        assert mode(connection) == "wal"
    assert len(pauses) == 1


def test_does_not_wait_for_ever(path: Path, writer: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            use_wal(connection, 0.05)
        writer.execute("COMMIT")
        assert mode(connection) == "delete"


def test_other_errors_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and long enough to be one" * 100)
    with closing(sqlite3.connect(tmp_path / "text")) as connection, pytest.raises(sqlite3.DatabaseError):
        use_wal(connection, 1e9)


def test_two_who_have_it_already(path: Path) -> None:
    with closing(sqlite3.connect(path)) as first, closing(sqlite3.connect(path)) as second:
        use_wal(first, 1)
        use_wal(second, 1)
        assert mode(second) == "wal"
