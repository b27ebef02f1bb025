"""A content as `Content-Encoding: zstd`: the stored frames of its chunks, one behind the other (RFC 8878, section 3.1).

Chunks that are stored as they are get frames of raw blocks around them. Nothing is compressed here; each frame is decompressed
before any of its bytes are handed out, for its chunk has to have its name in this form too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tusd_py.ports.datastore import Extent, PlainContent
from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.codec import raw_frame, raw_frame_size
from tusd_py_cas.model import ChunkDamaged, Codec, Piece, RepositoryError, StoredChunk, Version
from tusd_py_cas.reading import read_stored
from tusd_py_cas.repository import Repository
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.content import unreadable
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.pieces import Pieces

__all__ = ["ZstdContent", "frame_size"]


def frame_size(chunk: StoredChunk) -> int:
    """Bytes of the frame that a chunk is sent as."""
    return chunk.stored_size if chunk.codec is Codec.ZSTD else raw_frame_size(chunk.size)


class ZstdContent(PlainContent):
    """The port `Content`, for who reads from the beginning on; elsewhere a read costs a walk along the list of chunks.

    `size` is what the frames have been found to have together. `mistaken` is called with the content's name
    where they turn out not to.
    """

    is_named_by_content = True

    def __init__(self, access: Access, version: Version, size: int, counts: Counts, mistaken: Callable[[bytes], None]) -> None:
        self._access, self._version, self._counts, self._mistaken = access, version, counts, mistaken
        self._pieces = Pieces(access, version.manifest)
        self._start = 0  # of the frame that is next or at hand, in this form
        self._offset = 0  # of its chunk, in the content
        self._frame: bytes | None = None
        self._ahead: tuple[Piece, asyncio.Future[bytes]] | None = None
        self.size = size
        self.version = f"{version.manifest.name.hex()}-zstd"
        self.modified = version.created_at

    def __repr__(self) -> str:
        return f"<ZstdContent {self.version} {self.size} bytes>"

    def extents(self, offset: int, count: int) -> list[Extent] | None:
        return None

    async def read(self, offset: int, count: int) -> bytes:
        end = min(offset + count, self.size)
        parts: list[bytes] = []
        while offset < end:
            frame = await self._frame_at(offset)
            parts.append(frame[offset - self._start : end - self._start])
            offset += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _frame_at(self, offset: int) -> bytes:
        """The frame that has the byte `offset`; `_start` is where it begins."""
        if offset < self._start:
            self._start, self._offset, self._frame = 0, 0, None
        while True:
            piece = await self._pieces.at(self._offset)
            size = frame_size(piece.chunk)
            behind = self._start + size
            if behind > self.size or (behind == self.size) != (piece.start + piece.chunk.size == self._version.manifest.size):
                raise self._changed()
            if offset < behind:
                if self._frame is None:
                    self._frame = await self._load(piece)
                return self._frame
            self._start, self._offset, self._frame = behind, piece.start + piece.chunk.size, None

    async def _load(self, piece: Piece) -> bytes:
        ahead, self._ahead = self._ahead, None
        try:
            if ahead is not None and ahead[0] == piece:
                frame = await ahead[1]
            else:
                frame = await self._begin(piece)
        except (ChunkDamaged, RepositoryError) as damage:
            raise unreadable(self._version.upload_id, damage, self._counts) from damage
        if len(frame) != frame_size(piece.chunk):
            raise self._changed()
        if (following := self._pieces.known(piece.start + piece.chunk.size)) is not None:
            self._ahead = following, self._begin(following)
        return frame

    def _changed(self) -> StorageFailure:
        """What to raise where frames are not as large as they were: some chunk has been stored again in another form."""
        self._mistaken(self._version.manifest.name)
        return StorageFailure(f"the stored frames of {self._version.upload_id!r} have changed since they were counted")

    def _begin(self, piece: Piece) -> asyncio.Future[bytes]:
        repository = self._access.repository
        coming = self._access.begin(lambda: _read_frame(repository, piece.chunk))
        coming.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody comes to ask
        return coming

    async def close(self) -> None:
        """There is nothing to let go of."""


def _read_frame(repository: Repository, chunk: StoredChunk) -> bytes:
    now, stored, data = read_stored(repository, chunk)
    return stored if now.codec is Codec.ZSTD else b"".join(raw_frame(data))
