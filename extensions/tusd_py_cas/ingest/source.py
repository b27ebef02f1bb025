"""The bytes to be taken in: parts of files, one behind the other."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.ingest.jobs import Segment

__all__ = ["Source", "SourceReader"]


class Source:
    """The content that segments make up. Immutable, for all threads; each reads through a `SourceReader` of its own.

    Raises `StorageFailure` where a file can't be looked at, here and in `check_unchanged`.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = [segment for segment in segments if segment.size]
        self.ends = list(accumulate(segment.size for segment in self.segments))
        self.size = self.ends[-1] if self.ends else 0
        self._paths = sorted({segment.path for segment in self.segments})
        self._before = self._look()

    def check_unchanged(self) -> None:
        """Raises `StorageFailure` if somebody has written to a file since: digests and chunks may be of different bytes."""
        for path, before, now in zip(self._paths, self._before, self._look(), strict=True):
            if before != now:
                raise StorageFailure(f"{path!r} was written to while it was read")

    def _look(self) -> list[tuple[int, int, int, int]]:
        try:
            found = [os.stat(path) for path in self._paths]
        except OSError as error:
            raise StorageFailure(f"looking at {error.filename!r}, which is to be taken in: {error.strerror}") from error
        return [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


class SourceReader:
    """Reads a source at any position; keeps the last file open. For one thread at a time; close it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._path: str | None = None
        self._fd = -1

    def read_into(self, view: memoryview, position: int) -> None:
        """Fill `view` with the content's bytes from `position`. Raises `StorageFailure`, also where a file is too short."""
        index = bisect_right(self._source.ends, position)
        while view:
            segment = self._source.segments[index]
            skipped = segment.size - (self._source.ends[index] - position)
            count = min(len(view), segment.size - skipped)
            self._read_file(segment, view[:count], segment.offset + skipped)
            view, position, index = view[count:], position + count, index + 1

    def _read_file(self, segment: Segment, view: memoryview, offset: int) -> None:
        try:
            self._open(segment.path)
            while view:
                if not (count := os.preadv(self._fd, [view], offset)):
                    raise StorageFailure(f"{segment.path!r} was cut while it was read: it ends at byte {offset}")
                view, offset = view[count:], offset + count
        except OSError as error:
            raise StorageFailure(f"reading {segment.path!r}: {error.strerror or error}") from error

    def _open(self, path: str) -> None:
        if path != self._path:
            self.close()
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._path = path

    def close(self) -> None:
        if self._path is not None:
            self._path = None
            with contextlib.suppress(OSError):
                os.close(self._fd)
