"""Writing versions to files below a directory, one or all of them, and saying what became of each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.commands.bars import Progress, followed, progress
from tusd_py_cas.commands.destination import Destination, Exists, InTheWay
from tusd_py_cas.commands.documents import version_document
from tusd_py_cas.commands.finding import latest
from tusd_py_cas.commands.names import METADATA_SUFFIX, safe_parts
from tusd_py_cas.commands.outcomes import Failed, explain, report
from tusd_py_cas.commands.output import tell
from tusd_py_cas.commands.texts import counted, show_size
from tusd_py_cas.model import IndexDamaged, RepositoryError, Version
from tusd_py_cas.reading import Reader
from tusd_py_cas.repository import Repository

__all__ = ["Export"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What no other file would fare better with."""


class Export:
    """One run. `as_json` prints a line for each version, otherwise there is a summary at the end. What fails is told on
    standard error, and the rest goes on; then the run ends in `Failed`."""

    def __init__(self, repository: Repository, *, metadata: bool, force: bool, as_json: bool) -> None:
        self._repository = repository
        self._metadata, self._force, self._as_json = metadata, force, as_json
        self._done = self._bytes = self._failed = 0

    def run_one(self, directory: str, name: bytes, version: Version) -> None:
        """Write a version to the file `name` in a directory that is there."""
        path = os.path.join(directory, os.fsdecode(name))
        with Destination(directory) as destination, self._bar(version.manifest.size) as bar:
            try:
                self._write(destination, version, [name], bar)
            except Exists as existing:
                raise Failed(_exists(os.path.join(directory, os.fsdecode(existing.parts[-1])))) from None
            except InTheWay:
                raise Failed(f"{path!r} is no file") from None
            except OSError as error:  # names a temporary file, if any
                raise Failed(f"{path!r}: {error.strerror or error}") from error
        self._tell(version, path)
        self._end(path)

    def run(self, directory: str, versions: Iterable[Version], damaged: Sequence[IndexDamaged], *, every: bool) -> None:
        """Write the latest version of each object, or `every` version, to paths of their own below a directory, which is made
        if need be. `versions` come in the order of the index; `damaged` is looked at when all have come."""
        os.makedirs(directory, exist_ok=True)
        chosen = versions if every else latest(versions)
        with Destination(directory) as destination, self._bar(None) as bar:
            for version, shared in _with_shared_names(chosen):
                try:
                    path = self._write_somewhere(destination, version, bar, numbered=every, shared=shared)
                except (Failed, RepositoryError, StorageFailure, OSError) as error:
                    if isinstance(error, OSError) and error.errno in _FULL:
                        raise Failed(f"{directory!r}: {error.strerror}") from error
                    self._fail(version, explain(error))
                else:
                    self._tell(version, path)
        for damage in damaged:
            self._fail_unread(damage)
        self._end(directory)

    def _bar(self, total: int | None) -> AbstractContextManager[Progress]:
        return progress("exporting", silent=self._as_json, total=total)

    def _write_somewhere(
        self, destination: Destination, version: Version, bar: Progress, *, numbered: bool, shared: bool
    ) -> str:
        """At its path or, where there is something else in the way of that, outside of all directories. Returns the path."""
        for flat in (False, True):
            parts = safe_parts(version, numbered=numbered, shared=shared, flat=flat)
            path = "/".join(parts)
            try:
                self._write(destination, version, [part.encode() for part in parts], bar)
            except InTheWay:
                continue
            except Exists as existing:
                raise Failed(_exists(os.fsdecode(b"/".join(existing.parts)))) from None
            return path
        raise Failed(f"there is something else in the way of {path!r}")

    def _write(self, destination: Destination, version: Version, parts: Sequence[bytes], bar: Progress) -> None:
        manifest = version.manifest
        *directories, name = parts
        beside = [*directories, name + METADATA_SUFFIX.encode()]
        if self._metadata:
            destination.check(beside, force=self._force)
        content = followed(Reader(self._repository, manifest).iter_bytes(0, manifest.size), bar)
        destination.write(parts, content, force=self._force, modified=version.created_at)
        if self._metadata:
            text = json.dumps(version_document(version), indent=2) + "\n"
            destination.write(beside, [text.encode()], force=self._force, modified=version.created_at)

    def _tell(self, version: Version, path: str) -> None:
        self._done += 1
        self._bytes += version.manifest.size
        if self._as_json:
            tell({**_identity(version), "path": path, "size": version.manifest.size, "error": None})

    def _fail(self, version: Version, what: str) -> None:
        self._failed += 1
        report(f"{version.object!r}, version {version.number}: {what}")
        if self._as_json:
            tell({**_identity(version), "path": None, "size": version.manifest.size, "error": what})

    def _fail_unread(self, damage: IndexDamaged) -> None:
        self._failed += 1
        report(str(damage))
        if self._as_json:
            unknown = dict.fromkeys(("upload", "object", "owner", "version", "path", "size"))
            tell({**unknown, "error": str(damage)})

    def _end(self, place: str) -> None:
        if not self._as_json:
            tell(f"{counted(self._done, 'file')}, {show_size(self._bytes)}, written to {place}")
        if self._failed:
            raise Failed(f"{self._failed} could not be exported")


def _identity(version: Version) -> dict[str, object]:
    return {
        "upload": version.upload_id,
        "object": version.object,
        "owner": version.owner,
        "version": version.number,
    }


def _exists(path: str) -> str:
    return f"{path!r} exists: expected --force if it is to be replaced"


def _with_shared_names(versions: Iterable[Version]) -> Iterator[tuple[Version, bool]]:
    """Each version, and whether an object of another owner was there before with the same name."""
    name, first = None, None
    for version in versions:
        if version.object != name:
            name, first = version.object, version.owner
        yield version, version.owner != first
