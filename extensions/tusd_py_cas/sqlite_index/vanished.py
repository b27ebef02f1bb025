"""The table of versions whose upload has been found missing. Functions that work inside a transaction of the caller's.

It has a row for each upload that has been missing since `since`; a row goes with its version. Ids are given as parameters, so
many at a time: as one JSON value they would end at a NUL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from tusd_py_cas.model import IMPORTED

__all__ = ["forget", "note", "noted", "noted_among", "since", "uploads", "without_version"]

_AT_ONCE = 500
"""Parameters of a statement."""

_BEHIND_IMPORTED = IMPORTED[:-1] + chr(ord(IMPORTED[-1]) + 1)
"""What comes behind all that begins with `IMPORTED`."""

_IMPORTED_BEFORE = "import-" + "[0-9a-f]" * 32
"""What such ids were like once. An upload may have one of them, too: then its version stays when the upload is gone."""


def uploads(connection: sqlite3.Connection, after: str, limit: int) -> list[str]:
    """Without those of imported files, which are in one place of the order and are stepped over, but for old ones."""
    found = _uploads(connection, "upload > ? AND upload < ?", (after, IMPORTED), limit)
    if after < _BEHIND_IMPORTED:
        return found + _uploads(connection, "upload >= ?", (_BEHIND_IMPORTED,), limit - len(found))
    return _uploads(connection, "upload > ?", (after,), limit)


def _uploads(connection: sqlite3.Connection, condition: str, parameters: Sequence[str], limit: int) -> list[str]:
    query = f"SELECT upload FROM versions WHERE {condition} AND upload NOT GLOB ? ORDER BY upload LIMIT ?"
    return [upload_id for (upload_id,) in connection.execute(query, (*parameters, _IMPORTED_BEFORE, limit))]


def without_version(connection: sqlite3.Connection, upload_ids: Sequence[str]) -> list[str]:
    known = {
        upload_id
        for some, places in _some(upload_ids)
        for (upload_id,) in connection.execute(f"SELECT upload FROM versions WHERE upload IN ({places})", some)
    }
    return [upload_id for upload_id in upload_ids if upload_id not in known]


def since(connection: sqlite3.Connection, upload_ids: Sequence[str]) -> Mapping[str, float | None]:
    """Since when each of those that have a version has been missing; None where that has not been noted."""
    found: dict[str, float | None] = {}
    for some, places in _some(upload_ids):
        found.update(
            connection.execute(
                f"""SELECT v.upload, x.since FROM versions AS v LEFT JOIN vanished AS x ON x.upload = v.upload
                    WHERE v.upload IN ({places})""",
                some,
            )
        )
    return found


def note(connection: sqlite3.Connection, upload_ids: Sequence[str], at: float) -> None:
    for some, places in _some(upload_ids):
        connection.execute(
            f"""INSERT INTO vanished (upload, since) SELECT upload, ? FROM versions WHERE upload IN ({places})
                ON CONFLICT (upload) DO NOTHING""",
            (at, *some),
        )


def noted_among(connection: sqlite3.Connection, upload_ids: Sequence[str]) -> bool:
    """Whether any of them is noted."""
    return any(
        connection.execute(f"SELECT EXISTS (SELECT 1 FROM vanished WHERE upload IN ({places}))", some).fetchone()[0]
        for some, places in _some(upload_ids)
    )


def forget(connection: sqlite3.Connection, upload_ids: Sequence[str]) -> None:
    for some, places in _some(upload_ids):
        connection.execute(f"DELETE FROM vanished WHERE upload IN ({places})", some)


def noted(connection: sqlite3.Connection, after: str, limit: int) -> list[str]:
    rows = connection.execute("SELECT upload FROM vanished WHERE upload > ? ORDER BY upload LIMIT ?", (after, limit))
    return [upload_id for (upload_id,) in rows]


def _some(upload_ids: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Some of the ids at a time, and as many places for them in a statement."""
    for first in range(0, len(upload_ids), _AT_ONCE):
        some = upload_ids[first : first + _AT_ONCE]
        yield some, ",".join("?" * len(some))
