"""Long file work in threads, with cancellation that waits: when it is reported, the thread has stopped touching the files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from threading import Event
from typing import TypeVar

__all__ = ["run_to_end"]

T = TypeVar("T")


async def run_to_end(pool: Executor, work: Callable[[Event], T]) -> T:
    """Run `work(stop)` in a thread of `pool`; if this task is cancelled, set `stop`, and wait for `work` to return or raise.

    `work` looks at `stop` now and then. A cancellation may come too late to stop anything: the caller undoes what was done.
    Waiting is what keeps a thread from writing to a descriptor, or unlinking a name, that is somebody else's by then.
    """
    stop = Event()
    job = pool.submit(work, stop)
    done = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stop.set()
        done.add_done_callback(_retrieve)
        while not (job.cancel() or job.done()):
            with contextlib.suppress(asyncio.CancelledError):  # a second cancellation: the first is on its way already
                await asyncio.wait([done])
        raise


def _retrieve(done: asyncio.Future[T]) -> None:
    """What work fails with after its cancellation concerns nobody, and asyncio should not log that nobody asked."""
    if not done.cancelled():
        done.exception()
