"""Contents, read from their chunks. No byte is handed out that does not belong to a chunk whose bytes have its name."""

from __future__ import annotations

from collections.abc import Iterator

from tusd_py_cas.model import ChunkDamaged, IndexDamaged, Manifest, Piece, StoredChunk
from tusd_py_cas.repository import Repository

__all__ = ["Reader", "read_chunk", "read_stored"]


def read_stored(repository: Repository, chunk: StoredChunk) -> tuple[StoredChunk, bytes, bytes]:
    """A chunk as it is stored now, its stored bytes, and its bytes, which are verified.

    Between the look into the index and the look at the file it may have been stored again in another form; so there is a
    second look. What is damaged then is reported to the repository. Raises `ChunkDamaged`, `StorageFailure`.
    """
    try:
        return _read(repository, chunk)
    except ChunkDamaged:
        restored = repository.restored(chunk)
        if restored is None:
            repository.damaged(chunk)
            raise
    try:
        return _read(repository, restored)
    except ChunkDamaged:
        repository.damaged(restored)
        raise


def read_chunk(repository: Repository, chunk: StoredChunk) -> bytes:
    """The bytes of a chunk: see `read_stored`."""
    return read_stored(repository, chunk)[2]


def _read(repository: Repository, chunk: StoredChunk) -> tuple[StoredChunk, bytes, bytes]:
    stored = repository.chunks.read_stored(chunk)
    return chunk, stored, repository.chunks.verify_stored(chunk, stored)


class Reader:
    """Reads a content; for one thread at a time, which need not be the same. Keeps the last chunk. All methods block.

    Everywhere: `ChunkDamaged`; `IndexDamaged` where the chunks of the content do not make up its size; `RepositoryError` where
    it is gone; `StorageFailure`; `ValueError` for a range that does not begin within it or that ends before it begins.
    """

    def __init__(self, repository: Repository, manifest: Manifest) -> None:
        self._repository, self.manifest = repository, manifest
        self._last: tuple[Piece, bytes] | None = None

    def __repr__(self) -> str:
        return f"<Reader {self.manifest.name.hex()} {self.manifest.size} bytes>"

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        """The chunks that have the bytes of [start, end), without a gap; `end` may lie behind the content's."""
        start, end = self._range(start, end)
        return self._pieces(start, end)

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start`, fewer only where the content ends."""
        start, end = self._range(start, start + count)
        return b"".join(self._iter_bytes(start, end))

    def iter_bytes(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of [start, end), a chunk or a part of one at a time."""
        start, end = self._range(start, end)
        return self._iter_bytes(start, end)

    def _range(self, start: int, end: int | None) -> tuple[int, int]:
        size = self.manifest.size
        end = size if end is None else min(end, size)
        if not 0 <= start <= size or end < start:
            raise ValueError(f"[{start}, {end}) is no range of {size} bytes")
        return start, end

    def _iter_bytes(self, start: int, end: int) -> Iterator[bytes]:
        if self._last is not None and _lies_in(self._last[0], start, end):
            yield _part(*self._last, start, end)
            return
        for piece in self._pieces(start, end):
            yield _part(piece, self._load(piece), start, end)

    def _load(self, piece: Piece) -> bytes:
        if self._last is None or self._last[0] != piece:
            self._last = piece, read_chunk(self._repository, piece.chunk)
        return self._last[1]

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        """What the index says, if it makes sense: every byte of the range once, and none beyond the content."""
        at = start
        for piece in self._repository.index.pieces(self.manifest, start, end) if start < end else ():
            first, behind = piece.start, piece.start + piece.chunk.size
            if not (first <= at < behind if at == start else first == at < end) or behind > self.manifest.size:
                raise self._not_covered(at)
            at = behind
            yield piece
        if at < end:
            raise self._not_covered(at)

    def _not_covered(self, at: int) -> IndexDamaged:
        return IndexDamaged(
            f"what the index lists as chunks of the content {self.manifest.name.hex()} does not fit its size, from byte {at} on"
        )


def _lies_in(piece: Piece, start: int, end: int) -> bool:
    return piece.start <= start < end <= piece.start + piece.chunk.size


def _part(piece: Piece, data: bytes, start: int, end: int) -> bytes:
    """The bytes of [start, end) of the content that are the piece's; the whole chunk's are not copied."""
    return data[max(0, start - piece.start) : end - piece.start]
