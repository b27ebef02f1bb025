"""How SQLite finds, and guards, what is noted of missing uploads."""

from __future__ import annotations

import sqlite3

import pytest
from tusd_py_cas.sqlite_index import SqliteIndex, connections, vanished

from tests.cas.index.support import content, version

BY_UPLOAD = "SEARCH versions USING COVERING INDEX sqlite_autoindex_versions_1"


def plans(connection: sqlite3.Connection, ask: object, *arguments: object) -> list[str]:
    """How SQLite answers what `ask` asks."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    ask(connection, *arguments)  # type: ignore[operator]
    connection.set_trace_callback(None)
    return [row[-1] for query in asked for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]


def test_references_are_guarded_on_every_connection(index: SqliteIndex) -> None:
    """What is noted goes with its version only on connections that have been told to."""
    with index._connections.reading("one") as one, index._connections.writing("another") as another:
        assert one is not another
        assert [each.execute("PRAGMA foreign_keys").fetchone() for each in (one, another)] == [(1,), (1,)]


def test_nothing_is_sorted_and_no_table_is_looked_through(index: SqliteIndex) -> None:
    with index._connections.reading("explaining") as connection:
        one_end, both_ends = (f"{BY_UPLOAD} ({ends})" for ends in ("upload>?", "upload>? AND upload<?"))
        assert plans(connection, vanished.uploads, "", 1000) == [both_ends, one_end]
        for ask in (vanished.without_version, vanished.since, vanished.noted_among):
            steps = plans(connection, ask, ["a", "b"])
            assert [step for step in steps if "SCAN" in step.replace("SCAN CONSTANT ROW", "") or "TEMP" in step] == []
        assert plans(connection, vanished.noted, "", 10) == ["SEARCH vanished USING PRIMARY KEY (upload>?)"]


def test_nobody_who_writes_is_waited_for_where_nothing_changes(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    version(index, "a", content(index, 1))
    version(index, "b", content(index, 1))
    index.note_vanished(["a"], 7)
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.01)
    with index._connections.writing("working"):
        assert index.note_vanished(["a", "nobody"], 9) == {"a": 7.0}
        index.note_present(["b", "nobody"])
    assert list(index.vanished()) == ["a"]
