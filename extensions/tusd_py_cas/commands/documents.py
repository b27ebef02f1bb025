"""What `--json` says of things that several commands speak of. Keys are a promise: none goes, none changes its meaning."""

from __future__ import annotations

from typing import Any

from tusd_py_cas.commands.texts import utc_time
from tusd_py_cas.model import Version

__all__ = ["digest", "version_document"]


def version_document(version: Version) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "upload": version.upload_id,
        "object": version.object,
        "owner": version.owner,
        "version": version.number,
        "size": manifest.size,
        "created_at": utc_time(version.created_at),
        "blake3": digest(manifest.blake3),
        "sha256": digest(manifest.sha256),
        "manifest": manifest.name.hex(),
        "raw": version.raw,
        "metadata": dict(version.metadata),
    }


def digest(value: bytes | None) -> str | None:
    """In hexadecimal digits; None where it is still to be computed."""
    return None if value is None else value.hex()
