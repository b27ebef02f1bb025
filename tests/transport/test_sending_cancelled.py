"""A download that is cancelled, as when the server stops: what its thread fails with after that is nobody's business."""

from __future__ import annotations

import asyncio
import gc
import socket
import tempfile

import pytest

from tusd_py.transport.sending import send_file


async def test_a_failure_after_the_cancellation_is_not_logged() -> None:
    logged: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: logged.append(context))
    ours, theirs = socket.socketpair()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def gone() -> bool:
        loop.call_soon_threadsafe(asked.set)
        return task.cancelling() > 0

    with ours, theirs, tempfile.TemporaryFile() as file:
        ours.setblocking(False)
        file.truncate(1 << 30)
        task = asyncio.create_task(send_file(ours.fileno(), file.fileno(), 0, 1 << 30, 60.0, gone))
        reader = asyncio.create_task(_read_for_ever(theirs))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    gc.collect()
    assert logged == []


async def _read_for_ever(sock: socket.socket) -> None:
    sock.setblocking(False)
    while await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
        pass
