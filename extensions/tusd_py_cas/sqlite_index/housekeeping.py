"""Finding what nothing refers to, and letting it go. Functions that work inside a transaction of the caller's.

Looking through all rows takes long and is done while others write; whatever was found is looked at again inside the transaction
that changes it, and the database's own foreign keys would stop what were missed there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from tusd_py_cas.index import Unused
from tusd_py_cas.model import Codec, State, StoredChunk
from tusd_py_cas.sqlite_index.rows import CHUNK, stored_chunk

__all__ = [
    "Drop",
    "Find",
    "bury",
    "condemn",
    "condemned",
    "drop_leaf",
    "drop_manifest",
    "unused",
    "unused_chunks",
    "unused_leaves",
    "unused_manifests",
    "without_row",
]

Find = Callable[[sqlite3.Connection, float, int, int], list[int]]
Drop = Callable[[sqlite3.Connection, int, float], bool]

_MANIFEST_UNUSED = "m.used_at < :before AND NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.manifest = m.id)"
_LEAF_UNUSED = "l.created_at < :before AND NOT EXISTS (SELECT 1 FROM nodes AS n WHERE n.leaf = l.id)"
_NO_LEAF = "NOT EXISTS (SELECT 1 FROM pieces AS p WHERE p.chunk = c.id)"
_CHUNK_UNUSED = f"c.state <> {State.CONDEMNED:d} AND c.changed_at < :before AND {_NO_LEAF}"


def unused_manifests(connection: sqlite3.Connection, before: float, after: int, limit: int) -> list[int]:
    """Ids, in order, of those that no version has, and none has had since `before`; those behind `after`."""
    return _ids(connection, f"SELECT m.id FROM manifests AS m WHERE m.id > :after AND {_MANIFEST_UNUSED}", before, after, limit)


def unused_leaves(connection: sqlite3.Connection, before: float, after: int, limit: int) -> list[int]:
    return _ids(connection, f"SELECT l.id FROM leaves AS l WHERE l.id > :after AND {_LEAF_UNUSED}", before, after, limit)


def unused_chunks(connection: sqlite3.Connection, before: float, after: int, limit: int) -> list[int]:
    return _ids(connection, f"SELECT c.id FROM chunks AS c WHERE c.id > :after AND {_CHUNK_UNUSED}", before, after, limit)


def _ids(connection: sqlite3.Connection, query: str, before: float, after: int, limit: int) -> list[int]:
    parameters = {"before": before, "after": after, "limit": limit}
    return [id for (id,) in connection.execute(f"{query} ORDER BY 1 LIMIT :limit", parameters)]


def drop_manifest(connection: sqlite3.Connection, id: int, before: float) -> bool:
    """Drop it if it is still unused. Its leaves count as used as long as it was there, and no longer."""
    query = f"SELECT 1 FROM manifests AS m WHERE m.id = :id AND {_MANIFEST_UNUSED}"
    if connection.execute(query, {"id": id, "before": before}).fetchone() is None:
        return False
    connection.execute("DELETE FROM nodes WHERE manifest = ?", (id,))
    connection.execute("DELETE FROM manifests WHERE id = ?", (id,))
    return True


def drop_leaf(connection: sqlite3.Connection, id: int, before: float) -> bool:
    """Drop it if it is still unused."""
    query = f"SELECT 1 FROM leaves AS l WHERE l.id = :id AND {_LEAF_UNUSED}"
    if connection.execute(query, {"id": id, "before": before}).fetchone() is None:
        return False
    connection.execute("DELETE FROM pieces WHERE leaf = ?", (id,))
    connection.execute("DELETE FROM leaves WHERE id = ?", (id,))
    return True


def condemn(connection: sqlite3.Connection, ids: Iterable[int], before: float) -> int:
    """Condemn those of the chunks that are still unused."""
    cursor = connection.executemany(
        f"""UPDATE chunks AS c SET state = {State.CONDEMNED:d},
                seal = chunk_seal(name, size, stored_size, codec, {State.CONDEMNED:d})
            WHERE c.id = :id AND {_CHUNK_UNUSED} AND seal = chunk_seal(name, size, stored_size, codec, state)""",
        [{"id": id, "before": before} for id in ids],
    )
    return cursor.rowcount


def condemned(connection: sqlite3.Connection, limit: int) -> list[StoredChunk]:
    rows = connection.execute(
        f"SELECT {CHUNK} FROM chunks AS c WHERE c.state = {State.CONDEMNED:d} ORDER BY c.id LIMIT ?", (limit,)
    )
    return [stored_chunk(*row) for row in rows]


def bury(connection: sqlite3.Connection, chunks: Sequence[StoredChunk], remove: Callable[[StoredChunk], None]) -> int:
    buried = 0
    for chunk in chunks:
        row = connection.execute(
            f"SELECT c.id, {CHUNK} FROM chunks AS c WHERE c.name = ? AND c.state = {State.CONDEMNED:d} AND {_NO_LEAF}",
            (chunk.name,),
        ).fetchone()
        if row is None:
            continue
        remove(stored_chunk(*row[1:]))  # as it is stored now, not when it was condemned
        connection.execute("DELETE FROM chunks WHERE id = ?", (row[0],))
        buried += 1
    return buried


def without_row(connection: sqlite3.Connection, files: Sequence[tuple[bytes, Codec]]) -> list[tuple[bytes, Codec]]:
    query = "SELECT 1 FROM chunks WHERE name = ? AND codec = ?"
    return [(name, codec) for name, codec in files if connection.execute(query, (name, codec.value)).fetchone() is None]


def unused(connection: sqlite3.Connection, before: float) -> Unused:
    """What dropping all of it, one behind the other, would come to."""
    staying = f"NOT ({_MANIFEST_UNUSED})"
    no_staying_manifest = (
        f"NOT EXISTS (SELECT 1 FROM nodes AS n JOIN manifests AS m ON m.id = n.manifest WHERE n.leaf = l.id AND {staying})"
    )
    leaf_goes = f"l.created_at < :before AND {no_staying_manifest}"
    no_staying_leaf = (
        f"NOT EXISTS (SELECT 1 FROM pieces AS p JOIN leaves AS l ON l.id = p.leaf WHERE p.chunk = c.id AND NOT ({leaf_goes}))"
    )
    parameters = {"before": before}
    manifests = connection.execute(f"SELECT COUNT(*) FROM manifests AS m WHERE {_MANIFEST_UNUSED}", parameters).fetchone()[0]
    leaves = connection.execute(f"SELECT COUNT(*) FROM leaves AS l WHERE {leaf_goes}", parameters).fetchone()[0]
    chunks, stored = connection.execute(
        f"""SELECT COUNT(*), COALESCE(SUM(c.stored_size), 0) FROM chunks AS c
            WHERE c.state = {State.CONDEMNED:d} AND {_NO_LEAF} OR c.changed_at < :before AND {no_staying_leaf}""",
        parameters,
    ).fetchone()
    return Unused(manifests, leaves, chunks, stored)
