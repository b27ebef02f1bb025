"""Several contents read as one: a final upload before its bytes are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate

from tusd_py.ports.datastore import Content, Extent, PlainContent

__all__ = ["JoinedContent"]


class JoinedContent(PlainContent):
    """`contents` one after the other, as a `Content`."""

    def __init__(self, contents: Sequence[Content]) -> None:
        self._contents = tuple(contents)
        self._starts = (0, *accumulate(content.size for content in contents))
        self.size = self._starts[-1]
        self.modified = max((content.modified for content in contents), default=0.0)
        versions = " ".join(content.version for content in contents)
        self.version = blake2b(versions.encode(), digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return f"<JoinedContent of {len(self._contents)}, {self.size} bytes>"

    def _cut(self, offset: int, count: int) -> Iterator[tuple[Content, int, int]]:
        """The contents that these bytes are in, with the place in each."""
        for start, content in zip(self._starts, self._contents, strict=False):
            first, last = max(offset, start), min(offset + count, start + content.size)
            if first < last:
                yield content, first - start, last - first

    def extents(self, offset: int, count: int) -> list[Extent] | None:
        found: list[Extent] = []
        for content, first, size in self._cut(offset, count):
            extents = content.extents(first, size)
            if extents is None:
                return None
            found += extents
        return found

    async def read(self, offset: int, count: int) -> bytes:
        for content, first, size in self._cut(offset, count):
            return await content.read(first, size)
        return b""

    async def close(self) -> None:
        for content in self._contents:
            await content.close()
