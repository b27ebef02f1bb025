"""The tables of leaves and their pieces. Functions that work inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tusd_py_cas.model import LEAF, NAME_SIZE, ChunkRef, ChunksMissing, IndexDamaged, State, StoredChunk
from tusd_py_cas.sqlite_index.chunks import NAMES
from tusd_py_cas.sqlite_index.recent import Recent
from tusd_py_cas.sqlite_index.rows import CHUNK, checked, fits, join_names, stored_chunk
from tusd_py_cas.sqlite_index.seals import seal_leaf

__all__ = ["Leaf", "Leaves", "add_leaf", "chunks_of", "load_leaf", "read_leaf"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a seal vouches for: names of chunks, one behind the other, and where they begin, the end of the last included. How
    they are stored is not here: that may change at any time."""

    names: bytes
    starts: Sequence[int]

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        return self.starts[-1]

    def name(self, position: int) -> bytes:
        return self.names[NAME_SIZE * position : NAME_SIZE * (position + 1)]


Leaves = Recent[tuple[int, bytes], Leaf]
"""Leaves whose seals have been found good, by id and seal: no other can ever have both. They weigh a unit for each chunk."""


def add_leaf(connection: sqlite3.Connection, chunks: Sequence[ChunkRef], now: float) -> int:
    if not 0 < len(chunks) <= LEAF:
        raise ValueError(f"a leaf has 1 to {LEAF} chunks, not {len(chunks)}")
    names = join_names([chunk.name for chunk in chunks])
    rows = connection.execute(
        f"""{NAMES} SELECT names.position, c.id, {CHUNK} FROM names CROSS JOIN chunks AS c ON c.name = names.name
            WHERE c.state = {State.LIVE:d}""",
        {"names": names, "count": len(chunks)},
    )
    pieces = [(position, id, row[1]) for position, id, *row in rows if fits(*row)]
    if len(pieces) != len(chunks):
        raise ChunksMissing(frozenset(chunk.name for chunk in chunks) - {chunks[piece[0]].name for piece in pieces})
    for position, _, size in pieces:
        if chunks[position].size != size:
            name = chunks[position].name.hex()
            raise IndexDamaged(f"chunk {name} has {size} bytes in the index, and {chunks[position].size} in fact")
    sizes = [chunk.size for chunk in chunks]
    leaf = connection.execute(
        "INSERT INTO leaves (size, count, seal, created_at) VALUES (?, ?, ?, ?)",
        (sum(sizes), len(sizes), seal_leaf(names, sizes), now),
    ).lastrowid
    assert leaf is not None
    connection.executemany(
        "INSERT INTO pieces (leaf, position, chunk) VALUES (?, ?, ?)", [(leaf, position, id) for position, id, _ in pieces]
    )
    return leaf


def load_leaf(connection: sqlite3.Connection, recent: Leaves, id: int, seal: bytes) -> Leaf:
    """The leaf that has this seal. Raises `IndexDamaged`."""
    if (leaf := recent.get((id, seal))) is None:
        leaf = read_leaf(connection, id, seal)
        recent.put((id, seal), leaf, leaf.count)
    return leaf


def read_leaf(connection: sqlite3.Connection, id: int, seal: bytes) -> Leaf:
    row = connection.execute("SELECT size, count, seal FROM leaves WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise IndexDamaged(f"leaf {id} is missing")
    size, count, found = checked(row, (int, int, bytes), f"leaf {id}")
    names, sizes = [], []
    rows = connection.execute(
        "SELECT p.position, c.name, c.size FROM pieces AS p CROSS JOIN chunks AS c ON c.id = p.chunk WHERE p.leaf = ? "
        "ORDER BY p.position",
        (id,),
    )
    for expected, piece in enumerate(rows):
        position, name, chunk_size = checked(piece, (int, bytes, int), f"a piece of leaf {id}")
        if position != expected or len(name) != NAME_SIZE:
            raise IndexDamaged(f"leaf {id} has no piece {expected}")
        names.append(name)
        sizes.append(chunk_size)
    leaf = Leaf(b"".join(names), (0, *accumulate(sizes)))
    if found != seal or seal_leaf(leaf.names, sizes) != seal or (leaf.size, leaf.count) != (size, count):
        raise IndexDamaged(f"leaf {id} does not fit its seal")
    return leaf


def chunks_of(connection: sqlite3.Connection, id: int, leaf: Leaf, first: int, last: int) -> list[StoredChunk]:
    """How the chunks [first, last) of a leaf are stored at this moment. Raises `IndexDamaged`."""
    rows = connection.execute(
        f"SELECT {CHUNK} FROM pieces AS p CROSS JOIN chunks AS c ON c.id = p.chunk "
        "WHERE p.leaf = ? AND p.position >= ? AND p.position < ? ORDER BY p.position",
        (id, first, last),
    )
    chunks = [stored_chunk(*row) for row in rows]
    expected = range(first, last)
    if len(chunks) != len(expected) or any(
        chunk.name != leaf.name(position) or chunk.size != leaf.starts[position + 1] - leaf.starts[position]
        for chunk, position in zip(chunks, expected, strict=True)
    ):
        raise IndexDamaged(f"leaf {id} does not fit its seal")
    return chunks
