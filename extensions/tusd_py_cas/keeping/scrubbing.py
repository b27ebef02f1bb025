"""Reading everything that is stored, or a sample, to find what has been damaged while nobody asked for it.

Runs beside everything else. A chunk that does not have its name's bytes is set aside (`Repository.damaged`), so that the next
upload with the same bytes stores it again. What can't be read at all is only reported: a disk that is out of reach must not
make a whole repository count as damaged.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.chunk_files import Found
from tusd_py_cas.keeping.examining import Examined, Outcome, examine
from tusd_py_cas.keeping.rate import STEP, Rate
from tusd_py_cas.model import Codec, IndexDamaged, Manifest, RepositoryError, State, StoredChunk, Version
from tusd_py_cas.repository import Repository

__all__ = ["Finding", "Verified", "verify"]

THREADS = 4
"""At most, and no more than there are processors: hashing and decompressing leave the interpreter's lock."""


class Finding(NamedTuple):
    """What is wrong with a chunk."""

    name: bytes
    what: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` has found. `bytes` are those of the `checked` chunks as they are stored.

    `damaged` are set aside; among them are those that had been before. `unreadable` could not be judged: reading failed.
    `healed` had been set aside but are sound again, or the index had them wrong. `index_errors` are those that are left after
    `mended`, which the index could put right by itself. `affected` are the versions that have damaged
    or unreadable chunks, or whose chunks the index can't tell. `orphans` are files that no row of the index is about; some may
    just be being written. `complete` is False after a stop, and where the index was too damaged to go on.
    """

    checked: int = 0
    bytes: int = 0
    damaged: tuple[Finding, ...] = ()
    unreadable: tuple[Finding, ...] = ()
    healed: int = 0
    index_errors: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    affected: tuple[Version, ...] = ()
    orphans: int = 0
    complete: bool = True

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with what was looked at (any more)."""
        return not (self.damaged or self.unreadable or self.index_errors)


def verify(
    repository: Repository,
    *,
    fraction: float = 1.0,
    rate: float | None = None,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    seed: int | None = None,
) -> Verified:
    """Check the index, and mend it where it can do that alone; then read and check each chunk with probability `fraction`, and
    all that have been set aside earlier.

    `rate` bounds what is read, in stored bytes a second. `progress` is told of stored bytes as they have been checked, in the
    calling thread. `stop` is asked several times a second. `seed` makes the sample repeatable. Blocks. Raises
    `StorageFailure` where the index can't be read, `ValueError` for a fraction that is none and a rate that is not above 0.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of {fraction} is not possible: expected 0 to 1")
    run = _Run(repository, Rate(rate), progress or (lambda _: None), stop or (lambda: False))
    try:
        run.check_index()
        run.check_chunks(fraction, random.Random(seed))
        run.look_at_files()
        run.find_affected()
    except _Stopped:
        run.complete = False
    except IndexDamaged as error:
        run.index_errors.append(str(error))
        run.complete = False
    return run.result()


class _Stopped(Exception):
    """`stop` said so."""


@dataclass(slots=True)
class _Run:
    """One verification on its way."""

    repository: Repository
    rate: Rate
    progress: Callable[[int], None]
    stop: Callable[[], bool]
    checked: int = 0
    size: int = 0
    healed: int = 0
    orphans: int = 0
    complete: bool = True
    damaged: list[Finding] = field(default_factory=list)
    unreadable: list[Finding] = field(default_factory=list)
    index_errors: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    affected: list[Version] = field(default_factory=list)

    def result(self) -> Verified:
        return Verified(
            checked=self.checked,
            bytes=self.size,
            damaged=tuple(self.damaged),
            unreadable=tuple(self.unreadable),
            healed=self.healed,
            index_errors=tuple(self.index_errors),
            mended=tuple(self.mended),
            affected=tuple(self.affected),
            orphans=self.orphans,
            complete=self.complete,
        )

    def _go_on(self) -> None:
        if self.stop():
            raise _Stopped

    def check_index(self) -> None:
        self._list_index_errors()
        if not self.index_errors:
            return
        try:
            if not self.repository.index.mend():
                return
        except IndexDamaged:
            return  # its pages, of which there is an error already
        before, self.index_errors = self.index_errors, []
        self._list_index_errors()
        self.mended += [error for error in before if error not in self.index_errors]

    def _list_index_errors(self) -> None:
        for error in self.repository.index.check(lambda _: self._go_on()):
            self.index_errors.append(error)
            self._go_on()

    def check_chunks(self, fraction: float, chance: random.Random) -> None:
        threads = min(THREADS, os.cpu_count() or 1)
        under_way: deque[tuple[StoredChunk, Future[Examined]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="tusd-verify")
        try:
            for chunk, state in self._rows():
                if state is State.CONDEMNED or (state is State.LIVE and chance.random() >= fraction):
                    continue
                if not self.rate.wait(chunk.stored_size, self.stop):
                    raise _Stopped
                under_way.append((chunk, pool.submit(examine, self.repository, chunk, state)))
                if len(under_way) > 2 * threads:
                    self._note(*under_way.popleft())
            while under_way:
                self._note(*under_way.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _rows(self) -> Iterator[tuple[StoredChunk, State]]:
        """All chunks that the index knows, in the order of their names."""
        after = b""
        while rows := self.repository.index.all_chunks(after):
            for row in rows:
                self._go_on()
                yield row
            after = rows[-1][0].name

    def _note(self, chunk: StoredChunk, examined: Future[Examined]) -> None:
        outcome, what = self._wait_for(examined)
        if outcome is Outcome.GONE:
            return
        self.checked += 1
        self.size += chunk.stored_size
        if outcome is Outcome.HEALED:
            self.healed += 1
        elif outcome is Outcome.DAMAGED:
            self.damaged.append(Finding(chunk.name, what))
        elif outcome is Outcome.UNREADABLE:
            self.unreadable.append(Finding(chunk.name, what))
        self.progress(chunk.stored_size)

    def _wait_for(self, examined: Future[Examined]) -> Examined:
        while True:
            try:
                return examined.result(STEP)
            except NotYet:
                self._go_on()

    def find_affected(self) -> None:
        """Which versions have chunks that were found bad, or can't be listed. Looks through all contents, if need be."""
        bad = {name for name, _ in (*self.damaged, *self.unreadable)}
        if not bad and not self.index_errors:
            return
        seen: dict[bytes, bool] = {}  # contents by name: many versions may have the same
        for version in self.repository.index.versions():
            self._go_on()
            if isinstance(version, IndexDamaged):  # `check_index` has told of it
                continue
            content = version.manifest
            if content.name not in seen:
                seen[content.name] = self._has_any(content, bad)
            if seen[content.name]:
                self.affected.append(version)

    def _has_any(self, content: Manifest, bad: set[bytes]) -> bool:
        try:
            for piece in self.repository.index.pieces(content):
                self._go_on()
                if piece.chunk.name in bad:
                    return True
        except IndexDamaged:  # `check_index` has told of it
            return True
        except RepositoryError:  # it was dropped meanwhile
            return False
        return False

    def look_at_files(self) -> None:
        """Files that belong to no row, or have another form than it says. A directory at a time, which bounds memory."""
        rows = self._rows()
        row = next(rows, None)
        for first, found in groupby(self.repository.chunks.walk(), key=lambda file: file.name[0]):
            files = {(file.name, file.codec): file for file in found}
            known = set()
            while row is not None and row[0].name[0] <= first:
                files.pop((row[0].name, row[0].codec), None)
                known.add(row[0].name)
                row = next(rows, None)
            for file in files.values():
                self._go_on()
                if self.index_errors and file.name not in known and self._has_row(file.name):
                    self._make_good(file)
                else:
                    self.orphans += 1

    def _has_row(self, name: bytes) -> bool:
        """Whether there is one at all, sound or not."""
        forms = [(name, codec) for codec in Codec]
        return len(self.repository.index.without_row(forms, None)) < len(forms)

    def _make_good(self, file: Found) -> None:
        """Let the row, which is damaged, say again what the file is."""
        if not self.rate.wait(file.size, self.stop):
            raise _Stopped
        try:
            if self.repository.heal(file.name):
                self.healed += 1
            else:
                self.orphans += 1
        except StorageFailure as error:
            self.unreadable.append(Finding(file.name, str(error)))
