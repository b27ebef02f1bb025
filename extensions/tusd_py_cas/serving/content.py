"""A content that is served from its chunks.

Only the chunks that a range needs are read, off the event loop, and each is verified before any of its bytes are handed out.
Whoever reads on finds the next chunk read already.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from tusd_py.ports.datastore import Content, Extent
from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.model import ChunkDamaged, Piece, RepositoryError, Version
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.decoded import DecodedChunks, Shelf
from tusd_py_cas.serving.pieces import Pieces

__all__ = ["CasContent", "unreadable"]

_log = logging.getLogger("tusd_py.cas")


class CasContent:
    """The port `Content`. `encodings` are the other forms that it can be had in."""

    is_named_by_content = True

    def __init__(
        self,
        access: Access,
        shelf: Shelf,
        version: Version,
        counts: Counts,
        encodings: Mapping[str, Content],
    ) -> None:
        manifest = version.manifest
        self._upload_id, self._chunks, self._counts = version.upload_id, DecodedChunks(shelf), counts
        self._pieces = Pieces(access, manifest)
        self._behind = -1  # where the last read ended
        self.size = manifest.size
        self.version = manifest.name.hex()
        self.modified = version.created_at
        self.digests: Mapping[str, bytes] = {} if manifest.sha256 is None else {"sha-256": manifest.sha256}
        self.encodings = encodings

    def __repr__(self) -> str:
        return f"<CasContent {self.version} {self.size} bytes>"

    def extents(self, offset: int, count: int) -> Sequence[Extent] | None:
        return None

    async def read(self, offset: int, count: int) -> bytes:
        end = min(offset + count, self.size)
        goes_on, self._behind = offset == self._behind, end
        parts: list[bytes] = []
        while offset < end:
            piece = await self._pieces.at(offset)
            data = await self._load(piece)
            parts.append(data[offset - piece.start : end - piece.start])  # all of it is not copied
            offset = piece.start + len(data)
            if goes_on and (following := self._pieces.known(offset)) is not None:
                self._chunks.foresee(following.chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _load(self, piece: Piece) -> bytes:
        try:
            return await self._chunks.get(piece.chunk)
        except (ChunkDamaged, RepositoryError) as damage:
            raise unreadable(self._upload_id, damage, self._counts) from damage

    async def close(self) -> None:
        self._chunks.close()


def unreadable(upload_id: str, damage: ChunkDamaged | RepositoryError, counts: Counts) -> StorageFailure:
    """What to raise for a chunk that can't be read, which has been told to log and metrics."""
    fields = {"id": upload_id, "error": str(damage)}
    if isinstance(damage, ChunkDamaged):
        counts.damaged += 1
        fields["chunk"] = damage.name.hex()
    _log.error("an upload could not be read from its chunks", extra={"fields": fields})
    return StorageFailure(f"{upload_id!r} can't be read: {damage}")
