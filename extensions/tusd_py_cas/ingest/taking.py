"""One content on its way into the repository."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass

from blake3 import blake3

from tusd_py_cas.index import NewContent
from tusd_py_cas.ingest.committing import Committer
from tusd_py_cas.ingest.cutting import Cut, Cutter
from tusd_py_cas.ingest.digests import Digests
from tusd_py_cas.ingest.jobs import Ingested
from tusd_py_cas.ingest.pace import Pace
from tusd_py_cas.ingest.prediction import Prediction
from tusd_py_cas.ingest.source import Source, SourceReader
from tusd_py_cas.ingest.storing import Stored, Storing
from tusd_py_cas.ingest.windows import SMALL, Buffers, Window
from tusd_py_cas.model import LEAF, ChunkRef, ChunksMissing, Manifest, RepositoryError
from tusd_py_cas.repository import Repository

__all__ = ["Cancelled", "IsCancelled", "Shared", "Taking", "never"]

_log = logging.getLogger("tusd_py.cas")

IsCancelled = Callable[[], bool]


class Cancelled(Exception):
    """Nobody wants the result any more."""


def never() -> bool:
    """For those that nobody can cancel."""
    return False


@dataclass(frozen=True, slots=True)
class Shared:
    """What all contents that are taken in at the same time use together. `processor` is held while computing."""

    repository: Repository
    buffers: Buffers
    storing: Storing
    committer: Committer
    pool: ThreadPoolExecutor
    processor: AbstractContextManager[object]
    pace: Pace


class Taking:
    """One attempt; `run` once, in one thread. `predict` says whether to look for a stored content that this one may be."""

    def __init__(self, shared: Shared, source: Source, is_cancelled: IsCancelled = never, *, predict: bool = True) -> None:
        self._shared, self._source = shared, source
        self._is_cancelled, self._predict = is_cancelled, predict
        self._index = shared.repository.index
        self._cutter = Cutter(shared.repository.parameters)
        self._reader = SourceReader(source)
        self._digests = Digests(source, shared.processor)
        self._prediction: Prediction | None = None
        self._is_small = source.size <= SMALL
        self._is_known = False  # so far; then there are no digests and no leaves of it yet
        self._storing: deque[tuple[Future[Stored], bool]] = deque()  # windows in order, and whether leaves need them
        self._chunks: list[ChunkRef] = []  # stored, and in no leaf yet
        self._leaves: list[int] = []
        self._count = self._count_new = self._bytes_new = self._bytes_stored = 0  # of chunks

    def run(self, progress: Callable[[int], None] | None = None) -> Ingested:
        """`progress` is told up to which byte the content has been read.

        Raises `ChunksMissing`: begin again; `Cancelled`, `OutOfSpace`, `StorageFailure`.
        """
        try:
            position = 0
            while position < self._source.size:
                position = self._take_window(position)
                if progress is not None:
                    progress(position)
                self._gather(all_of_them=False)
            self._gather(all_of_them=True)
            manifest = self._finish()
        finally:
            wait([future for future, _ in self._storing])
            self._digests.close()
            self._reader.close()
        return Ingested(
            manifest=manifest,
            bytes_in=self._source.size,
            bytes_new=self._bytes_new,
            bytes_stored=self._bytes_stored,
            chunks=self._count,
            chunks_new=self._count_new,
        )

    def _take_window(self, position: int) -> int:
        if not self._is_small:  # small ones cost little, and many of them come only when there is no rush
            self._shared.pace.wait(min(self._shared.buffers.size, self._source.size - position), self._is_cancelled)
        if self._is_cancelled():
            raise Cancelled
        window = self._shared.buffers.take(self._source.size)
        try:
            view = window.bytes[: self._source.size - position]
            self._reader.read_into(view, position)
            with self._shared.processor:
                cuts = self._cut(view, position)
            if self._is_known and not self._prediction_holds:
                self._is_known = False
                self._take_over(position)
            if not self._is_known and not self._is_small:
                self._digests.begin()
        except BaseException:
            window.release()
            raise
        window.fill(position, cuts, users=1 if self._is_known else 2)
        end = window.end
        self._hand_out(window)
        return end

    # Cutting

    @property
    def _prediction_holds(self) -> bool:
        return self._prediction is not None and self._prediction.holds

    def _cut(self, view: memoryview, position: int) -> list[Cut]:
        at_end = position + len(view) == self._source.size
        if position == 0 and self._predict:
            self._begin_prediction(view)
        cuts = self._cut_as_predicted(view, position) if self._prediction_holds else []
        if not self._prediction_holds:
            cuts += self._cutter.cut(view, cuts[-1].end if cuts else 0, at_end=at_end)
        return cuts

    def _begin_prediction(self, view: memoryview) -> None:
        first = self._cutter.first(view)
        try:
            name = blake3(view[: first.size]).digest()
            if (manifest := self._index.find_content_starting_with(name, self._source.size)) is not None:
                self._prediction = Prediction(self._index, manifest, self._source.size, self._cutter.max_size)
                self._is_known = self._prediction.is_of_whole
        except RepositoryError as error:
            _log.warning("a stored content can't be followed", extra={"fields": {"error": str(error)}})

    def _cut_as_predicted(self, view: memoryview, position: int) -> list[Cut]:
        assert self._prediction is not None
        try:
            cuts = self._prediction.cut(view, position)
        except RepositoryError as error:
            _log.warning("a stored content can't be followed", extra={"fields": {"error": str(error)}})
            cuts = []
        if not cuts:
            self._prediction.holds = False
        return cuts

    def _take_over(self, position: int) -> None:
        """This content is another one than was thought, but it has the same chunks up to `position`."""
        assert self._prediction is not None
        self._gather(all_of_them=True)
        try:
            for piece in self._index.pieces(self._prediction.manifest, 0, position) if position else ():
                self._chunks.append(ChunkRef(piece.chunk.name, piece.chunk.size))
                self._make_full_leaves()
        except RepositoryError:  # it is gone: its chunks may be, too
            raise ChunksMissing(frozenset()) from None

    # Storing

    def _hand_out(self, window: Window) -> None:
        """To whoever has to do something with it; all of them release it."""
        if not self._is_known:
            (self._digests.add_now if self._is_small else self._digests.add)(window)
        submit = _at_once if self._is_small else self._shared.pool.submit
        self._storing.append((submit(self._store, window), not self._is_known))

    def _store(self, window: Window) -> Stored:
        try:
            return self._shared.storing.store(window.bytes, window.cuts)
        finally:
            window.release()

    def _gather(self, *, all_of_them: bool) -> None:
        """Take what has been stored, in order. Raises what has failed."""
        while self._storing and (all_of_them or self._storing[0][0].done()):
            future, is_for_leaves = self._storing[0]
            stored = future.result()
            self._storing.popleft()
            self._count += len(stored.chunks)
            self._count_new += stored.new
            self._bytes_new += stored.bytes_new
            self._bytes_stored += stored.bytes_stored
            if is_for_leaves:
                self._chunks.extend(stored.chunks)
                self._make_full_leaves()

    def _make_full_leaves(self) -> None:
        while len(self._chunks) >= LEAF:
            self._leaves.append(self._index.add_leaf(self._chunks[:LEAF]))
            del self._chunks[:LEAF]

    def _finish(self) -> Manifest:
        if self._is_cancelled():
            raise Cancelled
        if self._is_known:
            assert self._prediction is not None
            self._source.check_unchanged()
            return self._still_there(self._prediction.manifest)
        digests = self._digests.finish()
        self._source.check_unchanged()
        return self._shared.committer.add(NewContent(self._source.size, *digests, self._leaves, self._chunks))

    def _still_there(self, manifest: Manifest) -> Manifest:
        """It was followed by what memory has of it: it may be damaged, or collected meanwhile. Raises `ChunksMissing`."""
        try:
            if self._index.is_whole(manifest):
                return manifest
        except RepositoryError:
            pass
        raise ChunksMissing(frozenset())


def _at_once(work: Callable[[Window], Stored], window: Window) -> Future[Stored]:
    """What a pool's `submit` does, in this thread."""
    future: Future[Stored] = Future()
    try:
        future.set_result(work(window))
    except BaseException as error:
        future.set_exception(error)
    return future
