"""The tables of objects and versions. Functions that work inside a transaction of the caller's."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tusd_py_cas.model import ChunksMissing, IndexDamaged, Manifest, Version
from tusd_py_cas.sqlite_index.manifests import Contents, load_manifest
from tusd_py_cas.sqlite_index.rows import checked
from tusd_py_cas.sqlite_index.seals import seal_version
from tusd_py_cas.sqlite_index.vanished import forget

__all__ = ["Key", "add_version", "drop_version", "find_version", "versions"]

_VERSION = """
    SELECT v.upload, o.name, o.owned, o.owner, v.number, v.metadata, v.raw, v.created_at, v.seal, v.manifest
    FROM versions AS v LEFT JOIN objects AS o ON o.id = v.object
"""
_TYPES = (str, str, int, str, int, str, int, float, bytes, int)

Key = tuple[Any, Any, Any, Any]
"""What versions are ordered by: object, whether it has an owner, owner, number. Where it is damaged, it may be anything."""


class _NoText(bytes):
    """What is in the place of a text that is no UTF-8."""


def find_version(connection: sqlite3.Connection, recent: Contents, upload_id: str) -> Version | None:
    row = connection.execute(f"{_VERSION} WHERE v.upload = ?", (upload_id,)).fetchone()
    return None if row is None else _version(connection, recent, row)


def _version(connection: sqlite3.Connection, recent: Contents, row: Sequence[Any]) -> Version:
    checked(row, _TYPES, "a version")
    upload_id, name, owned, owner, number, metadata, raw, created_at, seal, manifest_id = row
    loaded = load_manifest(connection, recent, manifest_id)
    if loaded is None:
        raise IndexDamaged(f"the content of upload {upload_id!r} is missing")
    version = Version(upload_id, name, owner if owned else None, number, loaded[0], created_at, raw != 0)
    if _seal(version, metadata) != seal:
        raise IndexDamaged(f"the version of upload {upload_id!r} does not fit its seal")
    return replace(version, metadata=json.loads(metadata))


def _seal(version: Version, metadata: str) -> bytes:
    return seal_version(
        upload_id=version.upload_id,
        object=version.object,
        owner=version.owner,
        number=version.number,
        manifest=version.manifest.name,
        metadata=metadata,
        created_at=version.created_at,
    )


def add_version(
    connection: sqlite3.Connection,
    recent: Contents,
    *,
    upload_id: str,
    object: str,
    owner: str | None,
    manifest: Manifest,
    metadata: Mapping[str, str],
    raw: bool,
    at: float,
    now: float,
) -> Version:
    loaded = load_manifest(connection, recent, manifest.id)
    if loaded is None or loaded[0].name != manifest.name:
        raise ChunksMissing(frozenset())
    try:
        known = find_version(connection, recent, upload_id)
    except IndexDamaged:
        known = None  # and makes way for a sound one
    if known is not None and known.manifest.name == manifest.name:
        forget(connection, [upload_id])
        return known
    old = _take(connection, upload_id, now)
    object_id, number = _next(connection, object, owner)
    version = Version(upload_id, object, owner, number, loaded[0], float(at), raw, dict(metadata))
    stored = json.dumps(version.metadata, sort_keys=True)
    connection.execute(
        """INSERT INTO versions (object, number, upload, manifest, metadata, raw, created_at, seal)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (object_id, number, upload_id, loaded[0].id, stored, raw, version.created_at, _seal(version, stored)),
    )
    if old is not None:
        _drop_empty(connection, old)
    return version


def _next(connection: sqlite3.Connection, object: str, owner: str | None) -> tuple[int, int]:
    """The id of the object, made if need be, and the number of its next version."""
    row: tuple[int, int] = connection.execute(
        """INSERT INTO objects (name, owned, owner, next_number) VALUES (?, ?, ?, 2)
           ON CONFLICT (name, owned, owner) DO UPDATE SET next_number = next_number + 1 RETURNING id, next_number - 1""",
        (object, owner is not None, owner or ""),
    ).fetchone()
    return row


def drop_version(connection: sqlite3.Connection, upload_id: str, now: float) -> bool:
    object_id = _take(connection, upload_id, now)
    if object_id is None:
        return False
    _drop_empty(connection, object_id)
    return True


def _take(connection: sqlite3.Connection, upload_id: str, now: float) -> int | None:
    """Delete the version, sound or not; returns the id of its object."""
    row = connection.execute("SELECT id, object, manifest FROM versions WHERE upload = ?", (upload_id,)).fetchone()
    if row is None:
        return None
    id, object_id, manifest_id = row
    connection.execute("DELETE FROM versions WHERE id = ?", (id,))
    connection.execute("UPDATE manifests SET used_at = ? WHERE id = ?", (now, manifest_id))
    return int(object_id)


def _drop_empty(connection: sqlite3.Connection, object_id: int) -> None:
    connection.execute(
        "DELETE FROM objects WHERE id = ? AND NOT EXISTS (SELECT 1 FROM versions WHERE object = objects.id)", (object_id,)
    )


def versions(
    connection: sqlite3.Connection, recent: Contents, object: str | None, owner: str | None, after: Key | None, limit: int
) -> list[tuple[Key, Version | IndexDamaged]]:
    """The next `limit` of them, those behind `after`."""
    parameters = list[Any](after or ("", -1, "", 0))
    places = ", ".join("CAST(? AS TEXT)" if isinstance(value, _NoText) else "?" for value in parameters)
    conditions = [f"(o.name, o.owned, o.owner, v.number) > ({places})"]
    if object is not None:
        conditions.append("o.name = ?")
        parameters.append(object)
    if owner is not None:
        conditions.append("o.owned AND o.owner = ?")
        parameters.append(owner)
    with _any_text(connection):
        rows = connection.execute(
            f"""{_VERSION.replace("LEFT JOIN", "JOIN")} WHERE {" AND ".join(conditions)}
                ORDER BY o.name, o.owned, o.owner, v.number LIMIT ?""",
            (*parameters, limit),
        ).fetchall()
    return [((row[1], row[2], row[3], row[4]), _version_or_damage(connection, recent, row)) for row in rows]


@contextmanager
def _any_text(connection: sqlite3.Connection) -> Iterator[None]:
    """A text that is no UTF-8 is read as `_NoText`, and does not keep the other rows from being read."""
    connection.text_factory = _read_text
    try:
        yield
    finally:
        connection.text_factory = str


def _read_text(data: bytes) -> str | _NoText:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _NoText(data)


def _version_or_damage(connection: sqlite3.Connection, recent: Contents, row: Sequence[Any]) -> Version | IndexDamaged:
    try:
        return _version(connection, recent, row)
    except IndexDamaged as damage:
        return damage
