"""The few threads that move bytes between sockets and stores while data flows. No request keeps one while it waits.

A piece of work runs until its data stops flowing, or, while other work is waiting for a thread, until its turn is over.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["BUFFER_BYTES", "TURN_BYTES", "others_wait", "run", "thread_buffer"]

Result = TypeVar("Result")

THREADS = 4 * (os.cpu_count() or 1)
"""Threads spend their time in system calls that copy: more than the cores can copy at once gain nothing but fairness."""

BUFFER_BYTES = 1 << 20
"""What one read takes at most. Python's time goes per call, not per byte: 1 MiB reaches the CPU time of a bare loop in C."""

TURN_BYTES = 16 << 20
"""How much one request moves before it lets the next have the thread: some 10 ms."""

_local = threading.local()
_pool: ThreadPoolExecutor | None = None
_pool_pid = 0
_waiting = 0  # work handed in and not yet begun; exact enough without a lock, since it only decides about fairness


def thread_buffer() -> memoryview:
    """This thread's buffer for reading, `BUFFER_BYTES` long. Its content is anybody's after the call returns."""
    buffer: memoryview | None = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = memoryview(bytearray(BUFFER_BYTES))
    return buffer


def others_wait() -> bool:
    """Whether work is waiting for a thread."""
    return _waiting > 0


def run(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """Do `work` in one of the threads."""
    global _pool, _pool_pid, _waiting
    if _pool is None or _pool_pid != os.getpid():  # threads do not survive a fork
        _pool, _pool_pid = ThreadPoolExecutor(THREADS, thread_name_prefix="tusd-py-transport"), os.getpid()

    def begin() -> Result:
        global _waiting
        _waiting -= 1
        return work()

    _waiting += 1
    return asyncio.get_running_loop().run_in_executor(_pool, begin)
