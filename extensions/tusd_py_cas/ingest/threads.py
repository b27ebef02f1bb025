"""Threads that are there before they are needed: one that can't be started, as where a container has its fill of them, must
not come between a buffer and whoever is to give it back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

from tusd_py.ports.failures import StorageFailure

__all__ = ["start_thread", "started_pool"]


def started_pool(count: int, name: str) -> ThreadPoolExecutor:
    """A pool of `count` threads, all of which run, so that `submit` can't fail. Raises `StorageFailure`."""
    pool, together = ThreadPoolExecutor(count, thread_name_prefix=name), Barrier(count)
    try:
        for _ in range(count):
            pool.submit(together.wait)  # a thread that waits takes no other task, so each gets one of its own
    except RuntimeError as error:
        together.abort()
        pool.shutdown()
        raise _failure(name, error) from error
    return pool


def start_thread(thread: Thread) -> None:
    """Raises `StorageFailure`."""
    try:
        thread.start()
    except RuntimeError as error:
        raise _failure(thread.name, error) from error


def _failure(name: str, error: RuntimeError) -> StorageFailure:
    return StorageFailure(f"threads for {name} can't be started: {error}")
