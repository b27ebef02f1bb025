"""Seals: short hashes over what rows mean. They are checked whenever something is read to be served, so that a bit that has
flipped in the index is an error, and never the wrong bytes.

A seal of a leaf depends on its chunks and nothing else, the one of a manifest on the seals of its leaves, the one of a version
on the manifest's name. They guard against accidents: whoever can write to the index can make new seals.

A chunk's seal is over how it is stored, and keeps a sound file from being taken for a damaged one, and a damaged one for sound.
It is a CRC, because thousands of them are looked at in each transaction; that the bytes are the right ones does not hang on it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

from blake3 import blake3

from tusd_py_cas.model import Manifest

__all__ = ["SEAL_SIZE", "seal_chunk", "seal_leaf", "seal_manifest", "seal_version"]

SEAL_SIZE = 16
"""Bytes. An accident that keeps a seal of this size valid does not happen."""


_CHUNK = struct.Struct("<32sQQBB")


def seal_chunk(name: bytes, size: int, stored_size: int, codec: int, state: int) -> int:
    """Of what can't be a chunk, -1, which no seal is."""
    try:
        return crc32(_CHUNK.pack(name, size, stored_size, codec, state))
    except struct.error:
        return -1


def seal_leaf(names: bytes, sizes: Sequence[int]) -> bytes:
    """`names` are those of its chunks, one behind the other."""
    return _seal(b"leaf", names, struct.pack(f"<{len(sizes)}Q", *sizes))


def seal_manifest(manifest: Manifest, starts: Sequence[int], leaf_seals: Sequence[bytes]) -> bytes:
    """`starts` are where its leaves begin. The id counts for nothing."""
    return _seal(
        b"manifest",
        manifest.name,
        struct.pack("<Q?d", manifest.size, manifest.composed, manifest.created_at),
        manifest.blake3,
        manifest.sha256,
        struct.pack(f"<{len(starts)}Q", *starts),
        b"".join(leaf_seals),
    )


def seal_version(
    *, upload_id: str, object: str, owner: str | None, number: int, manifest: bytes, metadata: str, created_at: float
) -> bytes:
    """`manifest` is the manifest's name, `metadata` JSON as it is stored. Whether there is a raw file is not sealed."""
    return _seal(
        b"version",
        upload_id.encode(),
        object.encode(),
        None if owner is None else owner.encode(),
        struct.pack("<Qd", number, created_at),
        manifest,
        metadata.encode(),
    )


def _seal(*fields: bytes | None) -> bytes:
    """Of fields whose limits are part of what is hashed."""
    hasher = blake3()
    for field in fields:
        hasher.update(b"-" if field is None else b"+" + struct.pack("<Q", len(field)))
        hasher.update(field or b"")
    return hasher.digest(length=SEAL_SIZE)
