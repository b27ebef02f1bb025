"""Waiting for a condition, always bounded, and bringing a server into a known state without guessing at times."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.wire import OFFSET_STREAM, Connection, TusClient

Found = TypeVar("Found")

PAUSE = 0.01
"""Seconds between two looks at a condition: short against a request, long enough to leave the server the processor."""


def until(condition: Callable[[], Found], timeout: float = 15.0, what: object = "") -> Found:
    """The first true value that `condition` returns; fails after `timeout` seconds, telling the last value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout} s: {what or condition}")
        time.sleep(PAUSE)
    return value


def visible_offset(client: TusClient, path: str) -> int | None:
    """The offset that a HEAD without `Tus-Resumable` shows. Such a HEAD, unlike one of a tus client, interrupts nobody."""
    return client.request("HEAD", path, tus=False).offset


def until_offset(client: TusClient, path: str, offset: int, timeout: float = 15.0) -> None:
    """Wait until the upload shows `offset`."""
    seen: int | None = None

    def reached() -> bool:
        nonlocal seen
        seen = visible_offset(client, path)
        return seen == offset

    try:
        until(reached, timeout)
    except AssertionError:
        raise AssertionError(f"offset of {path} is {seen} and does not become {offset}") from None


def until_continue(connection: Connection) -> None:
    """Read an interim `100 Continue`; whatever else comes is a failure."""
    head = connection._until(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] == b"100", head


def begin_patch(client: TusClient, path: str, offset: int, length: int, **headers: object) -> Connection:
    """A connection on which the server has accepted a PATCH of `length` bytes and waits for the first of them."""
    connection = client.connect()
    pairs: dict[str, object] = {
        "Upload-Offset": offset,
        "Content-Type": OFFSET_STREAM,
        "Content-Length": length,
        "Expect": "100-continue",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    try:
        connection.send_head("PATCH", path, pairs)
        until_continue(connection)
    except BaseException:
        connection.sock.close()
        raise
    return connection


def until_delivered(connection: Connection) -> None:
    """Wait until the other side's kernel has acknowledged everything that was sent."""

    def unsent() -> int:
        return int(struct.unpack("i", fcntl.ioctl(connection.sock, termios.TIOCOUTQ, b"\0" * 4))[0])

    until(lambda: unsent() == 0, what="bytes unacknowledged")


def reset(connection: Connection) -> None:
    """End the connection by a RST instead of a FIN."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sock.close()
