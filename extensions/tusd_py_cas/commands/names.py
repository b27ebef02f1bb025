"""Names of objects, which clients choose, as relative paths that lead nowhere but below the directory they are used in.

No two versions share a path, without anything being remembered: a name that had to be changed in any way ends in a tag, `~` and
16 hexadecimal digits made of what the version is, and a name that itself ends like that has to be changed.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b

from tusd_py_cas.model import Version

__all__ = ["METADATA_SUFFIX", "safe_parts"]

METADATA_SUFFIX = ".metadata.json"

_LONGEST_PART = 200
"""Bytes: file systems take 255, and a number, a tag and a suffix may follow."""

_LONGEST_PATH = 1024
"""Bytes, of which the kernel takes 4096: the rest is for the directory. What is longer has no directories."""

_TAGGED = re.compile(r"~[0-9a-f]{16}\Z")


def safe_parts(version: Version, *, numbered: bool, shared: bool = False, flat: bool = False) -> tuple[str, ...]:
    """The directories and the file name for a version. `numbered` gives each version a path of its own, else each object;
    `shared` says that another object of this name has the plain path; `flat` that it must not lie in directories."""
    parts = [_clean(part) for part in version.object.split("/") if part]
    joined = "/".join(parts)
    if flat or not parts or len(joined.encode()) > _LONGEST_PATH:
        parts = [_shorten("_".join(parts)) or "object"]
    *directories, last = parts
    clashing = _TAGGED.search(last) or last.endswith(METADATA_SUFFIX)
    if numbered:
        last += f"@{version.number}"
    if shared or clashing or "/".join(parts) != version.object:
        last += f"~{_tag(version, numbered)}"
    return *directories, last


def _clean(part: str) -> str:
    """One name: no control characters, nothing that means a directory, and not too long."""
    if part in (".", ".."):
        return "_" * len(part)
    return _shorten("".join(one if one.isprintable() else "_" for one in part))


def _shorten(part: str) -> str:
    data = part.encode()
    return part if len(data) <= _LONGEST_PART else data[:_LONGEST_PART].decode(errors="ignore")


def _tag(version: Version, numbered: bool) -> str:
    identity = json.dumps([version.object, version.owner, version.number if numbered else 0])
    return blake2b(identity.encode(), digest_size=8).hexdigest()
