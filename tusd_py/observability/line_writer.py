"""Writes log lines in a thread of its own: who logs only appends to a queue, and never waits for whoever reads our output.

The queue is bounded. When the reader stalls and the queue is full, lines are dropped and counted; as soon as there is room
again an entry says how many. What is queued is written at exit, at shutdown and before a fork. Knows nothing of what lines say:
entries are made into text by the function it is given.
"""

from __future__ import annotations

import os
import select
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TextIO
from weakref import WeakSet

__all__ = ["Dropped", "LineWriter"]

LIMIT = 20_000
"""Entries that wait at most: the lines of as many requests, some 20 MiB, and what a busy server says in seconds."""

GATHER = 0.02
"""Seconds to wait for more lines before writing: one wake-up and one system call for what a busy server logs meanwhile."""

BATCH = 100
"""Entries written with one system call: the lines of as many requests, some 100 KiB."""

FLUSH_TIMEOUT = 2.0
"""Seconds that a flush waits for a reader that has stalled."""

Render = Callable[[Sequence[Any]], str]


class Dropped(int):
    """An entry: so many entries are missing here."""


class LineWriter:
    """A queue of entries and the thread that writes them. `put`, `hurry` and `flush` may be called in any thread.

    Written to `stream`'s descriptor, or by its `write` where it has none. An output that has gone away loses lines, no more.
    """

    def __init__(self, stream: TextIO, render: Render, *, limit: int = LIMIT) -> None:
        self._stream, self._fd, self._render, self._limit = stream, _descriptor(stream), render, limit
        self._queue: deque[Any] = deque()
        self.before_flush: Callable[[], object] = lambda: None
        """Called by `flush`: who has something that is not queued yet queues it now."""
        self.lost = 0
        """Lines that were dropped or could not be written, since the start."""
        self._dropped = 0
        self._reset()
        _writers.add(self)

    def __repr__(self) -> str:
        return f"<LineWriter queued={len(self._queue)} lost={self.lost}>"

    def _reset(self) -> None:
        """The thread does not run, and sleeps."""
        self._thread: threading.Thread | None = None
        self._wanted, self._urgent = threading.Event(), threading.Event()
        self._flushes: list[threading.Event] = []
        self._idle, self._writing = True, False

    def start(self) -> None:
        """Start the thread now. It starts by itself at the first line, which takes longer than an event loop should wait."""
        self._thread = threading.Thread(target=self._run, name="tusd-py log", daemon=True)
        self._thread.start()

    def put(self, entry: Any) -> None:
        """Have this entry written some time soon, or dropped if there is no room for it."""
        queue = self._queue
        if len(queue) >= self._limit:
            self._dropped += 1
            self.lost += 1
            return
        if self._dropped:
            queue.append(Dropped(self._dropped))
            self._dropped = 0
        queue.append(entry)
        if self._idle:
            self._wake()

    def hurry(self) -> None:
        """Have what is queued written now, without waiting for more."""
        self._urgent.set()

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until everything queued so far is written; False if that was not possible in `timeout` seconds."""
        self.before_flush()
        if self._idle and not self._queue and not self._writing:  # in this order: what is not queued any more is being written
            return True
        done = threading.Event()
        self._flushes.append(done)
        self._urgent.set()
        self._wake()
        return done.wait(timeout)

    def _wake(self) -> None:
        self._idle = False
        if self._thread is None:
            self.start()
        self._wanted.set()

    # In the thread

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._urgent.wait(GATHER)
            self._wanted.clear()
            self._urgent.clear()
            self._drain()
            self._idle = True
            self._drain()  # what was appended before anybody could see that we sleep
            flushes, self._flushes = self._flushes, []
            for flush in flushes:
                flush.set()

    def _drain(self) -> None:
        queue = self._queue
        self._writing = True
        while count := min(len(queue), BATCH):
            entries = [queue.popleft() for _ in range(count)]
            try:
                self._write(self._text(entries))
            except (OSError, ValueError):  # closed, full, gone: there is nobody to be told
                self.lost += count
        self._writing = False

    def _text(self, entries: list[Any]) -> str:
        try:
            return self._render(entries)
        except Exception:  # a defect, which must not cost the log
            self.lost += len(entries)
            traceback.print_exc()
            return ""

    def _write(self, text: str) -> None:
        if self._fd is None:
            self._stream.write(text)
            self._stream.flush()
            return
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever shares our output has made it so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


_writers: WeakSet[LineWriter] = WeakSet()


def _before_fork() -> None:
    for writer in list(_writers):
        writer.flush()


def _after_fork_in_child() -> None:
    """A child has no such thread, and what is still queued is its parent's to write."""
    for writer in list(_writers):
        writer._queue.clear()
        writer._reset()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
