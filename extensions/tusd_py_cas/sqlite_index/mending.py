"""Putting right what can be without anybody's bytes: SQLite's own indexes, which are made of the tables, and what is damaged
and nobody needs, which goes. The latter is left when contents have been stored again, or was in no use anyway.

As long as a version is damaged, or what it is made of, nothing goes: what seems to be in no use may be its own. When all are
sound, everything that they need is, and so the rest can be dropped, whatever it once was.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator

from tusd_py_cas.model import IndexDamaged
from tusd_py_cas.sqlite_index.checking import NEVER
from tusd_py_cas.sqlite_index.connections import Connections
from tusd_py_cas.sqlite_index.healing import are_sound, is_damaged
from tusd_py_cas.sqlite_index.manifests import Contents, load_manifest
from tusd_py_cas.sqlite_index.objects import find_version
from tusd_py_cas.sqlite_index.recent import Recent

__all__ = ["mend"]

_BATCH = 100
"""Rows that are looked at in one transaction."""

_OF_A_ROW = re.compile(r"(CHECK constraint failed|NULL value|non-\w+ value) in ")
"""What SQLite finds that our own seals find, too."""

_STRAYS = (
    "DELETE FROM nodes WHERE NOT EXISTS (SELECT 1 FROM manifests AS m WHERE m.id = manifest)",
    "DELETE FROM pieces WHERE NOT EXISTS (SELECT 1 FROM leaves AS l WHERE l.id = leaf)",
    f"""DELETE FROM vanished WHERE typeof(since) <> 'real' OR since NOT BETWEEN 0 AND {NEVER}
           OR NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.upload = vanished.upload)""",
    "DELETE FROM objects WHERE NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.object = objects.id)",
    """DELETE FROM chunks WHERE (seal < 0 OR seal <> chunk_seal(name, size, stored_size, codec, state))
           AND NOT EXISTS (SELECT 1 FROM pieces AS p WHERE p.chunk = chunks.id)""",
    """UPDATE objects SET next_number = 1 + (SELECT MAX(number) FROM versions AS v WHERE v.object = objects.id)
           WHERE next_number <= (SELECT MAX(number) FROM versions AS v WHERE v.object = objects.id)""",
    """UPDATE sqlite_sequence SET seq = (SELECT MAX(id) FROM leaves) WHERE name = 'leaves'
           AND seq < (SELECT MAX(id) FROM leaves)""",
    """UPDATE sqlite_sequence SET seq = (SELECT MAX(id) FROM manifests) WHERE name = 'manifests'
           AND seq < (SELECT MAX(id) FROM manifests)""",
)
"""Rows that refer to nothing, or that nothing refers to any more, and numbers that would be used again."""


def mend(connections: Connections) -> int:
    """How many rows were dropped or put right, and one for indexes. Raises `IndexDamaged` where tables can't be read."""
    return _make_indexes_anew(connections) + _clear(connections)


def _make_indexes_anew(connections: Connections) -> int:
    """If something is wrong with the pages of the database, which has often to do with indexes alone."""
    doing = "making SQLite's indexes anew"
    with connections.reading(doing) as connection:
        if not _findings(connection):
            return 0
    with connections.writing(doing) as connection:
        connection.execute("REINDEX")
        for finding in _findings(connection):
            raise IndexDamaged(f"SQLite finds: {finding}")
    return 1


def _findings(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the pages of the database, values of single rows left aside."""
    rows = connection.execute("PRAGMA integrity_check")
    return [finding for (finding,) in rows if finding != "ok" and not _OF_A_ROW.match(finding)]


def _clear(connections: Connections) -> int:
    manifests = set(_damaged(connections, "manifests", _manifest_is_damaged))
    for _ in _damaged(connections, "versions", lambda connection, id: _version_is_damaged(connection, id, manifests)):
        return 0
    leaves = list(_damaged(connections, "leaves", is_damaged))
    changed = 0
    with connections.writing("dropping what is damaged") as connection:
        for id in manifests:
            changed += _drop(connection, "manifests", id, referring=("versions", "manifest"), own=("nodes", "manifest"))
        for id in leaves:
            changed += _drop(connection, "leaves", id, referring=("nodes", "leaf"), own=("pieces", "leaf"))
        for statement in _STRAYS:
            changed += connection.execute(statement).rowcount
    return changed


def _damaged(connections: Connections, table: str, is_damaged: Callable[[sqlite3.Connection, int], bool]) -> Iterator[int]:
    """Ids of damaged rows."""
    after = 0
    while True:
        with connections.reading("looking for what is damaged") as connection:
            query = f"SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT {_BATCH}"
            ids = [id for (id,) in connection.execute(query, (after,))]
            found = [id for id in ids if is_damaged(connection, id)]
        yield from found
        if not ids:
            return
        after = ids[-1]


def _manifest_is_damaged(connection: sqlite3.Connection, id: int) -> bool:
    """Itself, or in one of its leaves."""
    contents: Contents = Recent(0)
    try:
        loaded = load_manifest(connection, contents, id)
    except IndexDamaged:
        return True
    return loaded is not None and not are_sound(connection, loaded[1].leaves, loaded[1].seals)


def _version_is_damaged(connection: sqlite3.Connection, id: int, manifests: set[int]) -> bool:
    contents: Contents = Recent(0)
    row = connection.execute("SELECT upload, manifest FROM versions WHERE id = ?", (id,)).fetchone()
    if row is None:
        return False
    try:
        return row[1] in manifests or not isinstance(row[0], str) or find_version(connection, contents, row[0]) is None
    except IndexDamaged:
        return True


def _drop(connection: sqlite3.Connection, table: str, id: int, *, referring: tuple[str, str], own: tuple[str, str]) -> bool:
    """Unless something refers to it by now."""
    if connection.execute(f"SELECT 1 FROM {referring[0]} WHERE {referring[1]} = ? LIMIT 1", (id,)).fetchone() is not None:
        return False
    connection.execute(f"DELETE FROM {own[0]} WHERE {own[1]} = ?", (id,))
    return connection.execute(f"DELETE FROM {table} WHERE id = ?", (id,)).rowcount > 0
