"""Taking bytes into a repository, and looking at what has become of them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from blake3 import blake3
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.ingest.storing import ATTEMPTS
from tusd_py_cas.model import ChunksMissing, Manifest, Parameters, Version
from tusd_py_cas.reading import Reader
from tusd_py_cas.repository import Repository

from tusd_py.ports.failures import StorageFailure

TINY = Parameters(seed=0x0123_4567_89AB_CDEF, min_size=1024, avg_size=4096, max_size=16384)
"""Chunks of 5 KiB on average."""

MEDIUM = Parameters(seed=0x0123_4567_89AB_CDEF, min_size=16 << 10, avg_size=64 << 10, max_size=256 << 10)
"""Chunks of 80 KiB on average."""


def segments_of(path: Path) -> list[Segment]:
    return [Segment(str(path), 0, os.path.getsize(path))]


def make_version(repository: Repository, engine: Engine, file: Path, upload_id: str) -> Version:
    """The file's content as a version of an object of its name. Begins again where that was collected before it was one."""
    for _ in range(ATTEMPTS):
        manifest = engine.ingest(segments_of(file)).manifest
        try:
            return repository.index.add_version(
                upload_id=upload_id, object=file.name, owner=None, manifest=manifest, metadata={}, raw=True, at=time.time()
            )
        except ChunksMissing:
            continue
    raise StorageFailure(f"contents were collected {ATTEMPTS} times before they were versions: give collection more grace")


def read_back(repository: Repository, manifest: Manifest) -> bytes:
    return b"".join(Reader(repository, manifest).iter_bytes())


def check_sound(repository: Repository) -> None:
    """Nothing is wrong with the index, and all that it says can be read."""
    assert list(repository.index.check()) == []
    for version in repository.index.versions():
        check_content(repository, version.manifest)


def check_content(repository: Repository, manifest: Manifest) -> None:
    hasher, sha256 = blake3(), hashlib.sha256()
    for data in Reader(repository, manifest).iter_bytes():
        hasher.update(data)
        sha256.update(data)
    assert manifest.composed or (hasher.digest(), sha256.digest()) == (manifest.blake3, manifest.sha256)


class Take:
    """`data` has been taken in and reads back."""

    def __init__(self, path: Path, repository: Repository, engine: Engine, data: bytes) -> None:
        path.write_bytes(data)
        self.ingested: Ingested = engine.ingest(segments_of(path))
        self.manifest = self.ingested.manifest
        assert read_back(repository, self.manifest) == data
        assert self.manifest.blake3 == self.manifest.name == blake3(data).digest()
        assert self.manifest.sha256 == hashlib.sha256(data).digest()
        assert (self.manifest.size, self.manifest.composed) == (len(data), False)
        self.pieces = list(repository.index.pieces(self.manifest))
        assert self.ingested.bytes_in == len(data)
        assert self.ingested.chunks == len(self.pieces)
        assert list(repository.index.check()) == []
