"""One thread that has the connection to a database, and commits together what many tasks want.

While it is committing, calls gather; all that have gathered become one transaction. One that has to survive a power cut makes
it wait for the disk, and the others are none the worse. A call that fails takes nobody with it: the transaction is rolled back
and each is run on its own. Knows no events.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tusd_py.outbox.connection import is_beyond_repair, translate_sqlite
from tusd_py.ports.failures import StorageFailure

__all__ = ["MAX_QUEUED", "SqlThread", "Strength"]

_log = logging.getLogger("tusd_py.outbox")

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

MAX_QUEUED = 2000
"""Calls that may wait for the thread; further ones wait for their turn to wait. It does some thousands a second."""

_TOGETHER = 500
"""Calls in one transaction: some hundredths of a second, during which other processes cannot write."""


class Strength(enum.IntEnum):
    """What a call needs of its transaction."""

    READ = 0
    WRITE = 1
    DURABLE = 2


@dataclass(slots=True)
class _Call:
    """`done` is None where nobody waits; then it took no room either."""

    work: Work[Any]
    strength: Strength
    done: asyncio.Future[Any] | None
    result: Any = None
    error: BaseException | None = None


class SqlThread:
    """Runs calls on the connection that `connect` opens, at the first of them. `goodbye` is run last, if anything was, with the
    connection if there is one.

    Belongs to the event loop that first uses it. The thread does not keep the process from ending.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], goodbye: Callable[[sqlite3.Connection | None], None]) -> None:
        self._connect, self._goodbye = connect, goodbye
        self._connection: sqlite3.Connection | None = None
        self._synchronous = ""
        self._queue: deque[_Call] = deque()
        self._wake = threading.Condition()
        self._room = asyncio.Semaphore(MAX_QUEUED)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: Future[None] = Future()
        self._closing = False

    def __repr__(self) -> str:
        return f"<SqlThread {len(self._queue)} queued{' closing' if self._closing else ''}>"

    async def run(self, work: Work[T], strength: Strength) -> T:
        """What `work` returns, once it is committed. Raises `StorageFailure`, or what `work` raises; then nothing was done.

        `work` may be run more than once. What is cancelled after its turn to wait has come is done all the same.
        """
        await self._room.acquire()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._enqueue(_Call(work, strength, done)):
            self._room.release()
            raise StorageFailure("the outbox is closed")
        return await done

    def post(self, work: Work[Any]) -> None:
        """Have something done that nobody waits for, behind all that was asked for before; nothing once this is closed."""
        self._enqueue(_Call(work, Strength.WRITE, None))

    async def close(self) -> None:
        """Do what is queued, then end the thread. Idempotent, and for any event loop: that of the others may be gone."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.shield(asyncio.wrap_future(self._ended))

    def _enqueue(self, call: _Call) -> bool:
        with self._wake:
            if self._closing:
                return False
            self._queue.append(call)
            if self._thread is None:
                self._loop = asyncio.get_running_loop()
                self._thread = threading.Thread(target=self._live, name="tusd-py-outbox", daemon=True)
                self._thread.start()
            self._wake.notify()
        return True

    # In the thread

    def _live(self) -> None:
        try:
            while calls := self._next_calls():
                self._execute(calls)
                self._on_loop(partial(self._tell, calls))
        finally:
            self._leave()
            self._ended.set_result(None)

    def _next_calls(self) -> list[_Call]:
        """All that have gathered, once there are any; none at the end."""
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), _TOGETHER))]

    def _execute(self, calls: list[_Call]) -> None:
        if self._together(calls) or len(calls) == 1:
            return
        for call in calls:
            call.error = None
            self._together([call])

    def _together(self, calls: list[_Call]) -> bool:
        """Run all in one transaction; whether that is how it stays: it worked, or would work no better for each by itself."""
        begun = False
        try:
            connection = self._begin(max(call.strength for call in calls))
            begun = True
            for call in calls:
                call.result = call.work(connection)
            connection.execute("COMMIT")
        except BaseException as error:  # whatever it is, somebody waits to hear of it
            self._undo(error)
            for call in calls:
                call.error = error
            return not begun
        return True

    def _begin(self, strength: Strength) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
            self._synchronous = ""
        synchronous = "FULL" if strength is Strength.DURABLE else "NORMAL"
        if synchronous != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        self._connection.execute("BEGIN" if strength is Strength.READ else "BEGIN IMMEDIATE")
        return self._connection

    def _undo(self, error: BaseException) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            broken = is_beyond_repair(error)
        except sqlite3.Error:
            broken = True
        if broken:
            self._connection = None
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _leave(self) -> None:
        """Never raises: nobody would hear."""
        connection, self._connection = self._connection, None
        try:
            self._goodbye(connection)
        except sqlite3.Error as error:
            _log.warning("the outbox could not be left in order", extra={"fields": {"error": str(error)}})
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _on_loop(self, call: Callable[[], object]) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call)

    # On the event loop

    def _tell(self, calls: list[_Call]) -> None:
        for call in calls:
            if call.done is None:
                if call.error is not None:
                    _log.warning("the outbox could not be updated", extra={"fields": {"error": str(call.error)}})
                continue
            self._room.release()
            if call.done.done():  # cancelled
                continue
            if call.error is None:
                call.done.set_result(call.result)
            else:
                call.done.set_exception(_failure(call.error))


def _failure(error: BaseException) -> BaseException:
    """One for each waiter: exceptions collect tracebacks."""
    if isinstance(error, sqlite3.Error):
        failure: BaseException = translate_sqlite(error, "the outbox")
    elif isinstance(error, StorageFailure):
        failure = type(error)(*error.args)
    else:
        return error
    failure.__cause__ = error
    return failure
