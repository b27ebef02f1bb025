"""The upload directory as tusd's layout has it: records (`<id>.info`), and where the bytes are that they speak of.

The server's own adapters are none of an extension's business, so this says once more, in short, what stands in
docs/reference/directory-layout.md. What a record says of paths is not trusted. Everything blocks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from tusd_py.protocol.go_json import JsonError
from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.upload import Upload
from tusd_py.protocol.upload_json import parse_upload

__all__ = ["Record", "RecordUnreadable", "data_path", "is_committing", "read_record", "record_ids"]

_LARGEST = 16 * 1024 * 1024
"""Bytes of a record; the server refuses larger ones too."""

_FLAT_AT_MOST = 200
"""Longer ids have a digest for a name where all names are in one directory."""


class RecordUnreadable(Exception):
    """There is a record, which makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """An upload's record, the state of its file, and where that is."""

    upload: Upload
    status: os.stat_result
    path: str


def read_record(upload_dir: str, upload_id: str) -> Record | None:
    """None where there is none. Raises `RecordUnreadable`, `OSError`."""
    path = f"{upload_dir}/{upload_id}.info"
    if not is_valid_id(upload_id):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise RecordUnreadable(f"{path!r} is no record")
        try:
            return Record(parse_upload(file.read(_LARGEST), upload_id), status, path)
        except JsonError as error:
            raise RecordUnreadable(f"the record {path!r} cannot be read: {error}") from error


def data_path(upload_dir: str, upload: Upload) -> str:
    """Where the bytes are: where the record says, if that is inside the upload directory and a place for bytes; at the usual
    place if they are there and not where the record says, as in a directory that was moved."""
    usual, stored = f"{upload_dir}/{upload.id}", _stored_path(upload_dir, upload)
    return usual if not os.path.lexists(stored) and os.path.lexists(usual) else stored


def _stored_path(upload_dir: str, upload: Upload) -> str:
    usual = f"{upload_dir}/{upload.id}"
    stored = upload.storage.get("Path")
    if not stored or "\0" in stored:
        return usual
    path = os.path.normpath(stored if stored.startswith("/") else f"{upload_dir}/{stored}")
    below = f"{upload_dir}/"
    if not path.startswith(below) or path.startswith(f"{below}.tusd-py") or path.endswith(".info"):
        return usual
    return path


def record_ids(upload_dir: str) -> Iterator[str]:
    """Ids of all records, as they come. Links are not followed, what begins with a dot is no upload's, and directories that
    the user may not read, such as `lost+found`, have none of the server's. Raises `OSError`."""
    waiting = [""]  # no recursion: a tree may be deeper than the interpreter's stack
    while waiting:
        prefix = waiting.pop()
        try:
            entries = os.scandir(f"{upload_dir}/{prefix}")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            if prefix:  # it went away after it was listed, or is nothing of ours
                continue
            raise
        below = []
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.endswith(".info"):
                    upload_id = prefix + entry.name.removesuffix(".info")
                    if is_valid_id(upload_id) and entry.is_file(follow_symlinks=False):
                        yield upload_id
                elif entry.is_dir(follow_symlinks=False):
                    below.append(f"{prefix}{entry.name}/")
        waiting += sorted(below, reverse=True)


def is_committing(upload_dir: str, upload_id: str) -> bool:
    """Whether verified bytes are being added to the upload, or were when a server died: then its file has bytes that are no
    part of it. May say so wrongly of an id with a very long name."""
    directory = f"{upload_dir}/.tusd-py/committing"
    name = quote(upload_id, safe="")
    if len(name) <= _FLAT_AT_MOST:
        return os.path.lexists(f"{directory}/{name}")
    try:
        return any(entry.startswith("~") for entry in os.listdir(directory))
    except FileNotFoundError:
        return False
