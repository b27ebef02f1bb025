"""Sums over the whole index, for people: with the comfort of sqlite-utils. Functions inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from typing import Any

from tusd_py_cas.index import Totals
from tusd_py_cas.model import State

__all__ = ["chunk_sizes", "totals"]

_IN_A_VERSION = """
    EXISTS (SELECT 1 FROM pieces AS p JOIN nodes AS n ON n.leaf = p.leaf JOIN versions AS v ON v.manifest = n.manifest
            WHERE p.chunk = c.id)
"""


def totals(connection: sqlite3.Connection) -> Totals:
    contents = _row(
        connection,
        """SELECT (SELECT COUNT(*) FROM objects) AS objects, COUNT(*) AS versions, COALESCE(SUM(m.size), 0) AS logical,
                  (SELECT COUNT(*) FROM manifests) AS manifests, (SELECT COUNT(*) FROM vanished) AS vanished
           FROM versions AS v JOIN manifests AS m ON m.id = v.manifest""",
    )
    chunks = _row(
        connection,
        f"""SELECT COUNT(*) AS chunks, COALESCE(SUM(size), 0) AS chunk_bytes, COALESCE(SUM(damaged), 0) AS damaged,
                   COALESCE(SUM(size) FILTER (WHERE used), 0) AS "unique",
                   COALESCE(SUM(stored_size) FILTER (WHERE used AND NOT damaged), 0) AS stored,
                   COALESCE(SUM(stored_size) FILTER (WHERE NOT used AND NOT damaged), 0) AS unused
            FROM (SELECT size, stored_size, state = {State.DAMAGED:d} AS damaged, {_IN_A_VERSION} AS used FROM chunks AS c)""",
    )
    return Totals(**contents, **chunks)


def chunk_sizes(connection: sqlite3.Connection) -> dict[int, int]:
    powers = int(_row(connection, "SELECT COALESCE(MAX(size), 0) AS size FROM chunks")["size"]).bit_length()
    if not powers:
        return {}
    at_least = ", ".join(f"SUM(size >= {1 << power}) AS p{power}" for power in range(powers))
    counts = list(_row(connection, f"SELECT {at_least} FROM chunks").values())
    sizes = {power: count - above for power, (count, above) in enumerate(zip(counts, [*counts[1:], 0], strict=True))}
    return {power: count for power, count in sizes.items() if count}


def _row(connection: sqlite3.Connection, query: str) -> dict[str, Any]:
    """The only row of the answer."""
    from sqlite_utils import Database  # a tenth of a second that only statistics cost

    return next(Database(connection, execute_plugins=False).query(query))
