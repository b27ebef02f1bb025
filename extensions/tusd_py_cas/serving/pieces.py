"""The list of a content's chunks, as far as somebody who reads it has come."""

from __future__ import annotations

from bisect import bisect_right

from tusd_py_cas.model import Manifest, Piece
from tusd_py_cas.reading import Reader
from tusd_py_cas.serving.access import Access

__all__ = ["Pieces"]

FIRST, LAST = 1 << 20, 512 << 20
"""Bytes of content whose chunks are looked up at once: little for who wants a range, and more each time for who goes on. The
last is some 400 chunks, or 160 KiB of memory."""

GROWTH = 8


class Pieces:
    """Looks chunks of one content up by place. For one task at a time."""

    def __init__(self, access: Access, manifest: Manifest) -> None:
        self._access = access
        self._reader = Reader(access.repository, manifest)
        self._size = manifest.size
        self._window: list[Piece] = []
        self._starts: list[int] = []
        self._wanted = FIRST

    async def at(self, offset: int) -> Piece:
        """The chunk that has the byte `offset`, which lies within the content. Raises `StorageFailure`."""
        found = self.known(offset)
        if found is None:
            await self._look(offset)
            found = self.known(offset)
            assert found is not None, "a reader's pieces leave no gap"
        return found

    def known(self, offset: int) -> Piece | None:
        """The same, if it has been looked up already."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return None
        piece = self._window[index]
        return piece if offset < piece.start + piece.chunk.size else None

    async def _look(self, offset: int) -> None:
        goes_on = bool(self._window) and offset == self._window[-1].start + self._window[-1].chunk.size
        self._wanted = min(self._wanted * GROWTH, LAST) if goes_on else FIRST
        end = min(self._size, offset + self._wanted)
        self._window = await self._access.look(lambda: list(self._reader.pieces(offset, end)))
        self._starts = [piece.start for piece in self._window]
