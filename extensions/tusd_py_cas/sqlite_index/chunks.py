"""The table of chunks. Functions that work inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from tusd_py_cas.model import IndexDamaged, State, StoredChunk
from tusd_py_cas.sqlite_index.rows import CHUNK, STATES, fits, join_names, stored_chunk
from tusd_py_cas.sqlite_index.seals import seal_chunk

__all__ = ["NAMES", "add_chunks", "all_chunks", "find_chunks", "mark_damaged"]

NAMES = """
    WITH RECURSIVE
        positions (position) AS (SELECT 0 WHERE :count > 0
                                 UNION ALL SELECT position + 1 FROM positions WHERE position + 1 < :count),
        names (position, name) AS (SELECT position, substr(:names, 32 * position + 1, 32) FROM positions)
"""
"""A table of names, given as one value: `:count` of them joined in `:names`. Faster than a list of parameters, whose length is
limited too, and by far faster than a query for each."""


_SOUND = "seal = chunk_seal(name, size, stored_size, codec, state)"
"""`chunk_seal` is `seal_chunk`, which connections know."""


def find_chunks(connection: sqlite3.Connection, names: Sequence[bytes]) -> dict[bytes, StoredChunk]:
    """A row that does not fit its seal says nothing: whoever stores the chunk again makes it good."""
    rows = connection.execute(
        f"{NAMES} SELECT {CHUNK} FROM names CROSS JOIN chunks AS c ON c.name = names.name WHERE c.state = {State.LIVE:d}",
        {"names": join_names(names), "count": len(names)},
    )
    return {row[0]: stored_chunk(*row) for row in rows if fits(*row)}


def add_chunks(
    connection: sqlite3.Connection, chunks: Sequence[StoredChunk], exists: Callable[[StoredChunk], bool], now: float
) -> list[StoredChunk]:
    """The chunks that do not exist."""
    live = find_chunks(connection, [chunk.name for chunk in chunks])
    missing, added = [], list[tuple[object, ...]]()
    for chunk in chunks:
        known = live.get(chunk.name)
        if known is not None and known.size != chunk.size:
            raise IndexDamaged(f"chunk {chunk.name.hex()} has {known.size} bytes in the index, and {chunk.size} in fact")
        if known is not None and (known == chunk or exists(known)):
            continue
        if not exists(chunk):
            missing.append(chunk)
            continue
        row = (chunk.name, chunk.size, chunk.stored_size, chunk.codec.value, State.LIVE.value)
        added.append((*row, now, seal_chunk(*row)))
        live[chunk.name] = chunk
    connection.executemany(
        """INSERT INTO chunks (name, size, stored_size, codec, state, changed_at, seal) VALUES (?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (name) DO UPDATE SET size = excluded.size, stored_size = excluded.stored_size, codec = excluded.codec,
               state = excluded.state, changed_at = excluded.changed_at, seal = excluded.seal""",
        added,
    )
    return missing


def mark_damaged(connection: sqlite3.Connection, names: Sequence[bytes], now: float) -> None:
    connection.executemany(
        f"""UPDATE chunks SET state = {State.DAMAGED:d}, changed_at = ?,
                seal = chunk_seal(name, size, stored_size, codec, {State.DAMAGED:d})
            WHERE name = ? AND state = {State.LIVE:d} AND {_SOUND}""",
        [(now, name) for name in names],
    )


def all_chunks(connection: sqlite3.Connection, after: bytes, limit: int) -> list[tuple[StoredChunk, State]]:
    rows = connection.execute(
        f"SELECT {CHUNK} FROM chunks AS c WHERE c.name > ? AND {_SOUND} ORDER BY c.name LIMIT ?", (after, limit)
    )
    return [(stored_chunk(*row), STATES[row[4]]) for row in rows]
