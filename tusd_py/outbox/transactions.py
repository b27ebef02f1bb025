"""What happens in the database for each call of the outbox.

Each function runs inside of a transaction that somebody else begins and ends, in the thread that has the connection; it may be
run again where that was rolled back.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from tusd_py.outbox import statements as sql
from tusd_py.outbox.identity import AFTER_CREATION, new_event_id
from tusd_py.ports.events import AFFINITY, Backlog, EventState, StoredEvent
from tusd_py.protocol.exchange import NO_REQUEST
from tusd_py.protocol.hook_messages import build_event, parse_event
from tusd_py.protocol.hooks import HookEvent, HookType

__all__ = [
    "PAGE",
    "backlog",
    "claim",
    "confirm",
    "drop_settled",
    "next_due",
    "prepare",
    "prepared_page",
    "release",
    "settle",
    "take_over",
    "undelivered",
    "withdraw",
]

_log = logging.getLogger("tusd_py.outbox")

PAGE = 200
"""Rows that are read or dropped at once: few enough not to keep others waiting."""

_Cursor = tuple[float, int]


@dataclass(frozen=True, slots=True)
class Packed:
    """An event with its serialised form, which is made once however often a transaction is run again."""

    event: HookEvent
    payload: bytes

    @classmethod
    def of(cls, event: HookEvent) -> Packed:
        return cls(event, build_event(event))


def _unpacked(payload: bytes, event_id: str) -> HookEvent:
    return replace(parse_event(payload), id=event_id)


# Preparing and confirming


def prepare(connection: sqlite3.Connection, events: Sequence[Packed], consumers: Collection[str], now: float) -> None:
    for packed in events:
        event = packed.event
        key = {"upload": event.upload.id, "type": event.type}
        known = connection.execute(sql.INTENTS, key).fetchall()
        event_id = known[0][1] if known else event.id or new_event_id(now)
        payload = _with_request(packed, known)
        rows = ({**key, "consumer": name, "id": event_id, "payload": payload, "now": now} for name in consumers)
        connection.executemany(sql.PREPARE, rows)


def confirm(
    connection: sqlite3.Connection,
    packed: Packed,
    consumers: Collection[str],
    now: float,
    home: str,
    *,
    only_prepared: bool,
) -> None:
    event = packed.event
    if event.type in AFTER_CREATION:
        _confirm_creation(connection, event.upload.id, now, home)
    key = {"upload": event.upload.id, "type": event.type}
    intents = connection.execute(sql.INTENTS, key).fetchall()
    event_id = intents[0][1] if intents else event.id or new_event_id(now)
    payload = _with_request(packed, intents)
    row = {**key, "id": event_id, "payload": payload, "created_at": now, "now": now, "home": home, "affinity": AFFINITY}
    for consumer, _, _, created_at in intents:
        connection.execute(sql.ADD, {**row, "consumer": consumer, "created_at": created_at})
    if intents:
        connection.execute(sql.DROP_INTENT, key)
    if not only_prepared:
        others = set(consumers) - {consumer for consumer, *_ in intents}
        rows = [{**row, "consumer": name} for name in sorted(others)]
        if event.id:
            connection.executemany(sql.ADD, rows)  # which passes over an id that is there
        else:
            _add_unprepared(connection, rows, event.type)


def _confirm_creation(connection: sqlite3.Connection, upload_id: str, now: float, home: str) -> None:
    """The upload is there. Where that has been confirmed before, another one was to be made under its id."""
    key = {"upload": upload_id, "type": HookType.POST_CREATE}
    intents = connection.execute(sql.INTENTS, key).fetchall()
    for consumer, event_id, payload, created_at in intents:
        row = {**key, "consumer": consumer, "id": event_id, "payload": payload, "created_at": created_at}
        if connection.execute(sql.HAPPENED, row).fetchone() is None:
            connection.execute(sql.ADD, {**row, "now": now, "home": home, "affinity": AFFINITY})
            connection.execute(sql.DROP_INTENT_FOR, row)


def _with_request(packed: Packed, intents: Sequence[tuple[str, str, bytes, float]]) -> bytes:
    """The payload; with the request that was prepared where the confirmation knows of none."""
    if packed.event.request != NO_REQUEST or not intents:
        return packed.payload
    request = parse_event(intents[0][2]).request
    return packed.payload if request == NO_REQUEST else build_event(replace(packed.event, request=request))


def _add_unprepared(connection: sqlite3.Connection, rows: Iterable[dict[str, object]], kind: HookType) -> None:
    """Progress takes the place of older progress. All else happens once in the life of an upload, which begins with being
    prepared: two processes that decide upon it after a crash must not both add it."""
    for row in rows:
        if kind is HookType.POST_RECEIVE:
            if not connection.execute(sql.SUPERSEDE, row).rowcount:
                connection.execute(sql.ADD, row)
        elif connection.execute(sql.HAPPENED, row).fetchone() is None:
            connection.execute(sql.ADD, row)


def withdraw(connection: sqlite3.Connection, upload_id: str, types: Collection[HookType]) -> None:
    connection.executemany(sql.DROP_INTENT, [{"upload": upload_id, "type": kind} for kind in types])


def prepared_page(connection: sqlite3.Connection, before: float, after: _Cursor) -> tuple[list[StoredEvent], _Cursor | None]:
    """Some of what is prepared, and where to go on; None at the end."""
    place = {"before": before, "after_time": after[0], "after_number": after[1], "page": PAGE}
    rows = connection.execute(sql.INTENTS_BEFORE, place).fetchall()
    found = []
    for number, consumer, event_id, payload, created_at in rows:
        try:
            event = _unpacked(payload, event_id)
        except ValueError as error:
            _log.error(
                "a prepared event can't be read", extra={"fields": {"number": number, "event": event_id, "error": str(error)}}
            )
            continue
        state = EventState.PREPARED
        found.append(StoredEvent(event=event, consumer=consumer, state=state, created_at=created_at, due_at=created_at))
    return found, (rows[-1][4], rows[-1][0]) if len(rows) == PAGE else None


# Claiming


def claim(connection: sqlite3.Connection, consumer: str, count: int, now: float, claimer: str) -> list[tuple[int, StoredEvent]]:
    """What was claimed, by `seq`."""
    wanted = {"consumer": consumer, "count": count, "now": now, "claimer": claimer}
    rows = connection.execute(sql.CLAIM_AT_HOME, wanted).fetchall()
    if len(rows) < count:
        rows += connection.execute(sql.CLAIM_OPEN, {**wanted, "count": count - len(rows)}).fetchall()
    found = []
    for seq, event_id, _, payload, created_at, due_at, attempts, error in sorted(rows):
        try:
            event = _unpacked(payload, event_id)
        except ValueError as unreadable:
            _give_up_unreadable(connection, seq, event_id, str(unreadable), now)
            continue
        stored = StoredEvent(
            event=event,
            consumer=consumer,
            state=EventState.DUE,
            created_at=created_at,
            due_at=due_at,
            attempts=attempts,
            error=error,
        )
        found.append((seq, stored))
    return found


def _give_up_unreadable(connection: sqlite3.Connection, seq: int, event_id: str, error: str, now: float) -> None:
    _log.error("an event can't be read and is given up", extra={"fields": {"event": event_id, "error": error}})
    connection.execute(sql.UNREADABLE, {"seq": seq, "now": now, "error": f"can't be read: {error}"})
    upload, consumer = connection.execute("SELECT upload, consumer FROM events WHERE seq = ?", (seq,)).fetchone()
    connection.execute(sql.ADVANCE, {"upload": upload, "consumer": consumer})


def next_due(connection: sqlite3.Connection, consumer: str, claimer: str) -> float | None:
    wanted = {"consumer": consumer, "claimer": claimer}
    times = [connection.execute(statement, wanted).fetchone()[0] for statement in (sql.NEXT_AT_HOME, sql.NEXT_OPEN)]
    return min((time for time in times if time is not None), default=None)


def release(connection: sqlite3.Connection, claimed: Iterable[int], claimer: str) -> None:
    connection.executemany(sql.RELEASE, [{"seq": seq, "claimer": claimer} for seq in claimed])


def take_over(connection: sqlite3.Connection, gone: Iterable[str], now: float) -> None:
    """What was claimed by these processes, or left to them, is anybody's."""
    for claimer in gone:
        who = {"claimer": claimer, "now": now}
        connection.execute(sql.RELEASE_ALL, who)
        connection.execute(sql.LEAVE_HOME, who)


