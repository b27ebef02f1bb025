"""Looking through the whole index for what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from tusd_py_cas.model import IndexDamaged, State
from tusd_py_cas.sqlite_index.connections import Connections
from tusd_py_cas.sqlite_index.leaves import read_leaf
from tusd_py_cas.sqlite_index.manifests import Contents, load_manifest
from tusd_py_cas.sqlite_index.objects import find_version
from tusd_py_cas.sqlite_index.recent import Recent
from tusd_py_cas.sqlite_index.schema import describe, expected_schema

__all__ = ["NEVER", "check"]

_DOING = "checking the index"

_COMPLAINTS = 100
"""Findings of one kind that are told at most: whoever has so many does not read the rest."""

_BATCH = 100
"""Rows that are looked at in one transaction: a long one keeps the log from being tidied up."""

NEVER = 1e11
"""Seconds after 1970: some three thousand years. No clock has shown that."""

_RULES = (
    (
        "chunk {0} does not fit its seal",
        "SELECT hex(name) FROM chunks WHERE seal < 0 OR seal <> chunk_seal(name, size, stored_size, codec, state)",
    ),
    (
        "chunk {0} is condemned, but a leaf has it",
        f"""SELECT hex(name) FROM chunks AS c
            WHERE state = {State.CONDEMNED:d} AND EXISTS (SELECT 1 FROM pieces WHERE chunk = c.id)""",
    ),
    (
        "object {0!r} has no version",
        "SELECT name FROM objects AS o WHERE NOT EXISTS (SELECT 1 FROM versions WHERE object = o.id)",
    ),
    (
        "object {0!r} would use the number {1} again",
        """SELECT name, next_number FROM objects AS o
           WHERE next_number <= (SELECT MAX(number) FROM versions WHERE object = o.id)""",
    ),
    (
        "ids of {0} would be used again",
        """SELECT t.name FROM (SELECT 'leaves' AS name, MAX(id) AS used FROM leaves
                               UNION ALL SELECT 'manifests', MAX(id) FROM manifests) AS t
           WHERE t.used > COALESCE((SELECT MAX(seq) FROM sqlite_sequence AS s WHERE s.name = t.name), 0)""",
    ),
    (
        "upload {0!r} is said to be missing since {1!r} seconds after 1970",
        f"SELECT upload, since FROM vanished WHERE typeof(since) <> 'real' OR since NOT BETWEEN 0 AND {NEVER}",
    ),
)
"""What holds between rows beyond what the tables themselves demand: sentences, and queries for what they are true of."""


def check(connections: Connections, progress: Callable[[int], None]) -> Iterator[str]:
    """Everything that is wrong with the index; raises `StorageFailure` where it can't be read at all. `progress` is told how
    many more rows have been looked at."""
    for part in (_schema, _integrity, _references, _rules):
        yield from _told(connections, part)
    contents: Contents = Recent(1000)

    def leaf(connection: sqlite3.Connection, id: int, seal: bytes) -> None:
        read_leaf(connection, id, seal)

    def manifest(connection: sqlite3.Connection, id: int, name: bytes) -> None:
        load_manifest(connection, contents, id)

    def version(connection: sqlite3.Connection, id: int, upload_id: str) -> None:
        find_version(connection, contents, upload_id)

    yield from _each(connections, "SELECT id, seal FROM leaves", leaf, progress)
    yield from _each(connections, "SELECT id, name FROM manifests", manifest, progress)
    yield from _each(connections, "SELECT id, upload FROM versions", version, progress)


def _told(connections: Connections, part: Callable[[sqlite3.Connection], list[str]]) -> list[str]:
    try:
        with connections.reading(_DOING) as connection:
            return part(connection)
    except IndexDamaged as damage:
        return [str(damage)]


def _schema(connection: sqlite3.Connection) -> list[str]:
    found, expected = describe(connection), expected_schema()
    different = {key for key in found.keys() | expected.keys() if found.get(key, "") != expected.get(key, "")}
    return [f"the {kind} {name!r} is not as it was made" for kind, name in sorted(different, key=repr)]  # a name may be no text


def _integrity(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(f"PRAGMA integrity_check({_COMPLAINTS})")
    return [f"SQLite finds: {row[0]}" for row in rows if row[0] != "ok"]


def _references(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("PRAGMA foreign_key_check").fetchmany(_COMPLAINTS)
    return [f"a row of {table} refers to {parent} that are not there" for table, _, parent, _ in rows]


def _rules(connection: sqlite3.Connection) -> list[str]:
    return [sentence.format(*row) for sentence, query in _RULES for row in connection.execute(query).fetchmany(_COMPLAINTS)]


def _each(
    connections: Connections,
    query: str,
    look: Callable[[sqlite3.Connection, int, bytes], None] | Callable[[sqlite3.Connection, int, str], None],
    progress: Callable[[int], None],
) -> Iterator[str]:
    """What `look` raises about the rows of a query that has a column `id` and one more."""
    after, found = 0, 0
    while found < _COMPLAINTS:
        damages: list[str] = []
        try:
            with connections.reading(_DOING) as connection:
                rows = connection.execute(f"{query} WHERE id > ? ORDER BY id LIMIT ?", (after, _BATCH)).fetchall()
                for row in rows:
                    try:
                        look(connection, *row)
                    except IndexDamaged as damage:
                        damages.append(str(damage))
        except IndexDamaged as damage:  # of the database itself: it does not get better behind that
            yield str(damage)
            return
        yield from damages
        if not rows:
            return
        progress(len(rows))
        after, found = rows[-1][0], found + len(damages)
