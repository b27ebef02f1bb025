"""What is asked of the account's tables and written to them. Runs in the database's thread, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from tusd_py.limits.entries import Entry
from tusd_py.limits.rules import RUNNING, Figures, LimitSettings, arrival_after

__all__ = ["add", "change", "drop", "look_up", "restore", "take_rate", "unseen"]

_ADD = """
INSERT INTO uploads (id, owner, length, offset, created_at, active_at, finished, final, touched_at, seen_at)
    VALUES (:id, :owner, :length, :offset, :now, :active_at, :finished, :final, :touched_at, :seen_at)
    ON CONFLICT (id) DO NOTHING
"""
_CHANGE = """
UPDATE uploads SET length = :length, offset = :offset, active_at = :active_at, finished = :finished, touched_at = :active_at
    WHERE id = :id
"""
_DELETE = "DELETE FROM uploads WHERE id = ?"
_CORRECT = """
UPDATE uploads SET owner = :owner, length = :length, offset = :offset, active_at = :active_at, finished = :finished,
    final = :final WHERE id = :id AND touched_at < :began
"""
_SEE = "UPDATE uploads SET seen_at = MAX(seen_at, :began) WHERE id = :id"
_UNSEEN = """
SELECT id FROM uploads WHERE id > :after AND seen_at < :began AND created_at < :created_before ORDER BY id LIMIT :count
"""
_STORED = "SELECT COALESCE(SUM(stored), 0) FROM owners WHERE owner = ?"
_STORED_BY = "SELECT COALESCE(SUM(COALESCE(length, offset)), 0) FROM uploads WHERE id = ? AND owner = ?"
_AWAITED = "SELECT awaited FROM totals"
_AWAITED_BY = (
    "SELECT COALESCE(SUM(MAX(length - offset, 0)), 0) FROM uploads WHERE id = ? AND NOT finished AND length IS NOT NULL"
)
_RUNNING = "SELECT COUNT(*) FROM uploads WHERE NOT finished AND NOT final AND active_at > ?"
_RUNNING_OF = f"{_RUNNING} AND owner = ?"
_ARRIVAL = "SELECT COALESCE(MAX(arrival), 0.0) FROM rates WHERE client = ?"
_TAKE_RATE = "INSERT INTO rates (client, arrival) VALUES (?, ?) ON CONFLICT (client) DO UPDATE SET arrival = excluded.arrival"
_FORGET_RATES = "DELETE FROM rates WHERE arrival < ?"


def look_up(
    connection: sqlite3.Connection, entry: Entry, client: str, limits: LimitSettings, free: Callable[[], int], now: float
) -> Figures:
    """What the limits that are set need to know; the upload itself, where it is in the account already, is left out."""

    def ask(sql: str, *parameters: object) -> int:
        return int(connection.execute(sql, parameters).fetchone()[0])

    quota, space = limits.quota is not None, limits.min_free is not None
    since = now - RUNNING
    return Figures(
        stored=ask(_STORED, entry.owner) - ask(_STORED_BY, entry.id, entry.owner) if quota else 0,
        running=ask(_RUNNING, since) if limits.max_uploads is not None else 0,
        running_of_owner=ask(_RUNNING_OF, since, entry.owner) if limits.max_uploads_per_owner is not None else 0,
        arrival=connection.execute(_ARRIVAL, (client,)).fetchone()[0] if limits.create_rate is not None else 0.0,
        awaited=ask(_AWAITED) - ask(_AWAITED_BY, entry.id) if space else 0,
        free=free() if space else 0,
    )


def add(connection: sqlite3.Connection, entry: Entry, now: float) -> None:
    """Enter an upload that is about to be created. One that is there under this id already stays as it is."""
    connection.execute(_ADD, {**asdict(entry), "now": now, "touched_at": now, "seen_at": 0.0})


def take_rate(connection: sqlite3.Connection, client: str, arrival: float, now: float, per_minute: int) -> None:
    """Write down that the client has created one more; forget clients who have all of their rate again."""
    connection.execute(_FORGET_RATES, (now,))
    connection.execute(_TAKE_RATE, (client, arrival_after(arrival, now, per_minute)))


def change(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write down how far an upload has come. What is not in the account stays out: it has been forgotten."""
    connection.execute(_CHANGE, asdict(entry))


def drop(connection: sqlite3.Connection, upload_ids: Iterable[str]) -> None:
    """Take uploads out of the account."""
    connection.executemany(_DELETE, ((upload_id,) for upload_id in upload_ids))


def restore(connection: sqlite3.Connection, entries: Sequence[Entry], began: float) -> list[str]:
    """Enter what records say that were read after `began`; returns the ids that were not in the account.

    An entry that somebody has touched since then is left alone: it is newer than the record that was read.
    """
    added = []
    for entry in entries:
        row = {**asdict(entry), "now": entry.active_at, "touched_at": 0.0, "seen_at": began, "began": began}
        if connection.execute(_ADD, row).rowcount:
            added.append(entry.id)
        else:
            connection.execute(_CORRECT, row)
            connection.execute(_SEE, row)
    return added


def unseen(connection: sqlite3.Connection, began: float, created_before: float, after: str, count: int) -> list[str]:
    """Up to `count` ids behind `after`, in order, that no recovery since `began` has found, and created before that time."""
    row = {"began": began, "created_before": created_before, "after": after, "count": count}
    return [found for (found,) in connection.execute(_UNSEEN, row)]
