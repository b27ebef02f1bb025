"""The account in SQLite, for any number of processes of one machine: `<upload-dir>/.tusd-py/account.db`.

A creation is decided and reserved in one transaction that nobody else can be in. How far uploads have come is written down
together, a moment later; but always before the same process decides on another creation.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from tusd_py.fs.directories import prepare_directory
from tusd_py.fs.paths import STATE_DIR, state_path
from tusd_py.limits import statements
from tusd_py.limits.database import Database, transaction
from tusd_py.limits.entries import Entry
from tusd_py.limits.recovery import GRACE, Records, drop_gone, restore_all
from tusd_py.limits.rules import LimitSettings, client_key, judge, judge_length
from tusd_py.limits.schema import migrate
from tusd_py.limits.space import free_bytes
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.upload import Upload

__all__ = ["SqliteLimiter"]

_log = logging.getLogger("tusd_py.limits")

BATCH_DELAY = 0.25
"""Seconds that progress waits for other progress to be written with it. Longer would let other processes see a disk that has
become fuller with bytes that are still promised, and refuse what fits."""

RETRY = 5.0
"""Seconds before changes that could not be written are tried again."""

MAX_CHANGES = 20_000
"""Changes kept while they can't be written: a disk may stay full for long. What is dropped, the next start finds out."""

T = TypeVar("T")

_Changes = dict[str, Entry | None]


class SqliteLimiter:
    """A `Limiter` over the upload directory `root`, whose records are `records`. Belongs to one event loop.

    `free` tells how many bytes the disk has left. Raises `ReadOnlyStorage` where the directory can't be used.
    """

    def __init__(
        self,
        root: str,
        limits: LimitSettings,
        records: Records,
        *,
        clock: Clock = system_clock,
        free: Callable[[], int] | None = None,
        dir_mode: int = 0o775,
        grace: float = GRACE,
    ) -> None:
        prepare_directory(f"{root}/{STATE_DIR}", dir_mode)
        self._database = Database(state_path(root, "account.db"), migrate)
        self._limits, self._records, self._clock, self._grace = limits, records, clock, grace
        self._free = free or partial(free_bytes, root)
        self._changes: _Changes = {}  # what is not written yet: the latest of each upload, None where it is gone
        self._lock = asyncio.Lock()  # one transaction after the other: older news never overtakes newer
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._later: asyncio.Task[None] | None = None  # the second look of a recovery
        self._closed = False

    def __repr__(self) -> str:
        return f"<SqliteLimiter {self._database!r} unwritten={len(self._changes)}>"

    # Deciding

    async def admit(self, upload: Upload, client: str) -> None:
        now = self._clock()
        entry, key = Entry.of(upload, now), client_key(upload.owner, client)

        def decide(connection: sqlite3.Connection) -> Refusal | None:
            figures = statements.look_up(connection, entry, key, self._limits, self._free, now)
            refusal = judge(upload, self._limits, figures, now)
            if refusal is None:
                statements.add(connection, entry, now)
                if self._limits.create_rate is not None:
                    statements.take_rate(connection, key, figures.arrival, now, self._limits.create_rate)
            return refusal

        await self._decide(decide, lambda: self._note(upload.id, None))

    async def extend(self, before: Upload, after: Upload) -> None:
        now = self._clock()
        entry = Entry.of(after, now)

        def decide(connection: sqlite3.Connection) -> Refusal | None:
            figures = statements.look_up(connection, entry, "", self._limits, self._free, now)
            refusal = judge_length(after, self._limits, figures)
            if refusal is None:
                statements.add(connection, entry, now)
                statements.change(connection, entry)
            return refusal

        await self._decide(decide, lambda: self._note(before.id, Entry.of(before, now)))

    async def _decide(self, decide: Callable[[sqlite3.Connection], Refusal | None], undo: Callable[[], None]) -> None:
        """Raise the refusal that `decide` returns. When this is cancelled, the decision may fall all the same: `undo` it."""
        decision = self._start(self._transact(decide))
        try:
            refusal = await asyncio.shield(decision)
        except asyncio.CancelledError:
            decision.add_done_callback(lambda _: undo())
            raise
        if refusal is not None:
            raise refusal

    # Following

    async def progress(self, upload: Upload) -> None:
        """Written a moment later; at once, and waited for, when the upload has all its bytes: its place is free then."""
        entry = Entry.of(upload, self._clock())
        self._note(upload.id, entry)
        if entry.finished:
            await self._write()

    async def forget(self, upload_id: str) -> None:
        self._note(upload_id, None)
        await self._write()

    def _note(self, upload_id: str, change: Entry | None) -> None:
        self._changes[upload_id] = change
        self._write_later(BATCH_DELAY)

    def _write_later(self, delay: float) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(delay, lambda: self._start(self._write()))

    async def _write(self) -> None:
        """Return once what has been noted is written, or could not be."""
        try:
            await self._to_end(lambda _: None)
        except StorageFailure:
            _log.exception("the account of uploads could not be written; it will be tried again")

    # Transactions

    async def _to_end(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A transaction that goes on when the caller is cancelled."""
        return await asyncio.shield(self._start(self._transact(work)))

    async def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Write what has been noted and do `work`, all or nothing. Not to be cancelled but with the process."""

        def all_of_it(connection: sqlite3.Connection) -> T:
            with transaction(connection):
                statements.drop(connection, [upload_id for upload_id, entry in changes.items() if entry is None])
                for entry in changes.values():
                    if entry is not None:
                        statements.change(connection, entry)
                return work(connection)

        async with self._lock:
            changes = self._take_changes()
            try:
                return await self._database.run(all_of_it)
            except BaseException:
                self._put_back(changes)
                raise

    def _take_changes(self) -> _Changes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        changes, self._changes = self._changes, {}
        return changes

    def _put_back(self, changes: _Changes) -> None:
        """What has been noted meanwhile is newer."""
        self._changes = dict([*changes.items(), *self._changes.items()][-MAX_CHANGES:])
        if self._changes:
            self._write_later(RETRY)

    def _start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waited has it; who was cancelled does not want it

    # Recovery

    async def recover(self) -> None:
        """Enter all records, take out what has none. What is too young to tell is looked at again later, in the background."""
        began = self._clock()
        await restore_all(self, self._records, began)
        await drop_gone(self, self._records, began, began - self._grace)
        if self._later is None and not self._closed:
            self._later = asyncio.get_running_loop().create_task(self._look_again(began), name="tusd-py account")

    async def _look_again(self, began: float) -> None:
        await asyncio.sleep(self._grace)
        try:
            await drop_gone(self, self._records, began, began)
        except StorageFailure:
            _log.exception("the account of uploads could not be tidied up")

    async def restore(self, entries: Sequence[Entry], began: float) -> list[str]:
        """For `recovery`."""
        return await self._to_end(partial(statements.restore, entries=entries, began=began))

    async def unseen(self, began: float, created_before: float, after: str, count: int) -> list[str]:
        """For `recovery`."""
        look = partial(statements.unseen, began=began, created_before=created_before, after=after, count=count)
        return await self._database.run(look)

    async def drop(self, upload_ids: Sequence[str]) -> None:
        """For `recovery`."""
        await self._to_end(partial(statements.drop, upload_ids=upload_ids))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._later is not None:
            self._later.cancel()
            await asyncio.gather(self._later, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._changes:
            await self._write()
        self._take_changes()
        await self._database.close()
