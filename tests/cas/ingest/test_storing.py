"""Chunks that several threads come with, and chunks that a collector takes before they count."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from threading import Event, Semaphore

import pytest
from blake3 import blake3
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.ingest.committing import Committer
from tusd_py_cas.ingest.cutting import Cut
from tusd_py_cas.ingest.storing import ATTEMPTS, Storing
from tusd_py_cas.model import Codec, StoredChunk
from tusd_py_cas.repository import Repository

from tests.cas.files.contents import text
from tusd_py.ports.failures import StorageFailure

DATA = memoryview(random.Random(1).randbytes(3000))
CUTS = [Cut(0, 1000), Cut(1000, 1000), Cut(2000, 1000)]


class Files(ChunkFiles):
    """Writes when it may, tells when it does, and loses what it has written as often as it is told to."""

    def __init__(self, path: str) -> None:
        super().__init__(path, durable=False)
        self.writing, self.may_write = Event(), Event()
        self.may_write.set()
        self.written: list[bytes] = []
        self.losses = 0
        self.failure: StorageFailure | None = None

    def write(self, name: bytes, codec: Codec, stored: bytes | memoryview) -> None:
        self.writing.set()
        assert self.may_write.wait(20)
        if self.failure is not None:
            raise self.failure
        super().write(name, codec, stored)
        self.written.append(name)

    def sync_directories(self, names: Iterable[bytes]) -> None:
        if self.losses:
            self.losses -= 1
            self.lose(next(iter(names)))

    def lose(self, name: bytes) -> None:
        for codec in Codec:
            self.remove(StoredChunk(name, 0, 0, codec))


@pytest.fixture
def files(repository: Repository) -> Files:
    repository.chunks = Files(repository.path)
    return repository.chunks


@pytest.fixture
def storing(repository: Repository, files: Files) -> Storing:
    return Storing(repository, Committer(repository), 3, Semaphore(2), 2)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_two_threads_with_the_same_chunks(storing: Storing, files: Files, pool: ThreadPoolExecutor) -> None:
    files.may_write.clear()
    first = pool.submit(storing.store, DATA, CUTS)
    assert files.writing.wait(20)
    second = pool.submit(storing.store, DATA[:2000], CUTS[:2])
    with pytest.raises(NotYet):
        second.result(0.2)
    files.may_write.set()
    assert (first.result(20).new, second.result(20).new) == (3, 0)
    assert len(files.written) == 3


def test_who_waits_fails_with_the_one_who_stores(storing: Storing, files: Files, pool: ThreadPoolExecutor) -> None:
    files.may_write.clear()
    first = pool.submit(storing.store, DATA, CUTS)
    assert files.writing.wait(20)
    second = pool.submit(storing.store, DATA[:1000], CUTS[:1])
    with pytest.raises(NotYet):
        second.result(0.2)
    files.failure = StorageFailure("the disk is gone")
    files.may_write.set()
    for each in (first, second):
        with pytest.raises(StorageFailure, match="the disk is gone"):
            each.result(20)
    files.failure = None
    assert storing.store(DATA, CUTS).new == 3


def test_the_same_chunk_twice_in_a_window(storing: Storing, files: Files) -> None:
    window = memoryview(bytes(DATA[:1000]) * 3)
    stored = storing.store(window, CUTS)
    assert (len(stored.chunks), stored.new, stored.bytes_new) == (3, 1, 1000)
    assert len(files.written) == 1


@pytest.mark.parametrize("losses", [1, 2])
def test_what_is_collected_before_it_counts_is_written_again(
    losses: int, storing: Storing, files: Files, repository: Repository
) -> None:
    files.losses = losses
    stored = storing.store(DATA, CUTS)
    assert len(files.written) == 3 + losses
    assert stored.new == 3
    found = repository.index.find_chunks([chunk.name for chunk in stored.chunks])
    assert [bytes(repository.chunks.read(found[chunk.name])) for chunk in stored.chunks] == [
        DATA[cut.start : cut.end] for cut in CUTS
    ]


def test_what_the_disk_has_lost_is_written_again(storing: Storing, files: Files, repository: Repository) -> None:
    names = [chunk.name for chunk in storing.store(DATA, CUTS).chunks]
    files.lose(names[1])
    again = storing.store(DATA, CUTS)
    assert (again.new, again.bytes_new) == (1, 1000)
    assert files.written[3:] == [names[1]]
    assert set(repository.index.find_chunks(names)) == set(names)
    assert storing.store(DATA, CUTS).new == 0


def test_a_collector_that_is_always_faster(storing: Storing, files: Files) -> None:
    files.losses = ATTEMPTS
    with pytest.raises(StorageFailure, match="give collection more grace"):
        storing.store(DATA, CUTS)
    assert storing.store(DATA, CUTS).new == 1


def test_somebody_else_compresses_in_another_way(repository: Repository, files: Files, pool: ThreadPoolExecutor) -> None:
    """As a server and `import` may, at the same moment: what is in the directory is what the index says."""
    window = memoryview(text(100_000))
    cut = [Cut(0, len(window))]
    first, second = (Storing(repository, Committer(repository), level, Semaphore(1), 1) for level in (3, 19))
    files.may_write.clear()
    late = pool.submit(second.store, window, cut)
    assert files.writing.wait(20)
    other = Repository.open(repository.path, durable=False)
    Storing(other, Committer(other), 3, Semaphore(1), 1).store(window, cut)
    before = repository.index.find_chunks([name := blake3(window).digest()])[name]
    files.may_write.set()
    assert late.result(20).new == 1
    now = repository.index.find_chunks([name])[name]
    assert now.stored_size < before.stored_size
    assert repository.chunks.read(now) == bytes(window)
    assert first.store(window, cut).new == 0
    other.close()
