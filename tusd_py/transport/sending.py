"""Sending part of a file straight from the page cache to a socket (ASGI's zero-copy send), in threads while it flows."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress

from tusd_py.transport import threads

__all__ = ["send_file"]

IDLE_MS = 10
"""A thread that the client has kept waiting this long goes back to the pool, and the event loop watches the socket."""

PIECE = 8 << 20
"""One call's share; the kernel ends it sooner, when the socket's buffer is full."""


async def send_file(socket_fd: int, file: int, offset: int, count: int, timeout: float, gone: Callable[[], bool]) -> None:
    """Send `count` bytes of `file` from `offset`. The transport's own buffer must be empty.

    Raises `ConnectionError` when the client is gone or took nothing for `timeout` seconds, `EOFError` when the file is shorter.
    """
    own = os.dup(socket_fd)  # ours to read until we are done, whatever becomes of the transport
    try:
        end = offset + count
        while True:
            sending = threads.run(lambda: _send_while_flowing(own, file, offset, end, gone))  # noqa: B023 - awaited before it changes
            try:
                offset = await asyncio.shield(sending)
            except asyncio.CancelledError:
                while not sending.done():  # the thread uses our descriptor, however often we are cancelled
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait((sending,))
                sending.exception()  # retrieved, or asyncio would log that nobody did
                raise
            if offset >= end:
                return
            await _writable(own, timeout)
    finally:
        os.close(own)


def _send_while_flowing(sock: int, file: int, offset: int, end: int, gone: Callable[[], bool]) -> int:
    """Send until the client stops taking or this turn is over; returns the offset reached."""
    writable = select.poll()
    writable.register(sock, select.POLLOUT)
    start = offset
    while offset < end:
        if gone():
            raise ConnectionResetError("the connection was closed")
        try:
            sent = os.sendfile(sock, file, offset, min(PIECE, end - offset))
        except BlockingIOError:
            if not writable.poll(IDLE_MS):
                break
            continue
        if not sent:
            raise EOFError(f"the file ends {end - offset} bytes early")
        offset += sent
        if offset - start >= threads.TURN_BYTES and threads.others_wait():
            break
    return offset


async def _writable(sock: int, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(sock, wake)
    try:
        await asyncio.wait_for(ready, timeout)
    except TimeoutError:
        raise ConnectionAbortedError(f"the client took nothing for {timeout:g} s") from None
    finally:
        loop.remove_writer(sock)
