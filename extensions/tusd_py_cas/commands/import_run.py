"""One run of `import`: takes the sources into the repository, several small ones at once, and counts."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from threading import Event

from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure
from tusd_py_cas.commands.finding import latest, sound
from tusd_py_cas.commands.outcomes import explain
from tusd_py_cas.commands.sources import Problem, Skipped, Source
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.model import IMPORTED, ChunksMissing, IndexDamaged, Manifest, Version
from tusd_py_cas.repository import Repository

__all__ = ["Counts", "ImportRun"]

AT_ONCE = 4
"""Small files that are taken in at the same time: a small one waits for the disk most of the time."""

SMALL = 16 << 20
"""Bytes. Larger files use all processors by themselves, one at a time, and show how far they have come."""

FAILURES_KEPT = 1000
"""Told one by one in JSON; the rest is counted."""

ATTEMPTS = 5

_AT_HAND = re.compile(r"'/proc/\d+/fd/\d+'")
"""What ingest calls the file that it is handed."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class Counts:
    """What has become of the sources. Bytes: read, of chunks that were new, and what these take on disk."""

    files: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    chunks: int = 0
    new_chunks: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


class Outcome(Enum):
    STORED = auto()
    UNCHANGED = auto()
    SKIPPED = auto()


_Done = tuple[Outcome, Ingested | None]


class NotAFile(Exception):
    """What was to be read is none (any more)."""


