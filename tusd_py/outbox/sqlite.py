"""The outbox in a SQLite database: `events.db` below the upload directory, for all processes of one machine.

What a process has claimed is its own as long as it lives (`fs.presence`): when it is gone, however it went, the others notice
within seconds, and one that starts notices at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial

from tusd_py.fs.directories import prepare_directory
from tusd_py.fs.errors import translate
from tusd_py.fs.presence import Presence, departed, forget, is_present
from tusd_py.outbox import statements as sql
from tusd_py.outbox import transactions
from tusd_py.outbox.connection import open_database
from tusd_py.outbox.sql_thread import SqlThread, Strength
from tusd_py.outbox.transactions import PAGE, Packed
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.events import Backlog, EventState, StoredEvent
from tusd_py.protocol.hooks import HookEvent, HookType

__all__ = ["DATABASE", "KEEP_DEAD", "SqliteOutbox", "release_departed"]

DATABASE = "events.db"
"""In the state directory."""

CLAIMERS = "claimers"
"""The directory with a file for each process that uses the outbox."""

KEEP_DEAD = 30 * 86400.0
"""Seconds that events nobody could be told about are kept, for somebody to find out and replay them."""

LOOK_AROUND = 2.0
"""Seconds between two looks for processes that have died: soon enough for those who wait, at some microseconds for each."""


class SqliteOutbox:
    """An `Outbox` whose state is in `state_dir`, opened at the first call. Belongs to an event loop and to its process.

    `retention` is how long delivered events are kept, in seconds; 0 is not at all. Where not `durable`, what is prepared
    survives the process, but not a power cut.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        retention: float = 86400.0,
        durable: bool = True,
        clock: Clock = system_clock,
        dir_mode: int = 0o775,
    ) -> None:
        self._directory, self._dir_mode = state_dir, dir_mode
        self._retention, self._durable, self._clock = retention, durable, clock
        self._thread = SqlThread(self._connect, self._say_goodbye)
        self._presence: Presence | None = None
        self._looked = -LOOK_AROUND

    def __repr__(self) -> str:
        return f"<SqliteOutbox {self._directory!r} {self._thread!r}>"

    # The port

    async def prepare(self, events: Sequence[HookEvent], consumers: Collection[str]) -> None:
        packed, now = [Packed.of(event) for event in events], self._clock()
        strength = Strength.DURABLE if self._durable else Strength.WRITE
        await self._thread.run(lambda db: transactions.prepare(db, packed, consumers, now), strength)

    async def confirm(self, event: HookEvent, consumers: Collection[str], *, only_prepared: bool = False) -> None:
        packed, now = Packed.of(event), self._clock()

        def work(db: sqlite3.Connection) -> None:
            transactions.confirm(db, packed, consumers, now, self._token, only_prepared=only_prepared)

        await self._thread.run(work, Strength.WRITE)

    async def withdraw(self, upload_id: str, types: Collection[HookType]) -> None:
        await self._thread.run(lambda db: transactions.withdraw(db, upload_id, types), Strength.WRITE)

    async def prepared(self, before: float) -> AsyncIterator[StoredEvent]:
        after: tuple[float, int] | None = (0.0, 0)
        while after is not None:
            work = partial(transactions.prepared_page, before=before, after=after)
            page, after = await self._thread.run(work, Strength.READ)
            for stored in page:
                yield stored

    async def claim(self, consumer: str, count: int) -> Sequence[StoredEvent]:
        now, claimed = self._clock(), list[tuple[int, StoredEvent]]()

        def work(db: sqlite3.Connection) -> None:
            self._look_around(db, now)
            claimed[:] = transactions.claim(db, consumer, count, now, self._token)

        try:
            await self._thread.run(work, Strength.WRITE)
        except asyncio.CancelledError:  # nobody will settle them
            self._thread.post(lambda db: transactions.release(db, [seq for seq, _ in claimed], self._token))
            raise
        return [stored for _, stored in claimed]

    async def settle(self, delivered: Sequence[StoredEvent], failed: Sequence[StoredEvent]) -> None:
        now, keep = self._clock(), self._retention > 0
        await self._thread.run(
            lambda db: transactions.settle(db, delivered, failed, now, self._token, keep=keep), Strength.WRITE
        )

    async def next_due(self, consumer: str) -> float | None:
        return await self._thread.run(lambda db: transactions.next_due(db, consumer, self._token), Strength.READ)

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        return await self._thread.run(lambda db: transactions.undelivered(db, upload_id, besides), Strength.READ)

    async def backlog(self, consumer: str) -> Backlog:
        return await self._thread.run(lambda db: transactions.backlog(db, consumer), Strength.READ)

    async def tidy(self) -> None:
        now = self._clock()
        await self._thread.run(lambda db: self._look_around(db, now, at_once=True), Strength.WRITE)
        for state, retention in ((EventState.DELIVERED, self._retention), (EventState.DEAD, KEEP_DEAD)):
            await self._drop(state, now - retention)

    async def _drop(self, state: EventState, before: float) -> None:
        """Drop all that was settled before, some at a time: others go in between."""
        dropped = PAGE
        while dropped == PAGE:
            dropped = await self._thread.run(lambda db: transactions.drop_settled(db, state, before), Strength.WRITE)

    async def close(self) -> None:
        await self._thread.close()

    # In the thread

    @property
    def _token(self) -> str:
        assert self._presence is not None  # as there is a connection
        return self._presence.token

    def _connect(self) -> sqlite3.Connection:
        if self._presence is None:
            self._presence = self._appear()
        connection = open_database(f"{self._directory}/{DATABASE}", durable=self._durable)
        self._looked = -LOOK_AROUND
        return connection

    def _appear(self) -> Presence:
        claimers = prepare_directory(f"{self._directory}/{CLAIMERS}", self._dir_mode)
        temporary = prepare_directory(f"{self._directory}/tmp", self._dir_mode)
        try:
            return Presence(claimers, temporary, 0o600)
        except OSError as error:
            raise translate(error, f"making a file in {claimers!r}") from error

    def _look_around(self, db: sqlite3.Connection, now: float, *, at_once: bool = False) -> None:
        moment = time.monotonic()
        if at_once or moment - self._looked >= LOOK_AROUND:
            self._looked = moment
            release_departed(db, self._directory, now)

    def _say_goodbye(self, db: sqlite3.Connection | None) -> None:
        """Let go at once of what others would find to be free anyway."""
        try:
            if db is not None:
                db.execute("BEGIN IMMEDIATE")
                transactions.take_over(db, [self._token], self._clock())
                db.execute("COMMIT")
        finally:
            presence, self._presence = self._presence, None
            if presence is not None:
                presence.close()


def release_departed(db: sqlite3.Connection, state_dir: str, now: float) -> None:
    """Let everybody have what processes that are gone had claimed. Within a transaction.

    Should that be rolled back, the claims are found again by those who made them, whose files are not there any more.
    """
    claimers = f"{state_dir}/{CLAIMERS}"
    with contextlib.suppress(OSError):  # what can't be found out now may be later
        gone = departed(claimers)
        noted = [row[0] for row in db.execute(sql.CLAIMERS)]
        unknown = [token for token in noted if token not in gone and not is_present(claimers, token)]
        transactions.take_over(db, [*gone, *unknown], now)
        for token in gone:
            forget(claimers, token)
