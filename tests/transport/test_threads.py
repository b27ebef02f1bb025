"""The threads that move bytes."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from tusd_py.transport import threads


async def test_work_is_done_in_a_thread_of_ours() -> None:
    assert (await threads.run(lambda: threading.current_thread().name)).startswith("tusd-py-transport")
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_a_thread_has_a_buffer_of_its_own() -> None:
    def twice() -> tuple[memoryview, memoryview]:
        return threads.thread_buffer(), threads.thread_buffer()

    first, second = await threads.run(twice)
    assert first is second and len(first) == threads.BUFFER_BYTES and not first.readonly
    assert threads.thread_buffer() is not first


async def test_whether_others_wait() -> None:
    assert not threads.others_wait()
    go = threading.Event()
    busy = [threads.run(lambda: go.wait(30)) for _ in range(threads.THREADS)]
    while threads.others_wait():  # noqa: ASYNC110 - until all have begun
        await asyncio.sleep(0.001)
    last = threads.run(lambda: None)
    await asyncio.sleep(0.01)
    assert threads.others_wait()
    go.set()
    await asyncio.gather(*busy, last)
    assert not threads.others_wait()


async def test_a_fork_gets_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def me() -> int:
        return threading.get_ident()

    await threads.run(me)
    pool = threads._pool
    monkeypatch.setattr(os, "getpid", lambda: -1)
    await threads.run(me)
    assert threads._pool is not pool
    assert threads._pool is not None
    threads._pool.shutdown()
