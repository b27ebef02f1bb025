"""What is to be taken in, and what has come of it. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from tusd_py_cas.model import Manifest

__all__ = ["Ingested", "Segment"]


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