class ImportRun:
    """`is_finished` says of an upload, by its id, whether it is still there and as it was; `failed` is told of each
    failure and `advance` of bytes, both in the calling thread."""

    def __init__(
        self,
        repository: Repository,
        engine: Engine,
        *,
        is_finished: Callable[[str], bool],
        failed: Callable[[str, str], None],
        advance: Callable[[int], None],
    ) -> None:
        self._index, self._engine = repository.index, engine
        self._is_finished, self._failed, self._advance = is_finished, failed, advance
        self._stopping = Event()
        self._read = 0  # bytes of the large file that is being read, as far as `advance` has been told
        self.counts = Counts()

    def run(self, found: Iterable[Source | Problem | Skipped]) -> None:
        """Take everything in. Raises `RepositoryError`, `OutOfSpace` and `ReadOnlyStorage`, with which nothing can go on."""
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="import")
        under_way: deque[tuple[Source, Future[_Done]]] = deque()
        try:
            for one in found:
                if isinstance(one, Problem):
                    self._fail(one.path, one.what)
                elif isinstance(one, Skipped):
                    self.counts.skipped += 1
                elif _is_small(one.path):
                    under_way.append((one, pool.submit(self._take, one)))
                    if len(under_way) > 2 * AT_ONCE:
                        self._settle(*under_way.popleft())
                else:
                    self._settle_all(under_way)
                    self._count(one, partial(self._take, one, self._follow))
            self._settle_all(under_way)
        finally:
            self._stopping.set()
            pool.shutdown(cancel_futures=True)

    def _settle_all(self, under_way: deque[tuple[Source, Future[_Done]]]) -> None:
        while under_way:
            self._settle(*under_way.popleft())

    def _settle(self, source: Source, done: Future[_Done]) -> None:
        self._count(source, done.result)

    def _count(self, source: Source, result: Callable[[], _Done]) -> None:
        counts = self.counts
        try:
            outcome, ingested = result()
        except (OutOfSpace, ReadOnlyStorage):
            raise
        except (NotAFile, StorageFailure, OSError) as error:
            self._fail(source.path, _what_failed(source, error))
            self._read = 0
            return
        counts.files += outcome is Outcome.STORED
        counts.unchanged += outcome is Outcome.UNCHANGED
        counts.skipped += outcome is Outcome.SKIPPED
        if ingested is not None:
            counts.bytes += ingested.bytes_in
            counts.new_bytes += ingested.bytes_new
            counts.stored_bytes += ingested.bytes_stored
            counts.chunks += ingested.chunks
            counts.new_chunks += ingested.chunks_new
            self._advance(ingested.bytes_in - self._read)
        self._read = 0

    def _follow(self, position: int) -> None:
        if position > self._read:  # else it has been begun again
            self._advance(position - self._read)
            self._read = position

    def _fail(self, path: str, what: str) -> None:
        self.counts.failed += 1
        if len(self.counts.failures) < FAILURES_KEPT:
            self.counts.failures.append((path, what))
        self._failed(path, what)

    def _take(self, source: Source, progress: Callable[[int], None] | None = None) -> _Done:
        """In any thread. Raises `NotAFile`, `OSError`, `StorageFailure`, `RepositoryError`."""
        fd = os.open(source.path, _OPEN)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise NotAFile("it is no file")
            segments = [Segment(f"/proc/{os.getpid()}/fd/{fd}", 0, status.st_size)]
            if source.upload_id is None:
                return self._again_and_again(lambda: self._take_file(source, segments, progress))
            return self._again_and_again(lambda: self._take_upload(source, segments, progress, status))
        finally:
            os.close(fd)

    def _take_file(self, source: Source, segments: list[Segment], progress: Callable[[int], None] | None) -> _Done:
        ingested = self._engine.ingest(segments, self._stopping.is_set, progress)
        nobodys = (version for version in sound(self._index.versions(source.object), []) if version.owner is None)
        if any(version.manifest.name == ingested.manifest.name for version in latest(nobodys)):
            return Outcome.UNCHANGED, ingested
        self._add(source, f"{IMPORTED}{secrets.token_hex(16)}", ingested.manifest, time.time())
        return Outcome.STORED, ingested

    def _take_upload(
        self, source: Source, segments: list[Segment], progress: Callable[[int], None] | None, status: os.stat_result
    ) -> _Done:
        """A server may be taking it in too, or deleting it. For it a version counts only if it was made of a file of this
        size and this time (`serving.versions`), so that it is no harm if the id is being used again. What is damaged of it is
        made good by taking it in once more."""
        assert source.upload_id is not None
        size, modified = status.st_size, status.st_mtime
        existing = self._find(source.upload_id)
        is_of_this = existing is not None and (existing.manifest.size, existing.created_at) == (size, modified)
        if existing is not None and is_of_this and self._index.is_whole(existing.manifest):
            return Outcome.UNCHANGED, None
        if size != source.length or not self._is_finished(source.upload_id):
            return Outcome.SKIPPED, None
        ingested = self._engine.ingest(segments, self._stopping.is_set, progress)
        if not self._is_finished(source.upload_id) or not _is_same(segments[0].path, source.path):
            return Outcome.SKIPPED, ingested
        if existing is not None and not is_of_this:
            self._index.drop_version(source.upload_id)
        self._add(source, source.upload_id, ingested.manifest, modified)
        if not self._is_finished(source.upload_id):
            self._index.drop_version(source.upload_id)
            return Outcome.SKIPPED, ingested
        return Outcome.STORED, ingested

    def _find(self, upload_id: str) -> Version | None:
        """What the upload is already. One that is damaged makes way for the next."""
        try:
            return self._index.find_version(upload_id)
        except IndexDamaged:
            return None

    def _add(self, source: Source, upload_id: str, manifest: Manifest, at: float) -> None:
        self._index.add_version(
            upload_id=upload_id,
            object=source.object,
            owner=source.owner,
            manifest=manifest,
            metadata=source.metadata,
            raw=source.upload_id is not None,
            at=at,
        )

    def _again_and_again(self, attempt: Callable[[], _Done]) -> _Done:
        for _ in range(ATTEMPTS):
            try:
                return attempt()
            except ChunksMissing:  # a collector with little grace has taken the content before there was a version of it
                continue
        raise StorageFailure("it was collected again and again before there was a version of it: expected more grace")


def _what_failed(source: Source, error: Exception) -> str:
    """The path is said anyway."""
    if isinstance(error, OSError) and error.filename == source.path and error.strerror:
        return error.strerror
    return _AT_HAND.sub("it", explain(error))


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.lstat(other))
    except OSError:
        return False


def _is_small(path: str) -> bool:
    try:
        return os.lstat(path).st_size <= SMALL
    except OSError:  # whoever opens it will say
        return True
