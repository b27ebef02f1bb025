"""The tables of manifests and their nodes. Functions that work inside a transaction of the caller's."""

from __future__ import annotations

import logging
import sqlite3
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from blake3 import blake3 as blake3_hasher

from tusd_py_cas.index import NewContent
from tusd_py_cas.model import NAME_SIZE, ChunksMissing, IndexDamaged, Manifest, Piece, RepositoryError, State
from tusd_py_cas.sqlite_index.healing import are_sound, mend_leaves
from tusd_py_cas.sqlite_index.leaves import Leaves, add_leaf, chunks_of, load_leaf, read_leaf
from tusd_py_cas.sqlite_index.recent import Recent
from tusd_py_cas.sqlite_index.rows import MANIFEST, checked, manifest_of
from tusd_py_cas.sqlite_index.seals import seal_manifest

__all__ = [
    "Contents",
    "Nodes",
    "add_content",
    "add_manifest",
    "compose",
    "find_manifest",
    "find_starting_with",
    "is_whole",
    "load_manifest",
    "manifest_and_nodes",
    "pieces",
    "set_digests",
    "undigested",
]

_log = logging.getLogger("tusd_py.cas")

_COMPOSED = "tusd-py cas composed content"
"""BLAKE3's context of names of composed contents: no bytes have such a name."""

_OCCURRENCES = 1000
"""Places of a chunk that are looked at to find a content that begins with it. Runs of zeros are in millions of places."""

_BATCH = 256
"""Pieces that are read at once: some 256 MiB of content. Whoever reads for an hour learns of chunks that are stored anew."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The leaves of a manifest: where each begins, its id and its seal."""

    starts: Sequence[int]
    leaves: Sequence[int]
    seals: Sequence[bytes]


Contents = Recent[tuple[int, bytes], tuple[Manifest, Nodes]]
"""Manifests whose seals have been found good, by id and seal. They weigh a unit for each leaf, and one more."""


def load_manifest(connection: sqlite3.Connection, recent: Contents, id: int) -> tuple[Manifest, Nodes] | None:
    """The manifest of this id, None where there is none. Raises `IndexDamaged`."""
    row = connection.execute(f"SELECT {MANIFEST} FROM manifests AS m WHERE m.id = ?", (id,)).fetchone()
    return None if row is None else manifest_and_nodes(connection, recent, row)


def manifest_and_nodes(connection: sqlite3.Connection, recent: Contents, row: Sequence[Any]) -> tuple[Manifest, Nodes]:
    """What a row of the columns `MANIFEST` is about. Raises `IndexDamaged`."""
    manifest, seal = manifest_of(*row[:-1]), row[-1]
    known = recent.get((manifest.id, seal))
    if known is not None and known[0] == manifest:
        return known
    nodes = _read_nodes(connection, manifest)
    if seal_manifest(manifest, nodes.starts, nodes.seals) != seal:
        raise IndexDamaged(f"manifest {manifest.name.hex()} does not fit its seal")
    recent.put((manifest.id, seal), (manifest, nodes), 1 + len(nodes.leaves))
    return manifest, nodes


def _read_nodes(connection: sqlite3.Connection, manifest: Manifest) -> Nodes:
    rows = connection.execute(
        "SELECT n.position, n.start, n.leaf, l.size, l.seal FROM nodes AS n CROSS JOIN leaves AS l ON l.id = n.leaf "
        "WHERE n.manifest = ? ORDER BY n.position",
        (manifest.id,),
    )
    starts, leaves, seals, end = [], [], [], 0
    for expected, row in enumerate(rows):
        position, start, leaf, size, seal = checked(row, (int, int, int, int, bytes), f"a node of {manifest.name.hex()}")
        if (position, start) != (expected, end):
            raise IndexDamaged(f"manifest {manifest.name.hex()} has no leaf {expected}")
        starts.append(start)
        leaves.append(leaf)
        seals.append(seal)
        end = start + size
    if end != manifest.size:
        raise IndexDamaged(f"manifest {manifest.name.hex()} has {manifest.size} bytes, its leaves {end}")
    return Nodes(starts, leaves, seals)


def find_manifest(connection: sqlite3.Connection, recent: Contents, name: bytes) -> Manifest | None:
    row = connection.execute(f"SELECT {MANIFEST} FROM manifests AS m WHERE m.name = ?", (name,)).fetchone()
    return None if row is None else manifest_and_nodes(connection, recent, row)[0]


