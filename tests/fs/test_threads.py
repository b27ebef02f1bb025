"""A cancellation is reported when the thread has stopped, not before."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tusd_py.fs.threads import run_to_end


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_results_and_failures_come_through(pool: ThreadPoolExecutor) -> None:
    assert await run_to_end(pool, lambda stop: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await run_to_end(pool, lambda stop: 1 // 0)


async def test_cancellation_waits_for_the_thread(pool: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    started = asyncio.Event()
    may_end = Event()
    ended = []

    def work(stop: Event) -> None:
        loop.call_soon_threadsafe(started.set)
        stop.wait()
        may_end.wait()
        ended.append(True)

    task = asyncio.create_task(run_to_end(pool, work))
    await started.wait()
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()  # an impatient one
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_work_that_has_not_begun_never_begins(pool: ThreadPoolExecutor) -> None:
    busy, done = Event(), []
    pool.submit(busy.wait)
    task = asyncio.create_task(run_to_end(pool, lambda stop: done.append(True)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    busy.set()
    pool.submit(int).result()
    assert done == []


async def test_a_failure_after_the_cancellation_is_not_logged(pool: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    logged: list[object] = []
    loop.set_exception_handler(lambda _loop, context: logged.append(context))
    started = asyncio.Event()

    def work(stop: Event) -> None:
        loop.call_soon_threadsafe(started.set)
        stop.wait()
        raise OSError(5, "the disk is broken")

    task = asyncio.create_task(run_to_end(pool, work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)  # the future hears of the thread's end on the loop
    gc.collect()
    assert logged == []
