"""Where things are in an upload directory, and that nothing is ever outside it.

Purely lexical, on absolute normalised `str` paths: what an administrator linked into the upload directory is the
administrator's business, what an id or a record says is not trusted. Knows no file system.
"""

from __future__ import annotations

import os.path
from hashlib import blake2b
from urllib.parse import quote

from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.ids import is_valid_id

__all__ = ["STATE_DIR", "OutsideRoot", "ancestors", "check_id", "confine", "data_path", "flat_name", "info_path", "state_path"]

STATE_DIR = ".tusd-py"
"""Below the upload directory, for state of our own. Ids can't reach it: none of their segments starts with a dot."""

_MAX_NAME = 200
"""Longest readable name for an id in a flat directory: 255 bytes is what file systems take, and some more may be appended."""


class OutsideRoot(StorageFailure):
    """A path leads out of the upload directory, or to a place in it that is not for uploads."""


def check_id(upload_id: str) -> None:
    """Refuse ids that can't name an upload, with `UploadNotFound`: the second lock on the door, where a name becomes a path."""
    if not is_valid_id(upload_id):
        raise UploadNotFound(f"{upload_id!r} can't be the id of an upload")


def data_path(root: str, upload_id: str) -> str:
    """Where tusd puts the bytes of an upload unless its record says otherwise."""
    check_id(upload_id)
    return f"{root}/{upload_id}"


def info_path(root: str, upload_id: str) -> str:
    """Where tusd puts the record of an upload."""
    check_id(upload_id)
    return f"{root}/{upload_id}.info"


def flat_name(upload_id: str) -> str:
    """A file name for an id, which may have slashes: readable where it can be, else a digest. No two ids share one."""
    name = upload_id if upload_id.isalnum() else quote(upload_id, safe="")  # ids are ASCII
    return name if len(name) <= _MAX_NAME else "~" + blake2b(upload_id.encode(), digest_size=32).hexdigest() + "~"


def state_path(root: str, name: str) -> str:
    """Where state of our own called `name` is."""
    return f"{root}/{STATE_DIR}/{name}"


def confine(root: str, path: str) -> str:
    """The absolute normalised form of `path`, which is below `root` or relative to it; raises `OutsideRoot` if it is not.

    tusd resolves a relative path in a record against its working directory; ours may be another, so the root it is.
    A hook may choose any name but that of a record: whoever uploads to `x.info` would be writing the record of `x`.
    """
    if "\0" in path:
        raise OutsideRoot(f"{path!r} can't be a path")
    below = root + "/"
    absolute = os.path.normpath(path if path.startswith("/") else below + path)
    if not absolute.startswith(below) or absolute.startswith(below + STATE_DIR) or absolute.endswith(".info"):
        raise OutsideRoot(f"{path!r} is not a place for bytes below {root!r}")
    return absolute


def ancestors(root: str, path: str) -> list[str]:
    """The directories from `path`'s own up to `root`: those whose entries lead to it."""
    found = []
    directory = os.path.dirname(path)
    while len(directory) > len(root) and directory.startswith(root):
        found.append(directory)
        directory = os.path.dirname(directory)
    return [*found, root]
