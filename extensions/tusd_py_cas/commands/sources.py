"""What `import` is to take in: files below the paths that were given, or the finished uploads of the upload directory.

Nothing is read here but directories and records, and links are followed by neither.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tusd_py.protocol.upload import Upload
from tusd_py_cas.commands.outcomes import explain
from tusd_py_cas.commands.records import RecordUnreadable, data_path, is_committing, read_record, record_ids
from tusd_py_cas.naming import object_name, text_metadata

__all__ = ["Found", "Problem", "Skipped", "Source", "files", "size_if_finished", "uploads"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is to become a version of `object`. An upload's has its id and its `length`."""

    path: str
    object: str
    upload_id: str | None = None
    length: int | None = None
    owner: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was to be taken in and can't be."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is not to be taken in: a link, a device, an upload that is not finished."""

    path: str


Found = Source | Problem | Skipped


def files(paths: Sequence[str], *, prefix: str, name: str | None, repository: str) -> Iterator[Found]:
    """The files at and below these paths, in the order of their names. An object is named `prefix` and the path below the
    directory that was given, for a file its last part; or `name`, which goes with one file. The directory `repository`, which
    grows while this is being taken in, is left out. Raises `OSError` where that can't be looked at."""
    own = os.stat(repository)
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError as error:
            yield Problem(path, error.strerror or str(error))
            continue
        if stat.S_ISDIR(status.st_mode):
            if name is not None:
                yield Problem(path, "it is a directory, and --object names a single file")
            else:
                yield from _below(path, prefix, own)
        elif stat.S_ISREG(status.st_mode):
            yield _file(path, name if name is not None else prefix + os.path.basename(path))
        else:
            kind = (
                "a link: expected the path that it leads to" if stat.S_ISLNK(status.st_mode) else "neither file nor directory"
            )
            yield Problem(path, f"it is {kind}")


def _below(root: str, prefix: str, without: os.stat_result) -> Iterator[Found]:
    waiting: list[tuple[str, str]] = [(root, prefix)]  # no recursion: a tree may be deeper than the interpreter's stack
    while waiting:
        path, name = waiting.pop()
        try:
            if os.path.samestat(os.lstat(path), without):
                yield Skipped(path)
                continue
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield Problem(path, error.strerror or str(error))
            continue
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield _file(entry.path, name + entry.name)
            elif not entry.is_dir(follow_symlinks=False):
                yield Skipped(entry.path)
        directories = (entry for entry in reversed(entries) if entry.is_dir(follow_symlinks=False))
        waiting += [(entry.path, f"{name}{entry.name}/") for entry in directories]


def _file(path: str, name: str) -> Found:
    try:
        name.encode()
    except UnicodeEncodeError:
        return Problem(path, "its name is not UTF-8, as those of objects are: expected --object for it")
    return Source(path, name, metadata={"filename": name.rpartition("/")[2]})


def uploads(upload_dir: str) -> Iterator[Found]:
    """The finished uploads of the directory."""
    for upload_id in record_ids(upload_dir):
        try:
            record = read_record(upload_dir, upload_id)
        except (RecordUnreadable, OSError) as error:
            if os.path.lexists(f"{upload_dir}/{upload_id}"):  # else it is being written, or was when a server died
                yield Problem(upload_id, explain(error))
            continue
        if record is None:
            continue
        upload, path = record.upload, data_path(upload_dir, record.upload)
        size = size_if_finished(upload_dir, upload, path)
        if size is None:
            yield Skipped(upload_id)
        elif size != upload.length:
            yield Problem(upload_id, f"{path!r} has {size} bytes, and its record says {upload.length}")
        else:
            metadata = dict(text_metadata(upload))
            yield Source(path, object_name(upload), upload_id, size, upload.owner, metadata)


def size_if_finished(upload_dir: str, upload: Upload, path: str) -> int | None:
    """The size of an upload's file, if all bytes are there and nothing is left to be decided about them. Bytes that are being
    added, or were when a server died, do not count before the server says so; what an extension has (`relocated`) is in no
    file. It may be larger than the upload."""
    if upload.length is None or upload.failure is not None or upload.held or upload.relocated:
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size < upload.length or is_committing(upload_dir, upload.id):
        return None
    return status.st_size
