"""Repositories with contents, put in without the engine that ingests: cut where the test wants them cut."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3
from tusd_py_cas.codec import Compressor
from tusd_py_cas.model import ChunkRef, Codec, Manifest, StoredChunk, Version
from tusd_py_cas.repository import Repository, new_parameters

from tests.cas.files.contents import describe


def make(path: Path, *, durable: bool = False) -> Repository:
    return Repository.open(str(path), create=new_parameters(1 << 16), durable=durable)


def put_chunk(repository: Repository, data: bytes, codec: Codec | None = None) -> StoredChunk:
    """As an ingest of these bytes does, in the form that is asked for or suits them."""
    name = blake3(data).digest()
    if known := repository.index.find_chunks([name]).get(name):
        return known
    chosen, stored = Compressor().encode(data)
    if codec is Codec.RAW:
        chosen, stored = Codec.RAW, data
    chunk = describe(data, chosen, stored)
    repository.chunks.write(name, chosen, stored)
    repository.chunks.sync_directories([name])
    assert not repository.index.add_chunks([chunk], repository.chunks.exists)
    return chunk


def put(repository: Repository, parts: Sequence[bytes], leaf: int = 3) -> Manifest:
    """A content of these chunks, `leaf` of them in a leaf."""
    chunks = [put_chunk(repository, part) for part in parts]
    refs = [ChunkRef(chunk.name, chunk.size) for chunk in chunks]
    leaves = [repository.index.add_leaf(refs[at : at + leaf]) for at in range(0, len(refs), leaf)]
    data = b"".join(parts)
    sha256 = hashlib.sha256(data).digest()
    return repository.index.add_manifest(size=len(data), blake3=blake3(data).digest(), sha256=sha256, leaves=leaves)


def publish(repository: Repository, upload_id: str, manifest: Manifest, name: str = "object") -> Version:
    return repository.index.add_version(
        upload_id=upload_id, object=name, owner=None, manifest=manifest, metadata={}, raw=False, at=1.0
    )
