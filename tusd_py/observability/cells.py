"""Whole numbers that only grow, by name: what metrics are kept in. Adding to one is `values[index] += count`, and nothing else.

A server with several workers has them in memory that its workers share, made before the first fork: a page for each worker, to
which that worker alone writes, and from which all read. So any worker can tell the sum, at no cost while requests run. A worker
that takes the place of a dead one goes on with its page: no number goes backwards.

    page: header | cells | names, one `name#count` a line | what the worker publishes each second, as JSON

A name is in the page before its cells are used. What is published may change while it is read: a number is odd meanwhile.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import struct
import time
from typing import Any

__all__ = ["Cells", "Page", "Pages"]

log = logging.getLogger("tusd_py.observability")

WORD = 8
CELLS = 4096
"""Cells of a page: some 200 combinations of method and status, with a histogram each."""

NAMES = 24 * 1024
PUBLISHED = 7 * 1024
HEADER = 1024
PAGE = HEADER + CELLS * WORD + NAMES + PUBLISHED
SPARE = 64
"""Cells at the end that count what there is no room for, and are not shown."""

STALE = 5.0
"""Seconds after which a worker that has published nothing counts as dead. They publish each second."""

RETRIES = 100

# Words of the header
_NAMES_USED, _CELLS_USED, _PID, _PUBLISHED_AT, _SEQUENCE, _PUBLISHED_LENGTH = range(6)


class Pages:
    """Memory for `count` workers, to be made before they are forked."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * PAGE)
        self._count = count

    def page(self, index: int) -> Page:
        """The page of the worker with this index."""
        return Page(self._memory, index, self._count)


class Page:
    """One worker's page, and a way to its siblings'."""

    def __init__(self, memory: mmap.mmap, index: int, count: int) -> None:
        self._memory, self.index, self._count = memory, index, count
        view = memoryview(memory)[index * PAGE : (index + 1) * PAGE]
        self._header = view[:HEADER].cast("q")
        self.values = view[HEADER : HEADER + CELLS * WORD].cast("q")
        self._names = view[HEADER + CELLS * WORD : HEADER + CELLS * WORD + NAMES]
        self._published = view[-PUBLISHED:]

    def all(self) -> list[Page]:
        """The pages of all workers, this one included."""
        return [Page(self._memory, index, self._count) for index in range(self._count)]

    def names(self) -> dict[str, int]:
        """The first cell of each name."""
        found, start = {}, 0
        for line in bytes(self._names[: self._header[_NAMES_USED]]).decode().splitlines():
            found[line] = start
            start += int(line.rpartition("#")[2])
        return found

    def add(self, line: str, count: int) -> int | None:
        """The first of `count` new cells for this name; None if the page is full."""
        data, used, start = f"{line}\n".encode(), self._header[_NAMES_USED], self._header[_CELLS_USED]
        if used + len(data) > NAMES or start + count > CELLS - SPARE:
            return None
        self._names[used : used + len(data)] = data
        self._header[_CELLS_USED] = start + count
        self._header[_NAMES_USED] = used + len(data)
        return start

    def publish(self, facts: dict[str, Any]) -> bool:
        """Show this to the siblings until the next time; False if it is too long."""
        data, header = json.dumps(facts).encode(), self._header
        if len(data) > PUBLISHED:
            return False
        header[_SEQUENCE] |= 1  # whoever had the page before us may have died halfway
        self._published[: len(data)] = data
        header[_PUBLISHED_LENGTH], header[_PID], header[_PUBLISHED_AT] = len(data), os.getpid(), time.monotonic_ns()
        header[_SEQUENCE] += 1
        return True

    def published(self) -> dict[str, Any] | None:
        """What was published last by whoever has or had this page; None if nothing was."""
        for _ in range(RETRIES):
            before = self._header[_SEQUENCE]
            data = bytes(self._published[: self._header[_PUBLISHED_LENGTH]])
            if before == self._header[_SEQUENCE] and not before & 1:
                return json.loads(data) if data else None
            time.sleep(0.0001)
        return None

    def alive(self) -> int | None:
        """The process id of the worker that has this page; None if it is not there."""
        age = time.monotonic_ns() - self._header[_PUBLISHED_AT]
        return self._header[_PID] if self._header[_PID] and age < STALE * 1e9 else None


class Cells:
    """The cells of this process, in a page or, without one, in memory of its own."""

    def __init__(self, page: Page | None = None) -> None:
        self.page = page
        self.values: list[int] | memoryview[int] = [0] * SPARE if page is None else page.values
        self._first: dict[str, int] = {} if page is None else page.names()
        self._overflowed = False

    def block(self, name: str, count: int = 1) -> int:
        """The index of the first of `count` cells that belong to this name from now on."""
        line = f"{name}#{count}"
        found = self._first.get(line)
        if found is None:
            found = self._first[line] = self._allocate(line, count)
        return found

    def _allocate(self, line: str, count: int) -> int:
        if self.page is None:
            assert isinstance(self.values, list)
            self.values.extend([0] * count)
            return len(self.values) - count
        start = self.page.add(line, count)
        if start is None:
            self._tell_overflow(line)
            return CELLS - SPARE
        return start

    def _tell_overflow(self, line: str) -> None:
        if not self._overflowed:
            self._overflowed = True
            log.warning("there are too many different metrics for several workers; %s and others are not shown", line)

    def totals(self) -> dict[str, list[int]]:
        """What all workers have counted together, by name."""
        sums: dict[str, list[int]] = {}
        sources = (
            [(self._first, self.values)] if self.page is None else [(each.names(), each.values) for each in self.page.all()]
        )
        for names, values in sources:
            for line, start in names.items():
                name, _, count = line.rpartition("#")
                cells = values[start : start + int(count)]
                known = sums.get(name)
                sums[name] = list(cells) if known is None else [one + other for one, other in zip(known, cells, strict=False)]
        return sums


assert struct.calcsize("q") == WORD
