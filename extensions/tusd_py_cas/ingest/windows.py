"""The buffers that contents are read into: a fixed number, so that memory is bounded whatever is taken in."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock

from tusd_py_cas.ingest.cutting import Cut

__all__ = ["SMALL", "Buffers", "Window"]

WINDOW = 16 << 20
"""Bytes: half a chunk or one and a half are read again with the next window, so it should hold many."""

MEMORY = 96 << 20
"""Bytes of all windows together, as long as there are enough of them; the rest of a process that takes 256 MiB is for the
interpreter, compressors, the index, and what is on its way to the disk."""

ENOUGH = 4
"""Windows: while one waits for the disk, others are read, hashed and compressed."""

SMALL = 1 << 20
"""Bytes of a content up to which it has a buffer of its own, so that many can wait for the disk at once."""


class Window:
    """A run of whole chunks of a content, from its byte `position`, in memory that several make use of."""

    __slots__ = ("_give_back", "_lock", "_users", "bytes", "cuts", "position")

    def __init__(self, memory: mmap.mmap | bytearray, give_back: Callable[[], object]) -> None:
        self._give_back, self._users = give_back, 1
        self._lock = Lock()
        self.bytes = memoryview(memory)
        self.position = 0
        self.cuts: Sequence[Cut] = ()

    def fill(self, position: int, cuts: Sequence[Cut], *, users: int) -> None:
        """Its bytes are those from `position`; these are the chunks in it. `users` are going to `release` it, once each."""
        self.position, self.cuts, self._users = position, cuts, users
        self.bytes = self.bytes[: cuts[-1].end]

    @property
    def end(self) -> int:
        """Where the content goes on behind it."""
        return self.position + len(self.bytes)

    def release(self) -> None:
        """One of its users is through."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            self._give_back()


class Buffers:
    """Memory for windows that hold at least two chunks of any size. A page takes memory from when it is first used."""

    def __init__(self, max_chunk: int) -> None:
        self.size = max(WINDOW, 2 * max_chunk)
        self.count = max(ENOUGH, MEMORY // self.size)
        self._free: SimpleQueue[mmap.mmap] = SimpleQueue()
        for _ in range(self.count):
            self._free.put(_new(self.size))

    def take(self, content: int) -> Window:
        """A window for a content of that size. Waits until there is one; those that are in use do not wait for others."""
        if content <= SMALL:
            return Window(bytearray(content), lambda: None)
        memory = self._free.get()
        return Window(memory, lambda: self._free.put(memory))


def _new(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # of shared memory huge pages are rarely allowed
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)  # the first GB costs less by 0.1 s of page faults, and hashing is a little faster
    return memory
