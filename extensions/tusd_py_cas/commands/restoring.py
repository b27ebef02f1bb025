"""`export --restore`: tusd's own files, written again from the chunks where they are gone, for going back to tusd or for doing
without content-addressed storage.

First the bytes are durable at their place, then the record says that they are there; a crash in between leaves a file that the
record does not count on, and the next run sees that. Nothing is taken out of the repository. Works beside a running
server: an upload that is deleted meanwhile stays deleted, since a record is only exchanged for another one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from fractions import Fraction

from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.upload import Upload
from tusd_py.protocol.upload_json import build_upload
from tusd_py_cas.commands.bars import Progress, followed, progress
from tusd_py_cas.commands.options import check_user
from tusd_py_cas.commands.outcomes import Failed, explain, report
from tusd_py_cas.commands.output import tell
from tusd_py_cas.commands.placing import place_new, replace_existing
from tusd_py_cas.commands.records import RecordUnreadable, data_path, read_record
from tusd_py_cas.commands.texts import counted, show_size
from tusd_py_cas.model import IndexDamaged, RepositoryError, Version
from tusd_py_cas.reading import Reader
from tusd_py_cas.repository import Repository

__all__ = ["restore_uploads"]

FILESTORE = "filestore"


class Outcome(Enum):
    """What became of an upload's file."""

    RESTORED = "restored"
    CORRECTED = "corrected"
    """The file was there; its record said otherwise."""
    THERE = "there"
    GONE = "gone"
    """There is no record: no upload any more, or never one (it was imported)."""


class Unrestorable(Exception):
    """A sentence that says why."""


def restore_uploads(repository: Repository, upload_dir: str, ids: Sequence[str], *, as_json: bool) -> None:
    """Restore the uploads of these ids, or all. Raises `Failed` at the end if some could not be."""
    check_user(repository.path)
    counts = dict.fromkeys(Outcome, 0)
    failed = size = 0
    with progress("restoring", silent=as_json) as bar:
        for upload_id, version in _named(repository, ids) if ids else _all(repository):
            try:
                if isinstance(version, IndexDamaged):
                    raise version
                if version is None or upload_id is None:
                    raise Unrestorable("is not stored in the repository")
                outcome = _restore(repository, upload_dir, version, bar)
                if ids and outcome is Outcome.GONE:
                    raise Unrestorable("has no record: it was deleted, or it was imported and is no upload")
            except (Unrestorable, RecordUnreadable, RepositoryError, StorageFailure, OSError) as error:
                failed += 1
                report(explain(error) if upload_id is None else f"{upload_id!r}: {explain(error)}")
                _tell(upload_id, None, explain(error), as_json=as_json)
                continue
            counts[outcome] += 1
            size += version.manifest.size if outcome is Outcome.RESTORED else 0
            _tell(upload_id, outcome, None, as_json=as_json)
    if not as_json:
        tell(_summary(counts, size))
    if failed:
        raise Failed(f"{failed} could not be restored")


def _tell(upload_id: str | None, outcome: Outcome | None, error: str | None, *, as_json: bool) -> None:
    if as_json:
        tell({"upload": upload_id, "outcome": outcome.value if outcome else None, "error": error})
    elif outcome is Outcome.RESTORED or outcome is Outcome.CORRECTED:
        tell(f"{outcome.value} {upload_id}")


def _summary(counts: dict[Outcome, int], size: int) -> str:
    return (
        f"{counted(counts[Outcome.RESTORED], 'file')}, {show_size(size)}, restored; "
        f"{counted(counts[Outcome.CORRECTED], 'record')} corrected; "
        f"{counts[Outcome.THERE]} were as they should be; {counts[Outcome.GONE]} are no uploads"
    )


_Found = tuple[str | None, Version | IndexDamaged | None]


def _named(repository: Repository, ids: Iterable[str]) -> Iterator[_Found]:
    for upload_id in ids:
        try:
            yield upload_id, repository.index.find_version(upload_id)
        except IndexDamaged as damage:
            yield upload_id, damage


def _all(repository: Repository) -> Iterator[_Found]:
    for version in repository.index.versions():
        yield (None, version) if isinstance(version, IndexDamaged) else (version.upload_id, version)


def _restore(repository: Repository, upload_dir: str, version: Version, bar: Progress) -> Outcome:
    """Raises `Unrestorable`, `RecordUnreadable`, `RepositoryError`, `StorageFailure`, `OSError`."""
    record = read_record(upload_dir, version.upload_id)
    if record is None:
        return Outcome.GONE
    upload, size = record.upload, version.manifest.size
    if upload.length != size:
        raise Unrestorable(f"its record says {upload.length} bytes, and what is stored has {size}")
    path = data_path(upload_dir, upload)
    found = _look(path, upload)
    if found == size and not upload.relocated:
        return Outcome.THERE
    if found != size:
        content = followed(Reader(repository, version.manifest).iter_bytes(0, size), bar)
        place_new(
            upload_dir,
            path,
            content,
            like=record.status,
            modified_ns=_nanoseconds(version.created_at),
            over_empty=found is not None,
        )
    data = build_upload(upload, {**upload.storage, "Type": FILESTORE, "Path": path})
    if replace_existing(upload_dir, record.path, data, like=record.status):
        return Outcome.CORRECTED if found == size else Outcome.RESTORED
    if found != size:  # deleted at this moment: nobody else is going to remove the file
        os.unlink(path)
    return Outcome.GONE


def _look(path: str, upload: Upload) -> int | None:
    """The size of the file, None where there is none. Raises `Unrestorable` where it is neither whole nor the empty one that an
    upload begins with, and which an upload whose bytes were never in a file may have kept."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(path):
            raise Unrestorable(f"{path!r} is a link that leads nowhere") from None
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Unrestorable(f"{path!r} is no file")
    if found.st_size != upload.length and not (found.st_size == 0 and upload.relocated):
        raise Unrestorable(f"{path!r} exists, and has {found.st_size} bytes instead of {upload.length}")
    return found.st_size


def _nanoseconds(moment: float) -> int:
    """For which the file system gives exactly this moment again: by that, and its size, a server knows a file as the one that a
    version was made of."""
    return round(Fraction(moment) * 1_000_000_000)
