"""What is to be taken in, and what has come of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tusd_py_cas.model import Manifest

__all__ = ["Finished", "Ingested", "Job", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """`size` bytes of the file `path`, from its byte `offset`. The path may be `/proc/<pid>/fd/<n>`."""

    path: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """A content that is stored. Counts of bytes: of the content, of its chunks that were not stored before (each once), and
    what these take on disk. `chunks` counts its chunks, `chunks_new` those that were not stored before."""

    manifest: Manifest
    bytes_in: int
    bytes_new: int
    bytes_stored: int
    chunks: int
    chunks_new: int


@dataclass(frozen=True, slots=True)
class Job:
    """Take the bytes of the segments, one behind the other, and make them a version of `object` (see `Index.add_version`)."""

    upload_id: str
    segments: Sequence[Segment]
    object: str
    owner: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """A job is done and durable: the number of the version, and what has been stored for it."""

    number: int
    ingested: Ingested
