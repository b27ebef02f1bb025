"""Sending part of a file: what the tests of the protocol can't bring about."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from tusd_py.transport import sending, threads
from tusd_py.transport.sending import send_file


async def test_cancellation_waits_for_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor would otherwise be closed, and perhaps another's by then, while the thread writes to it."""
    go, used = threading.Event(), []

    def slow(sock: int, *_: object) -> int:
        used.append(sock)
        assert go.wait(30)
        os.fstat(sock)
        raise ConnectionResetError

    monkeypatch.setattr(sending, "_send_while_flowing", slow)
    left, right = socket.socketpair()
    with left, right:
        task = asyncio.create_task(send_file(left.fileno(), 0, 0, 10, 30.0, lambda: False))
        async with asyncio.timeout(30):
            while not used:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.001)
            assert not task.done()
            os.fstat(used[0])
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(used[0])


async def test_a_turn_ends_when_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "TURN_BYTES", 1)
    monkeypatch.setattr(threads, "others_wait", lambda: True)
    monkeypatch.setattr(sending, "PIECE", 3)
    file = os.memfd_create("file")
    os.write(file, b"0123456789")
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        await send_file(left.fileno(), file, 2, 7, 30.0, lambda: False)
        assert right.recv(100) == b"2345678"
    os.close(file)
