"""Making good what is damaged of a content, as soon as somebody has stored that content once more.

Functions that work inside a transaction of the caller's. What is put right keeps its id, so that everything that refers to it
is right again, too: versions to the manifest, and other contents to its leaves.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from tusd_py_cas.model import IndexDamaged
from tusd_py_cas.sqlite_index.leaves import read_leaf

__all__ = ["are_sound", "is_damaged", "mend_leaves"]

_log = logging.getLogger("tusd_py.cas")


def are_sound(connection: sqlite3.Connection, leaves: Sequence[int], seals: Sequence[bytes]) -> bool:
    """Whether these leaves have these seals, and what they say. Linear in the number of chunks."""
    try:
        for leaf, seal in zip(leaves, seals, strict=True):
            read_leaf(connection, leaf, seal)
    except IndexDamaged:
        return False
    return True


def is_damaged(connection: sqlite3.Connection, leaf: int) -> bool:
    """Whether it is there and does not fit its own seal."""
    row = connection.execute("SELECT seal FROM leaves WHERE id = ?", (leaf,)).fetchone()
    return row is not None and not (isinstance(row[0], bytes) and are_sound(connection, [leaf], [row[0]]))


def mend_leaves(connection: sqlite3.Connection, manifest: int, sound: Sequence[int]) -> None:
    """Where leaves of the manifest are damaged, give them the chunks of those that are in the same places of `sound`.

    If it is a node that is damaged, and leads to a damaged leaf of another content, that leaf comes to fit its seal but not
    that content's, which stays damaged as it was.
    """
    nodes = connection.execute("SELECT position, leaf FROM nodes WHERE manifest = ? ORDER BY position", (manifest,)).fetchall()
    for position, leaf in nodes:
        if 0 <= position < len(sound) and leaf != sound[position] and is_damaged(connection, leaf):
            _copy(connection, sound[position], leaf)
            _log.warning("a damaged list of chunks has been made good", extra={"fields": {"leaf": leaf}})


def _copy(connection: sqlite3.Connection, source: int, target: int) -> None:
    connection.execute("DELETE FROM pieces WHERE leaf = ?", (target,))
    connection.execute(
        "INSERT INTO pieces (leaf, position, chunk) SELECT ?, position, chunk FROM pieces WHERE leaf = ?", (target, source)
    )
    connection.execute(
        """UPDATE leaves SET (size, count, seal, created_at)
               = (SELECT size, count, seal, created_at FROM leaves WHERE id = ?) WHERE id = ?""",
        (source, target),
    )
