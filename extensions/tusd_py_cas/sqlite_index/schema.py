"""The tables of the index, and their migrations.

    chunks     every chunk that is stored, was stored, or is about to be removed
    leaves     lists of chunks, in `pieces`
    manifests  contents: lists of leaves, in `nodes`
    objects    names; `next_number` is the number that the next version gets
    versions   what uploads have become
    vanished   which of these uploads are missing, and since when

What must not change unnoticed has a seal (see `seals`); the rest can at worst cost space or work. Ids of leaves and manifests
are never used again: others may hold them while the collector removes rows. `used_at` is when a version last let go of a
manifest, or somebody asked for it: it is kept for a while from then on, with all that it is made of.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from tusd_py_cas.model import IndexDamaged, RepositoryError

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = ["FORMAT", "describe", "expected_schema", "prepare"]

FORMAT = 2
"""Goes up with each migration: an older program keeps away from what it doesn't know."""

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE chunks (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE CHECK (length(name) = 32),
        size INTEGER NOT NULL CHECK (size > 0),
        stored_size INTEGER NOT NULL CHECK (stored_size > 0),
        codec INTEGER NOT NULL CHECK (codec = 1 OR codec = 0 AND stored_size = size),
        state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
        changed_at REAL NOT NULL,
        seal INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX chunks_condemned ON chunks (id) WHERE state = 1",
    """CREATE TABLE leaves (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        size INTEGER NOT NULL CHECK (size > 0),
        count INTEGER NOT NULL CHECK (count > 0),
        seal BLOB NOT NULL,
        created_at REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE pieces (
        leaf INTEGER NOT NULL REFERENCES leaves (id),
        position INTEGER NOT NULL CHECK (position >= 0),
        chunk INTEGER NOT NULL REFERENCES chunks (id),
        PRIMARY KEY (leaf, position)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX pieces_chunk ON pieces (chunk)",
    """CREATE TABLE manifests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name BLOB NOT NULL UNIQUE CHECK (length(name) = 32),
        size INTEGER NOT NULL CHECK (size >= 0),
        blake3 BLOB CHECK (length(blake3) = 32),
        sha256 BLOB CHECK (length(sha256) = 32),
        composed INTEGER NOT NULL CHECK (composed IN (0, 1)),
        created_at REAL NOT NULL,
        used_at REAL NOT NULL,
        seal BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX manifests_undigested ON manifests (id) WHERE sha256 IS NULL",
    """CREATE TABLE nodes (
        manifest INTEGER NOT NULL REFERENCES manifests (id),
        position INTEGER NOT NULL CHECK (position >= 0),
        start INTEGER NOT NULL CHECK (start >= 0),
        leaf INTEGER NOT NULL REFERENCES leaves (id),
        PRIMARY KEY (manifest, position)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX nodes_leaf ON nodes (leaf)",
    # An object of nobody has owned = 0: NULLs are all different to a UNIQUE constraint.
    """CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        owned INTEGER NOT NULL CHECK (owned = 1 OR owned = 0 AND owner = ''),
        owner TEXT NOT NULL,
        next_number INTEGER NOT NULL CHECK (next_number > 0),
        UNIQUE (name, owned, owner)
    ) STRICT""",
    """CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        object INTEGER NOT NULL REFERENCES objects (id),
        number INTEGER NOT NULL CHECK (number > 0),
        upload TEXT NOT NULL UNIQUE,
        manifest INTEGER NOT NULL REFERENCES manifests (id),
        metadata TEXT NOT NULL,
        raw INTEGER NOT NULL CHECK (raw IN (0, 1)),
        created_at REAL NOT NULL,
        seal BLOB NOT NULL,
        UNIQUE (object, number)
    ) STRICT""",
    "CREATE INDEX versions_manifest ON versions (manifest)",
    "CREATE INDEX versions_raw ON versions (upload) WHERE raw",
)

_VANISHED = """CREATE TABLE vanished (
        upload TEXT PRIMARY KEY REFERENCES versions (upload) ON DELETE CASCADE,
        since REAL NOT NULL
    ) STRICT, WITHOUT ROWID"""


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to date, inside the caller's transaction."""
    from sqlite_utils import Database, Migrations  # a tenth of a second that only new indexes cost

    migrations = Migrations("tusd_py_cas.index")

    @migrations(name="0001 chunks, contents and versions")
    def _make(db: Database) -> None:
        for statement in _TABLES:
            db.execute(statement)

    @migrations(name="0002 missing uploads")
    def _note_missing(db: Database) -> None:
        db.execute(_VANISHED)

    migrations.apply(Database(connection, execute_plugins=False))


def prepare(connection: sqlite3.Connection, path: str, repository_id: str, *, create: bool) -> None:
    """See that the index belongs to this repository, and bring it to this format; with `create`, make the tables of an empty
    database. Of several processes at once, one does. Raises `RepositoryError`, `sqlite3.Error`."""
    found = _format(connection, path, repository_id)
    if found == FORMAT:
        return
    if not found and not create:
        raise RepositoryError(f"the index {path!r} is empty: restore it from a backup")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _format(connection, path, repository_id) != FORMAT:
            _migrate(connection)
            connection.execute(
                """INSERT INTO meta VALUES ('repository', ?), ('format', ?)
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value""",
                (repository_id, str(FORMAT)),
            )
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _format(connection: sqlite3.Connection, path: str, repository_id: str) -> int:
    """The format of the tables, 0 for a database without any. Raises `RepositoryError` for an index of another repository or of
    a newer program."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return 0
    if "meta" not in tables:
        raise IndexDamaged(f"the index {path!r} is no index of contents: restore it from a backup")
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if meta.get("repository") != repository_id:
        raise RepositoryError(
            f"the index {path!r} belongs to repository {meta.get('repository')}, not to {repository_id}: "
            "restore the one of this repository from a backup"
        )
    for known in range(1, FORMAT + 1):
        if meta.get("format") == str(known):
            return known
    raise RepositoryError(f"the index {path!r} has format {meta.get('format')}: this program knows those up to {FORMAT} only")


def describe(connection: sqlite3.Connection) -> Mapping[tuple[str, str], str | None]:
    """The statements that have made the tables and indexes of this database, by kind and name. Without the table of migrations
    that were made: how that looks depends on the version of the library that made it."""
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' AND tbl_name <> '_sqlite_migrations'"
    )
    return {(kind, name): sql for kind, name, sql in rows}


@cache
def expected_schema() -> Mapping[tuple[str, str], str | None]:
    """What `describe` says of an index that nobody has touched."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        _migrate(connection)
        return describe(connection)
    finally:
        connection.close()