def find_starting_with(connection: sqlite3.Connection, recent: Contents, name: bytes, size: int) -> Manifest | None:
    row = connection.execute(
        f"""SELECT {MANIFEST}
            FROM (SELECT leaf, position FROM pieces WHERE chunk = (SELECT id FROM chunks WHERE name = ?)
                  ORDER BY leaf DESC LIMIT {_OCCURRENCES}) AS p
            CROSS JOIN nodes AS n ON n.leaf = p.leaf CROSS JOIN manifests AS m ON m.id = n.manifest
            WHERE p.position = 0 AND n.position = 0 AND NOT m.composed ORDER BY m.size = ? DESC, m.id DESC LIMIT 1""",
        (name, size),
    ).fetchone()
    return None if row is None else manifest_and_nodes(connection, recent, row)[0]


def add_manifest(
    connection: sqlite3.Connection,
    *,
    size: int,
    blake3: bytes,
    sha256: bytes,
    leaves: Sequence[int],
    now: float,
) -> Manifest:
    if len(blake3) != NAME_SIZE or len(sha256) != NAME_SIZE:
        raise ValueError(f"digests have {NAME_SIZE} bytes, not {len(blake3)} and {len(sha256)}")
    id = _id_of(connection, blake3)
    if id is not None and (known := _ask_for(connection, id, now, with_leaves=True)) is not None:
        return known
    sizes, seals = [], []
    for leaf in leaves:
        row = connection.execute("SELECT size, seal FROM leaves WHERE id = ?", (leaf,)).fetchone()
        if row is None:
            raise ChunksMissing(frozenset())
        sizes.append(row[0])
        seals.append(row[1])
    starts = [0, *accumulate(sizes)]
    if starts[-1] != size:
        raise ValueError(f"the leaves have {starts[-1]} bytes, the content {size}")
    manifest = Manifest(0, blake3, size, blake3, sha256, False, now)
    return _put(connection, id, manifest, Nodes(starts[:-1], leaves, seals))


def add_content(connection: sqlite3.Connection, content: NewContent, now: float) -> Manifest:
    leaves = list(content.leaves)
    if content.chunks:
        leaves.append(add_leaf(connection, content.chunks, now))
    return add_manifest(connection, size=content.size, blake3=content.blake3, sha256=content.sha256, leaves=leaves, now=now)


def compose(connection: sqlite3.Connection, recent: Contents, parts: Sequence[Manifest], now: float) -> Manifest:
    if not parts:
        raise ValueError("a content can't be made of nothing")
    loaded = [_required(connection, recent, part) for part in parts]
    parts = [manifest for manifest, _ in loaded if manifest.size] or [loaded[0][0]]
    name = parts[0].name if len(parts) == 1 else _composed_name(parts)
    id = _id_of(connection, name)
    if id is not None and (known := _ask_for(connection, id, now, with_leaves=False)) is not None:
        return known
    starts, size = list[int](), 0
    leaves, seals = list[int](), list[bytes]()
    for manifest, nodes in loaded:
        starts += [size + start for start in nodes.starts]
        leaves += nodes.leaves
        seals += nodes.seals
        size += manifest.size
    return _put(connection, id, Manifest(0, name, size, None, None, True, now), Nodes(starts, leaves, seals))


def _composed_name(parts: Sequence[Manifest]) -> bytes:
    hasher = blake3_hasher(derive_key_context=_COMPOSED)
    for part in parts:
        hasher.update(part.name + part.size.to_bytes(8, "little"))
    return hasher.digest()


def _required(connection: sqlite3.Connection, recent: Contents, manifest: Manifest) -> tuple[Manifest, Nodes]:
    loaded = load_manifest(connection, recent, manifest.id)
    if loaded is None or loaded[0].name != manifest.name:
        raise ChunksMissing(frozenset())
    return loaded


