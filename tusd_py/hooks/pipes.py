"""The two pipes to a process: what it is told, and what it says. Both without threads, and both let go whatever happens.

asyncio's own tie the end of a process to the end of its pipes, which a background job keeps open.
"""

from __future__ import annotations

import asyncio
import os
from typing import Self

__all__ = ["Pipes", "TooMuchOutput"]

_CHUNK = 65536
"""What a pipe holds on Linux: more can't come at once."""


class TooMuchOutput(Exception):
    """The process says more than anybody is prepared to read."""


class Pipes:
    """A context. `child_in` and `child_out` are for the process; close them here, by `started()`, once it runs.

    `ended` is done when nobody writes any more, and raises `TooMuchOutput` at `limit` bytes of output.
    """

    def __init__(self, message: bytes, limit: int) -> None:
        self._message, self._limit = memoryview(message), limit
        self._output = bytearray()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def __enter__(self) -> Self:
        self.child_in, self._writing = os.pipe()
        try:
            self._reading, self.child_out = os.pipe()
        except OSError:
            os.close(self.child_in)
            os.close(self._writing)
            raise
        self._children = [self.child_in, self.child_out]
        os.set_blocking(self._writing, False)
        os.set_blocking(self._reading, False)
        return self

    def __exit__(self, *exc: object) -> None:
        self.started()
        self._stop_writing()
        self._stop_reading()
        if self.ended.done() and not self.ended.cancelled():
            self.ended.exception()  # nobody may have asked
        else:
            self.ended.cancel()

    @property
    def output(self) -> bytes:
        """What has been said so far."""
        return bytes(self._output)

    def started(self) -> None:
        """The process has its ends, or never will: ours are not to keep the pipes open."""
        while self._children:
            os.close(self._children.pop())

    def begin(self) -> None:
        """Tell, and listen."""
        self._loop.add_reader(self._reading, self._read)
        self._loop.add_writer(self._writing, self._write)

    def _write(self) -> None:
        try:
            self._message = self._message[os.write(self._writing, self._message) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want to know (EPIPE)
            self._message = self._message[:0]
        if not self._message:
            self._stop_writing()

    def _read(self) -> None:
        try:
            data = os.read(self._reading, _CHUNK)
        except BlockingIOError:
            return
        self._output += data
        if len(self._output) > self._limit:
            self._stop_reading()
            self.ended.set_exception(TooMuchOutput())
        elif not data:
            self._stop_reading()
            self.ended.set_result(None)

    def _stop_writing(self) -> None:
        if self._writing >= 0:
            self._loop.remove_writer(self._writing)
            os.close(self._writing)
            self._writing = -1

    def _stop_reading(self) -> None:
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
