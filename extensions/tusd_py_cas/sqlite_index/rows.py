"""Rows of the database as values. A damaged database may hold anything in any column: that raises `IndexDamaged`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tusd_py_cas.model import NAME_SIZE, Codec, IndexDamaged, Manifest, State, StoredChunk

__all__ = ["CHUNK", "MANIFEST", "checked", "join_names", "manifest_of", "state_of", "stored_chunk"]

CHUNK = "c.name, c.size, c.stored_size, c.codec"
"""Columns that `stored_chunk` takes, of the table `chunks AS c`."""

MANIFEST = "m.id, m.name, m.size, m.blake3, m.sha256, m.composed, m.created_at, m.seal"
"""Columns of the table `manifests AS m`; `manifest_of` takes all but the seal."""

_CODECS = {codec.value: codec for codec in Codec}
_STATES = {state.value: state for state in State}
_CHUNK_TYPES = (bytes, int, int, int)
_MANIFEST_TYPES = (int, bytes, int, int, float)


def stored_chunk(name: Any, size: Any, stored_size: Any, codec: Any) -> StoredChunk:
    found = _CODECS.get(codec)
    if found is None or (type(name), type(size), type(stored_size), type(codec)) != _CHUNK_TYPES or len(name) != NAME_SIZE:
        raise IndexDamaged(f"the row of a chunk makes no sense: {name!r}, {size!r}, {stored_size!r}, {codec!r}")
    return StoredChunk(name, size, stored_size, found)


def state_of(value: Any) -> State:
    if (state := _STATES.get(value)) is None:
        raise IndexDamaged(f"a chunk is in the state {value!r}, which does not exist")
    return state


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
