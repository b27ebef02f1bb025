"""Rows of the database as values. A damaged database may hold anything in any column: that raises `IndexDamaged`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tusd_py_cas.model import NAME_SIZE, Codec, IndexDamaged, Manifest, State, StoredChunk
from tusd_py_cas.sqlite_index.seals import seal_chunk

__all__ = ["CHUNK", "MANIFEST", "STATES", "checked", "fits", "join_names", "manifest_of", "stored_chunk"]

CHUNK = "c.name, c.size, c.stored_size, c.codec, c.state, c.seal"
"""Columns that `stored_chunk` and `fits` take, of the table `chunks AS c`."""

MANIFEST = "m.id, m.name, m.size, m.blake3, m.sha256, m.composed, m.created_at, m.seal"
"""Columns of the table `manifests AS m`; `manifest_of` takes all but the seal."""

_CODECS = {codec.value: codec for codec in Codec}
STATES = {state.value: state for state in State}
_MANIFEST_TYPES = (int, bytes, int, int, float)


def fits(name: Any, size: Any, stored_size: Any, codec: Any, state: Any, seal: Any) -> bool:
    """Whether the row of a chunk is what was written."""
    return type(seal) is int and seal >= 0 and seal == seal_chunk(name, size, stored_size, codec, state)


def stored_chunk(name: bytes, size: int, stored_size: int, codec: int, state: int, seal: int) -> StoredChunk:
    """Raises `IndexDamaged` where the row is not what was written."""
    if not fits(name, size, stored_size, codec, state, seal):
        raise IndexDamaged(f"chunk {bytes(name).hex() if isinstance(name, bytes) else name!r} does not fit its seal")
    return StoredChunk(name, size, stored_size, _CODECS[codec])


def manifest_of(id: Any, name: Any, size: Any, blake3: Any, sha256: Any, composed: Any, created_at: Any) -> Manifest:
    checked((id, name, size, composed, created_at), _MANIFEST_TYPES, "a manifest")
    for digest in (blake3, sha256):
        if digest is not None and type(digest) is not bytes:
            raise IndexDamaged(f"a digest of a manifest is {digest!r}")
    return Manifest(id, name, size, blake3, sha256, composed == 1, created_at)


def checked(row: Sequence[Any], types: tuple[type, ...], what: str) -> Any:
    """The row, whose values have these types; no number is negative."""
    if tuple(map(type, row)) != types or any(type(value) is int and value < 0 for value in row):
        raise IndexDamaged(f"the row of {what} makes no sense: {tuple(row)!r}")
    return row


def join_names(names: Sequence[bytes]) -> bytes:
    """All names one behind the other, as the statements take them. `ValueError` for what is no name."""
    joined = b"".join(names)
    if any(len(name) != NAME_SIZE for name in names):
        raise ValueError(f"a chunk's name has {NAME_SIZE} bytes")
    return joined
