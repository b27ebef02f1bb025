"""What is told about an upload that has become a version of an object."""

from __future__ import annotations

from blake3 import blake3

from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.upload import Upload
from tusd_py_cas.ingest.jobs import Ingested
from tusd_py_cas.model import Version

__all__ = ["post_ingest"]


def post_ingest(upload: Upload, version: Version, ingested: Ingested | None) -> HookEvent:
    """The event that tells of a version. It has the same id whenever it is told; how much was new is in it the first time, but
    for what was put together of others. `Storage.Type` is what the record says: whether there is a file at `Path`."""
    manifest = version.manifest
    facts = {
        "Object": version.object,
        "Version": str(version.number),
        "ETag": f'"{manifest.name.hex()}"',
    }
    if manifest.blake3 is not None:
        facts["Blake3"] = manifest.blake3.hex()
    if manifest.sha256 is not None:
        facts["Sha256"] = manifest.sha256.hex()
    if ingested is not None:
        facts["BytesNew"] = str(ingested.bytes_new)
        facts["BytesStored"] = str(ingested.bytes_stored)
    name = blake3(b"post-ingest\0" + upload.id.encode() + b"\0" + manifest.name).hexdigest(length=16)
    return HookEvent(type=HookType.POST_INGEST, upload=upload.evolve(storage={**upload.storage, **facts}), id=name)
