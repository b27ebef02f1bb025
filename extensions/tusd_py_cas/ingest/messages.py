"""What a server and its ingest process say to each other: a JSON object a line, in both directions.

    {"id": 7, "op": "take", ...}          asked, with a number that the answer has, too
    {"id": 7, "op": "cancel"}             the answer is wanted at once; has no other answer
    {"id": 7, "ok": {...}}                answered
    {"id": 7, "error": {"kind": "OutOfSpace", "message": "..."}}

Before everything else the child says `{"ready": true}`, or an error why it is not. Both ends are of the same version, so
nothing is checked here. Names and digests are hexadecimal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.model import ChunkDamaged, IndexDamaged, Manifest, RepositoryError

__all__ = [
    "Message",
    "error_from_json",
    "error_to_json",
    "ingested_from_json",
    "ingested_to_json",
    "manifest_from_json",
    "manifest_to_json",
    "segments_from_json",
    "segments_to_json",
]

Message = dict[str, Any]

_KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (OutOfSpace, ReadOnlyStorage, StorageFailure, IndexDamaged, RepositoryError)
}


def segments_to_json(segments: Sequence[Segment]) -> list[list[Any]]:
    return [[segment.path, segment.offset, segment.size] for segment in segments]


def segments_from_json(segments: Sequence[Sequence[Any]]) -> list[Segment]:
    return [Segment(*segment) for segment in segments]


def manifest_to_json(manifest: Manifest) -> Message:
    digests = {"blake3": manifest.blake3, "sha256": manifest.sha256}
    return {
        **asdict(manifest),
        "name": manifest.name.hex(),
        **{name: None if digest is None else digest.hex() for name, digest in digests.items()},
    }


def manifest_from_json(message: Message) -> Manifest:
    digests = {name: None if message[name] is None else bytes.fromhex(message[name]) for name in ("blake3", "sha256")}
    return Manifest(**{**message, "name": bytes.fromhex(message["name"]), **digests})


def ingested_to_json(ingested: Ingested) -> Message:
    return {**asdict(ingested), "manifest": manifest_to_json(ingested.manifest)}


def ingested_from_json(message: Message) -> Ingested:
    return Ingested(**{**message, "manifest": manifest_from_json(message["manifest"])})


def error_to_json(error: BaseException) -> Message:
    """For those that `Engine` and the repository raise; any other is a `StorageFailure` there."""
    if isinstance(error, ChunkDamaged):
        return {"kind": "ChunkDamaged", "message": error.what, "name": error.name.hex()}
    for kind in type(error).__mro__:
        if kind.__name__ in _KINDS:
            return {"kind": kind.__name__, "message": str(error)}
    return {"kind": "StorageFailure", "message": f"{type(error).__name__}: {error}"}


def error_from_json(message: Message) -> Exception:
    if message["kind"] == "ChunkDamaged":
        return ChunkDamaged(bytes.fromhex(message["name"]), message["message"])
    return _KINDS[message["kind"]](message["message"])
