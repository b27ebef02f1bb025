"""What an upload is called once it is a version of an object, and what is told about that. Values only."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping

from blake3 import blake3

from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.upload import Upload
from tusd_py_cas.ingest.jobs import Ingested
from tusd_py_cas.model import Version

__all__ = ["NAME_KEY", "object_name", "post_ingest", "text_metadata"]

_log = logging.getLogger("tusd_py.cas")

NAME_KEY = "object"
"""The key of the metadata that names the object."""

LONGEST_NAME = 1024
"""Characters: as much as an id may have."""


def object_name(upload: Upload) -> str:
    """What the upload's metadata call it; its id where they do not, or not in a way that can be printed."""
    value = upload.metadata.pairs.get(NAME_KEY)
    if value is None:
        return upload.id
    try:
        name = value.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not 0 < len(name) <= LONGEST_NAME or any(unicodedata.category(character) == "Cc" for character in name):
        expected = f"expected 1 to {LONGEST_NAME} characters of UTF-8 without control characters"
        _log.warning(
            "the metadata name no object: %s", expected, extra={"fields": {"id": upload.id, "name": repr(value[:100])}}
        )
        return upload.id
    return name


def text_metadata(upload: Upload) -> Mapping[str, str]:
    """The upload's metadata; values that are no UTF-8 are left out."""
    found = {}
    for key, value in upload.metadata.pairs.items():
        try:
            found[key] = value.decode("utf-8")
        except UnicodeDecodeError:
            continue
    return found


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
