"""What the repository is about: chunks, leaves, manifests, objects and their versions. Values only.

A **chunk** is a run of bytes that content-defined chunking has cut, named by its BLAKE3. A **leaf** is an ordered list of at
most `LEAF` chunks. A **manifest** is an ordered list of leaves: the content of a file. Putting contents together is putting
lists of leaves together, which takes no time however large the contents are. An **object** has a name, and each upload of
that name is a **version** of it, which points to a manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

__all__ = [
    "ALGORITHM",
    "IMPORTED",
    "LEAF",
    "NAME_SIZE",
    "ChunkDamaged",
    "ChunkRef",
    "ChunksMissing",
    "Codec",
    "IndexDamaged",
    "Manifest",
    "Parameters",
    "Piece",
    "RepositoryError",
    "State",
    "StoredChunk",
    "Version",
]

ALGORITHM = "fastcdc-2020-nc1"
"""How contents are cut: FastCDC in its 2020 form, normalized chunking 1."""

LEAF = 4096
"""Chunks in a leaf at most: about 5 GiB of content, and 200 KiB in memory."""

NAME_SIZE = 32
"""Bytes of a name: BLAKE3's."""

IMPORTED = ".import-"
"""What the ids begin with that `tusd-py cas import` makes up for plain files: there has never been an upload, and there can't
be one, for the ids of uploads do not begin with a dot (`tusd_py.protocol.ids`)."""


class RepositoryError(Exception):
    """The repository is not what it should be. One sentence for the operator, saying what is wrong and what to do."""


class IndexDamaged(RepositoryError):
    """What the index says does not fit its seal: a bit has flipped, or somebody has edited it."""


class ChunkDamaged(RepositoryError):
    """A chunk's file is missing, can't be decompressed, or its bytes do not have its name."""

    def __init__(self, name: bytes, what: str) -> None:
        super().__init__(f"chunk {name.hex()}: {what}")
        self.name, self.what = name, what


class ChunksMissing(Exception):
    """A leaf was to be made of chunks that are not there, or not any more: they have to be stored (again) first."""

    def __init__(self, names: frozenset[bytes]) -> None:
        super().__init__(f"{len(names)} chunks are not stored")
        self.names = names


class Codec(IntEnum):
    """How a chunk's file holds its bytes."""

    RAW = 0
    ZSTD = 1


class State(IntEnum):
    """What may be relied on. Only LIVE chunks count as stored.

    CONDEMNED: nothing referred to it, and its file may be gone at any moment. DAMAGED: its file is in quarantine or missing;
    whoever has the bytes again stores them again.
    """

    LIVE = 0
    CONDEMNED = 1
    DAMAGED = 2


@dataclass(frozen=True, slots=True)
class Parameters:
    """How contents are cut: fixed when the repository is made, for other cuts find nothing again. Sizes in bytes.

    `seed` is the repository's secret, of 63 bits: without it nobody can tell where contents are cut. It is in no log.
    """

    seed: int = field(repr=False)
    min_size: int
    avg_size: int
    max_size: int
    algorithm: str = ALGORITHM


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk as a part of content."""

    name: bytes
    size: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as it is stored: `stored_size` bytes on disk, encoded by `codec`."""

    name: bytes
    size: int
    stored_size: int
    codec: Codec


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk at its place in a content: its first byte is the content's byte `start`."""

    start: int
    chunk: StoredChunk


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a file. `name` never changes: the BLAKE3 of the bytes, or, for contents that were put together of others
    (`composed`), a hash over those. `blake3` and `sha256` are digests of the bytes; of a composed one None until computed."""

    id: int
    name: bytes
    size: int
    blake3: bytes | None
    sha256: bytes | None
    composed: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Version:
    """What an upload has become: version `number` (from 1) of the object `object` of `owner`.

    `raw` says whether the upload's own file may still be there. `metadata` is the upload's, values that are no UTF-8 left out.
    """

    upload_id: str
    object: str
    owner: str | None
    number: int
    manifest: Manifest
    created_at: float
    raw: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
