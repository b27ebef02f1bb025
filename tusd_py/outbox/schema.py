"""The tables of `events.db`, as a sequence of migrations; `PRAGMA user_version` says how many of them a database has seen.

`intents` are events that are prepared; `events` those that came true, in the order of `seq`, in which they were confirmed.

An event is `ready` when it may be claimed as soon as it is due: nobody has claimed it, and no earlier one of its upload and
consumer is due. Thus a look for work never passes over what has to wait, however much that is. Who confirmed it is its `home`,
whose it is until `open_at`. Times are seconds since the epoch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from tusd_py.ports.failures import StorageFailure

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = ["VERSION", "migrate", "version"]

_PARTIAL_INDEXES = {
    "what a process may claim of its own": "events_at_home ON events(home, consumer, due_at, seq) WHERE ready = 1",
    "what any process may claim": "events_open ON events(consumer, open_at, seq) WHERE ready = 1",
    "what is waiting, and since when": "events_due ON events(consumer, seq) WHERE state = 'due'",
    "what a process that died had for itself": "events_home ON events(home, open_at, due_at) WHERE state = 'due'",
    "what is claimed": "events_claimed ON events(claimer) WHERE claimer IS NOT NULL",
    "what may be dropped": "events_settled ON events(state, settled_at) WHERE settled_at IS NOT NULL",
}


def _create(db: Database) -> None:
    db.create_table(
        "intents",
        {"number": int, "upload": str, "type": str, "consumer": str, "id": str, "payload": bytes, "created_at": float},
        pk="number",
        not_null={"upload", "type", "consumer", "id", "payload", "created_at"},
    )
    db.table("intents").create_index(["upload", "type", "consumer"], "intents_key", unique=True)
    db.table("intents").create_index(["created_at", "number"], "intents_age")
    db.create_table(
        "events",
        {
            "seq": int,
            "id": str,
            "consumer": str,
            "upload": str,
            "type": str,
            "state": str,
            "ready": int,
            "payload": bytes,
            "created_at": float,
            "confirmed_at": float,
            "due_at": float,
            "open_at": float,
            "settled_at": float,
            "attempts": int,
            "error": str,
            "home": str,
            "claimer": str,
        },
        pk="seq",
        not_null={"id", "consumer", "upload", "type", "state", "ready", "payload", "created_at", "confirmed_at", "due_at"}
        | {"open_at", "attempts"},
    )
    db.table("events").create_index(["id", "consumer"], "events_key", unique=True)
    db.table("events").create_index(["upload", "consumer", "seq"], "events_upload")
    for definition in _PARTIAL_INDEXES.values():  # which sqlite-utils does not make
        db.execute(f"CREATE INDEX {definition}")


_MIGRATIONS: tuple[Callable[[Database], None], ...] = (_create,)

VERSION = len(_MIGRATIONS)


def version(connection: sqlite3.Connection) -> int:
    """How many migrations the database has seen. Raises `StorageFailure` if that is more than there are."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        raise StorageFailure(f"the database of events has version {found}: this program knows versions up to {VERSION}")
    return found


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database up to date, all or nothing; of several processes at once, one does it. Raises `sqlite3.Error`."""
    if version(connection) == VERSION:
        return
    from sqlite_utils import Database  # a tenth of a second that only new databases cost

    db = Database(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in _MIGRATIONS[version(connection) :]:
            migration(db)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