def _id_of(connection: sqlite3.Connection, name: bytes) -> int | None:
    row = connection.execute("SELECT id FROM manifests WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _ask_for(connection: sqlite3.Connection, id: int, now: float, *, with_leaves: bool) -> Manifest | None:
    """The manifest, if it is sound, in its leaves too if asked for; the collector leaves it to the caller for a while."""
    nothing: Contents = Recent(0)  # what is kept in memory may be better than what is in the database
    try:
        loaded = load_manifest(connection, nothing, id)
    except IndexDamaged:
        return None
    if loaded is None or (with_leaves and not are_sound(connection, loaded[1].leaves, loaded[1].seals)):
        return None
    connection.execute("UPDATE manifests SET used_at = ? WHERE id = ?", (now, id))
    return loaded[0]


def _put(connection: sqlite3.Connection, id: int | None, new: Manifest, nodes: Nodes) -> Manifest:
    """Add the manifest or, where one of its name is there, which is damaged, put it in its place."""
    row = (new.name, new.size, new.blake3, new.sha256, new.composed, new.created_at, new.created_at)
    seal = seal_manifest(new, nodes.starts, nodes.seals)
    if id is None:
        id = connection.execute(
            """INSERT INTO manifests (name, size, blake3, sha256, composed, created_at, used_at, seal)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (*row, seal),
        ).lastrowid
        assert id is not None
    else:
        mend_leaves(connection, id, nodes.leaves)
        connection.execute("DELETE FROM nodes WHERE manifest = ?", (id,))
        connection.execute(
            """UPDATE manifests SET name = ?, size = ?, blake3 = ?, sha256 = ?, composed = ?, created_at = ?, used_at = ?,
                   seal = ? WHERE id = ?""",
            (*row, seal, id),
        )
        _log.warning("a damaged content has been made good", extra={"fields": {"content": new.name.hex()}})
    connection.executemany(
        "INSERT INTO nodes (manifest, position, start, leaf) VALUES (?, ?, ?, ?)",
        [(id, position, start, leaf) for position, (start, leaf) in enumerate(zip(nodes.starts, nodes.leaves, strict=True))],
    )
    return replace(new, id=id)


def undigested(connection: sqlite3.Connection, recent: Contents, limit: int) -> list[Manifest | IndexDamaged]:
    rows = connection.execute(
        f"""SELECT {MANIFEST} FROM manifests AS m
            WHERE m.sha256 IS NULL AND EXISTS (SELECT 1 FROM versions AS v WHERE v.manifest = m.id) ORDER BY m.id LIMIT ?""",
        (limit,),
    ).fetchall()
    return [_manifest_or_damage(connection, recent, row) for row in rows]


def _manifest_or_damage(connection: sqlite3.Connection, recent: Contents, row: Sequence[Any]) -> Manifest | IndexDamaged:
    try:
        return manifest_and_nodes(connection, recent, row)[0]
    except IndexDamaged as damage:
        return damage


def set_digests(connection: sqlite3.Connection, recent: Contents, manifest: Manifest, *, blake3: bytes, sha256: bytes) -> None:
    if len(blake3) != NAME_SIZE or len(sha256) != NAME_SIZE:
        raise ValueError(f"digests have {NAME_SIZE} bytes, not {len(blake3)} and {len(sha256)}")
    old, nodes = _present(connection, recent, manifest)
    new = Manifest(old.id, old.name, old.size, blake3, sha256, old.composed, old.created_at)
    if old != new and not old.composed:
        raise ValueError(f"{old.name.hex()} has other digests already")
    connection.execute(
        "UPDATE manifests SET blake3 = ?, sha256 = ?, seal = ? WHERE id = ?",
        (blake3, sha256, seal_manifest(new, nodes.starts, nodes.seals), old.id),
    )


def pieces(
    connection: sqlite3.Connection, contents: Contents, leaves: Leaves, manifest: Manifest, start: int, end: int
) -> list[Piece]:
    """The first pieces of [start, end), which is not empty and within the content: those of one leaf, at most `_BATCH`."""
    _, nodes = _present(connection, contents, manifest)
    node = bisect_right(nodes.starts, start) - 1
    offset, id = nodes.starts[node], nodes.leaves[node]
    leaf = load_leaf(connection, leaves, id, nodes.seals[node])
    first = bisect_right(leaf.starts, start - offset) - 1
    last = min(bisect_right(leaf.starts, end - offset - 1), leaf.count, first + _BATCH)
    chunks = chunks_of(connection, id, leaf, first, last)
    return [Piece(offset + leaf.starts[first + n], chunk) for n, chunk in enumerate(chunks)]


def is_whole(connection: sqlite3.Connection, contents: Contents, manifest: Manifest, position: int) -> bool | None:
    """Whether the leaf at this position is sound and all its chunks are, and are LIVE; None behind the last leaf."""
    try:
        _, nodes = _present(connection, contents, manifest)
        if position >= len(nodes.leaves):
            return None
        id = nodes.leaves[position]
        leaf = read_leaf(connection, id, nodes.seals[position])
        chunks_of(connection, id, leaf, 0, leaf.count)
    except IndexDamaged:
        return False
    query = f"""SELECT EXISTS (SELECT 1 FROM pieces AS p CROSS JOIN chunks AS c ON c.id = p.chunk
                               WHERE p.leaf = ? AND c.state <> {State.LIVE:d})"""
    return not connection.execute(query, (id,)).fetchone()[0]


def _present(connection: sqlite3.Connection, recent: Contents, manifest: Manifest) -> tuple[Manifest, Nodes]:
    try:
        return _required(connection, recent, manifest)
    except ChunksMissing:
        raise RepositoryError(f"the content {manifest.name.hex()} is not stored any more") from None
