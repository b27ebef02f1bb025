"""Work that may take long or hang, done in a thread, once at a time: who asks while it is being done gets the same result."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["OneAtATime"]

T = TypeVar("T")


class OneAtATime(Generic[T]):
    """`work` and a thread to do it. It is a daemon: work that hangs, on a dead network disk say, keeps no process alive."""

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work, self._name = work, name
        self._running: asyncio.Future[T] | None = None

    async def result(self, timeout: float) -> T:
        """What `work` returns or raises. Raises TimeoutError after so many seconds; the work goes on, and no other is begun."""
        running = self._running
        if running is None:
            running = self._running = asyncio.get_running_loop().create_future()
            running.add_done_callback(self._forget)
            threading.Thread(target=self._run, args=(running,), name=self._name, daemon=True).start()
        return await asyncio.wait_for(asyncio.shield(running), timeout)

    def _forget(self, done: asyncio.Future[T]) -> None:
        self._running = None
        done.exception()  # asyncio should not log that nobody waited for it

    def _run(self, running: asyncio.Future[T]) -> None:
        try:
            result = self._work()
        except BaseException as failure:
            self._tell(running, running.set_exception, failure)
        else:
            self._tell(running, running.set_result, result)

    @staticmethod
    def _tell(running: asyncio.Future[T], settle: Callable[..., None], outcome: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            running.get_loop().call_soon_threadsafe(settle, outcome)