# Settling


def settle(
    connection: sqlite3.Connection,
    delivered: Sequence[StoredEvent],
    failed: Sequence[StoredEvent],
    now: float,
    claimer: str,
    *,
    keep: bool,
) -> None:
    """`keep` says whether delivered events are kept at all; progress never is: there is much of it, and newer."""
    for stored in delivered:
        forget = not keep or stored.event.type is HookType.POST_RECEIVE
        _settle_one(connection, sql.DELIVERED_AND_FORGOTTEN if forget else sql.DELIVERED, stored, now, claimer)
    for stored in failed:
        _settle_one(connection, sql.GIVEN_UP if stored.state is EventState.DEAD else sql.FAILED, stored, now, claimer)


def _settle_one(connection: sqlite3.Connection, statement: str, stored: StoredEvent, now: float, claimer: str) -> None:
    row = {
        "id": stored.event.id,
        "consumer": stored.consumer,
        "upload": stored.event.upload.id,
        "attempts": stored.attempts,
        "error": stored.error,
        "due_at": stored.due_at,
        "now": now,
        "claimer": claimer,
        "affinity": AFFINITY,
    }
    if connection.execute(statement, row).rowcount and statement is not sql.FAILED:
        connection.execute(sql.ADVANCE, row)


# Keeping house


def drop_settled(connection: sqlite3.Connection, state: EventState, before: float) -> int:
    """Drop some of what was settled before `before`; returns how many."""
    return connection.execute(sql.DELETE_SETTLED, {"state": state, "before": before, "page": PAGE}).rowcount


def undelivered(connection: sqlite3.Connection, upload_id: str, besides: str) -> int:
    count: int = connection.execute(sql.UNDELIVERED, {"upload": upload_id, "besides": besides}).fetchone()[0]
    return count


def backlog(connection: sqlite3.Connection, consumer: str) -> Backlog:
    count, oldest = connection.execute(sql.BACKLOG, {"consumer": consumer}).fetchone()
    return Backlog(count=count, oldest=oldest)
