"""What people do with events: look at them, have them delivered once more, drop them. Works beside servers that are running.

Blocks, and knows no event loop: it is for commands. Rows are taken some at a time, so that no server waits long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tusd_py.outbox import statements as sql
from tusd_py.outbox.connection import open_existing, translate_sqlite
from tusd_py.outbox.sqlite import DATABASE, release_departed
from tusd_py.outbox.transactions import PAGE
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.events import EventState
from tusd_py.protocol.hooks import HookType

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = ["Administration", "ListedEvent", "Selection"]

SETTLED = frozenset({EventState.DELIVERED, EventState.DEAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events are meant: those that fulfil everything that is not None. `ids` are of events, `since` is when they were
    delivered or given up (seconds since the epoch)."""

    ids: tuple[str, ...] | None = None
    upload: str | None = None
    consumer: str | None = None
    types: frozenset[HookType] | None = None
    states: frozenset[EventState] | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvent:
    """An event on its way to one consumer. Times in seconds since the epoch; `claimed` while it is being delivered."""

    id: str
    type: str
    upload: str
    consumer: str
    state: str
    created_at: float
    due_at: float
    attempts: int
    error: str | None
    claimed: bool


class Administration:
    """The events below one upload directory. Raises `StorageFailure`."""

    def __init__(self, connection: sqlite3.Connection, state_dir: str, clock: Clock = system_clock) -> None:
        from sqlite_utils import Database

        self._connection, self._state_dir, self._clock = connection, state_dir, clock
        self._db: Database = Database(connection)

    @classmethod
    def open(cls, state_dir: str, clock: Clock = system_clock) -> Self | None:
        """None where no server has kept events yet."""
        connection = open_existing(f"{state_dir}/{DATABASE}")
        return None if connection is None else cls(connection, state_dir, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def list(self, selection: Selection, limit: int) -> Iterator[ListedEvent]:
        """At most `limit` events, the oldest first."""
        condition, parameters = _condition(selection)
        statement = f"SELECT * FROM ({_ALL}) WHERE {condition} ORDER BY created_at, place LIMIT :limit"
        try:
            for row in self._db.query(statement, {**parameters, "limit": limit}):
                yield ListedEvent(**{name: row[name] for name in _LISTED}, claimed=row["claimer"] is not None)
        except sqlite3.Error as error:
            raise translate_sqlite(error, "listing events") from error

    def replay(self, selection: Selection) -> int:
        """Have settled events delivered once more, in order, behind what is due of their uploads; returns how many."""
        condition, parameters = _condition(selection)
        columns = ", ".join(_KEPT)
        query = (
            f"SELECT seq, {columns} FROM events WHERE state IN ('delivered', 'dead') AND {condition} ORDER BY seq LIMIT :page"
        )
        return self._in_pages(query, parameters, self._replay_one)

    def _replay_one(self, row: sqlite3.Row) -> None:
        self._connection.execute("DELETE FROM events WHERE seq = ?", (row["seq"],))
        event = {name: row[name] for name in _KEPT} | {"now": self._clock(), "home": None, "affinity": 0.0}
        self._connection.execute(sql.ADD, event)

    def drop(self, selection: Selection) -> int:
        """Forget events, unless they are being delivered; returns how many. Prepared ones only if that state is asked for."""
        condition, parameters = _condition(selection)
        query = f"SELECT seq, upload, consumer FROM events WHERE claimer IS NULL AND {condition} ORDER BY seq LIMIT :page"
        count = self._in_pages(query, parameters, self._drop_one)
        if selection.states is not None and EventState.PREPARED in selection.states and selection.since is None:
            condition, parameters = _condition(selection, intents=True)
            query = f"SELECT number FROM intents WHERE {condition} ORDER BY number LIMIT :page"
            count += self._in_pages(query, parameters, self._drop_intent)
        return count

    def _drop_one(self, row: sqlite3.Row) -> None:
        self._connection.execute("DELETE FROM events WHERE seq = ?", (row["seq"],))
        self._connection.execute(sql.ADVANCE, {"upload": row["upload"], "consumer": row["consumer"]})

    def _drop_intent(self, row: sqlite3.Row) -> None:
        self._connection.execute("DELETE FROM intents WHERE number = ?", (row["number"],))

    def _in_pages(self, query: str, parameters: Mapping[str, Any], change: Callable[[sqlite3.Row], None]) -> int:
        """Change all rows that `query` finds, which it then no longer does."""
        count, found = 0, PAGE
        cursor = self._connection.cursor()
        cursor.row_factory = sqlite3.Row
        try:
            while found == PAGE:
                self._connection.execute("BEGIN IMMEDIATE")
                release_departed(self._connection, self._state_dir, self._clock())
                rows = cursor.execute(query, {**parameters, "page": PAGE}).fetchall()
                for row in rows:
                    change(row)
                self._connection.execute("COMMIT")
                found = len(rows)
                count += found
        except sqlite3.Error as error:
            raise translate_sqlite(error, "changing events") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return count


_LISTED = ("id", "type", "upload", "consumer", "state", "created_at", "due_at", "attempts", "error")
_KEPT = ("id", "consumer", "upload", "type", "payload", "created_at")

_ALL = """
SELECT id, type, upload, consumer, 'prepared' AS state, created_at, created_at AS due_at, 0 AS attempts, NULL AS error,
    NULL AS claimer, NULL AS settled_at, number AS place FROM intents
UNION ALL
SELECT id, type, upload, consumer, state, created_at, due_at, attempts, error, claimer, settled_at, seq FROM events
"""


def _condition(selection: Selection, *, intents: bool = False) -> tuple[str, dict[str, Any]]:
    """An SQL condition and its parameters."""
    parts, parameters = ["1"], dict[str, Any]()
    for name, values in (("id", selection.ids), ("type", selection.types), ("state", None if intents else selection.states)):
        if values is not None:
            names = {f"{name}{number}": str(value) for number, value in enumerate(sorted(values))}
            parts.append(f"{name} IN ({', '.join(f':{one}' for one in names)})")
            parameters |= names
    for name, value in (("upload", selection.upload), ("consumer", selection.consumer)):
        if value is not None:
            parts.append(f"{name} = :{name}")
            parameters[name] = value
    if selection.since is not None:
        parts.append("settled_at >= :since")
        parameters["since"] = selection.since
    return " AND ".join(parts), parameters
