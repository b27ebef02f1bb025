"""Removing what nothing refers to: contents, chunks, and files that the index knows nothing of.

Runs beside everything else, for others wait only for its short transactions. A chunk's row goes only after its file, and a file
only once its row durably says that it is condemned, or when there is no row. A crash in between leaves work for the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from tusd_py_cas.chunk_files import Found
from tusd_py_cas.layout import FILE_MODE
from tusd_py_cas.model import Codec, RepositoryError, StoredChunk
from tusd_py_cas.os_errors import writing_failed
from tusd_py_cas.repository import Repository

__all__ = ["AlreadyCollecting", "Collected", "collect"]

_log = logging.getLogger("tusd_py.cas")

_LOCK = "collecting.lock"

_BURIED_AT_ONCE = 200
"""Files that are removed in one transaction: tens of milliseconds in which nobody can add chunks."""

_LOOKED_AT_ONCE = 1000

_TEMPORARIES = 3600.0
"""Seconds that files stay which are being written, however short the grace period is: their writers need them."""

Progress = Callable[[str, int], None]


class AlreadyCollecting(RepositoryError):
    """Another process, or another thread, is collecting in this repository."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What has been removed, or with `dry_run` would be. `orphans` are files of chunks that the index does not know, and of
    forms in which it does not have them; `temporaries` are files that were never completed, which a dry run does not count.
    `freed_bytes` are those of chunks and orphans on disk."""

    manifests: int = 0
    leaves: int = 0
    chunks: int = 0
    freed_bytes: int = 0
    orphans: int = 0
    temporaries: int = 0


def collect(
    repository: Repository, *, grace: float, now: float, dry_run: bool = False, progress: Progress | None = None
) -> Collected:
    """Remove what nothing has referred to for `grace` seconds at the time `now`. Blocks, for as long as it takes to look
    through all of the index and all names of files.

    Where the index is not sound, nothing is removed: `RepositoryError`. Raises `AlreadyCollecting` where another is at it, and
    `StorageFailure`; what has been removed until then stays so. `progress` is told of a step and how much more it has done.
    """
    collector = _Collector(repository, now - grace, now - max(grace, _TEMPORARIES), progress or (lambda step, more: None))
    if dry_run:
        return collector.look()
    with _alone(repository.path):
        collected = collector.run()
    if collected != Collected():
        _log.info("garbage collected", extra={"fields": asdict(collected)})
    return collected


class _Collector:
    def __init__(self, repository: Repository, before: float, temporaries_before: float, progress: Progress) -> None:
        self._index, self._chunks = repository.index, repository.chunks
        self._before, self._temporaries_before = before, temporaries_before
        self._progress = progress
        self._sound = False

    def look(self) -> Collected:
        unused = self._index.unused(self._before)
        orphans = [file for files in self._strange_files() for file in self._orphans(files, None)]
        freed = unused.stored + sum(file.size for file in orphans)
        return Collected(unused.manifests, unused.leaves, unused.chunks, freed, len(orphans))

    def run(self) -> Collected:
        manifests = leaves = chunks = freed = 0
        if any(asdict(self._index.unused(self._before)).values()):
            self._see_that_index_is_sound()
            swept = self._index.sweep(self._before)
            manifests, leaves = swept.manifests, swept.leaves
            self._progress("sweeping", manifests + leaves)
            self._progress("condemning", self._index.condemn(self._before))
            chunks, freed = self._bury()
        orphans, freed_orphans = self._remove_orphans()
        temporaries = self._chunks.tidy(self._temporaries_before)
        return Collected(manifests, leaves, chunks, freed + freed_orphans, orphans, temporaries)

    def _see_that_index_is_sound(self) -> None:
        """Asked before anything is removed, and only then: it takes a while. Raises `RepositoryError`."""
        if self._sound:
            return
        for finding in self._index.check(lambda rows: self._progress("checking the index", rows)):
            raise RepositoryError(f"nothing is removed, because the index is damaged: {finding}")
        self._sound = True

    def _bury(self) -> tuple[int, int]:
        """How many chunks, and their bytes."""
        chunks = freed = 0
        while condemned := self._index.condemned(_BURIED_AT_ONCE):
            removed: list[StoredChunk] = []

            def remove(chunk: StoredChunk, removed: list[StoredChunk] = removed) -> None:
                self._chunks.remove(chunk)
                removed.append(chunk)

            buried = self._index.bury(condemned, remove)
            if not buried and self._index.condemned(_BURIED_AT_ONCE) == condemned:
                raise RepositoryError(f"{len(condemned)} chunks are condemned, but in use: check the index")
            chunks += buried
            freed += sum(chunk.stored_size for chunk in removed)
            self._progress("removing chunks", buried)
        return chunks, freed

    def _remove_orphans(self) -> tuple[int, int]:
        """How many files, and their bytes."""
        orphans = freed = 0
        for files in self._strange_files():
            self._see_that_index_is_sound()
            for start in range(0, len(files), _BURIED_AT_ONCE):
                removed = self._orphans(files[start : start + _BURIED_AT_ONCE], self._remove_form)
                orphans += len(removed)
                freed += sum(file.size for file in removed)
        return orphans, freed

    def _strange_files(self) -> Iterator[list[Found]]:
        """Files that have not been written since `before` and are not those of stored chunks, some at a time."""
        old = (file for file in self._chunks.walk() if file.modified < self._before)
        while files := list(itertools.islice(old, _LOOKED_AT_ONCE)):
            stored = self._index.find_chunks([file.name for file in files])
            strange = [file for file in files if file.name not in stored or stored[file.name].codec is not file.codec]
            if strange:
                yield strange
            self._progress("looking at files", len(files))

    def _orphans(self, files: list[Found], remove: Callable[[bytes, Codec], None] | None) -> list[Found]:
        """Those of the files that no row of the index is about."""
        found = set(self._index.without_row([(file.name, file.codec) for file in files], remove))
        return [file for file in files if (file.name, file.codec) in found]

    def _remove_form(self, name: bytes, codec: Codec) -> None:
        self._chunks.remove(StoredChunk(name, 0, 0, codec))


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """The only collector of this repository, on this machine."""
    try:
        fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise writing_failed(error, "opening the lock of collectors") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyCollecting(f"another process is collecting already in {path!r}") from None
        except OSError as error:
            raise writing_failed(error, "taking the lock of collectors") from error
        yield
    finally:
        os.close(fd)
