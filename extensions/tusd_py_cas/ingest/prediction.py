"""Cutting by what is known: a content that has so far been the same as a stored one will probably go on like it.

A chunk of the right size with the right name has the bytes that the stored content has there, so it is cut off where that one
was, without looking for the place: if the byte behind it is the same too (`cutting` says why). That is so where the next chunk
fits as well, or where both contents end; a chunk of the largest size ends there whatever follows. A guess that is wrong costs
the hashing of one or two chunks.

Only contents that have been cut themselves are followed: one that was put together has cuts where its parts end.
"""

from __future__ import annotations

from collections import deque

from blake3 import blake3

from tusd_py_cas.index import Index
from tusd_py_cas.ingest.cutting import Cut
from tusd_py_cas.model import Manifest, Piece

__all__ = ["Prediction"]


class Prediction:
    """That a content of `size` bytes is what `manifest` is, from the first byte on; `holds` until a difference is found.

    Raises `RepositoryError` where the index can't be read any further.
    """

    def __init__(self, index: Index, manifest: Manifest, size: int, max_chunk: int) -> None:
        self.manifest = manifest
        self.holds = True
        self._size = size
        self._max_chunk = max_chunk
        self._pieces = index.pieces(manifest)
        self._ahead: deque[Piece] = deque()

    @property
    def is_of_whole(self) -> bool:
        """Whether the content can be the very one that the manifest has."""
        return self.manifest.size == self._size

    def cut(self, window: memoryview, position: int) -> list[Cut]:
        """The chunks that this window of the content, from its byte `position`, is proven to begin with. Those in front of
        `position` are what earlier calls have returned."""
        matching: list[Piece] = []
        at = 0
        while (piece := self._next()) is not None:
            chunk = piece.chunk
            if at + chunk.size > len(window) and position + len(window) < self._size:
                self._ahead.append(piece)
                break
            if blake3(window[at : at + chunk.size]).digest() != chunk.name:
                self.holds = False
                break
            matching.append(piece)
            at += chunk.size
        reached_end = position + at == self._size
        if piece is None and not reached_end:
            self.holds = False
        if matching and not reached_end and matching[-1].chunk.size < self._max_chunk:
            self._ahead.appendleft(matching.pop())
        return [Cut(piece.start - position, piece.chunk.size, piece.chunk.name) for piece in matching]

    def _next(self) -> Piece | None:
        return self._ahead.popleft() if self._ahead else next(self._pieces, None)
