"""The collector takes what nothing refers to, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from tusd_py_cas.codec import Compressor
from tusd_py_cas.keeping.collecting import AlreadyCollecting, Collected, collect
from tusd_py_cas.model import ChunkRef, ChunksMissing, Codec, Manifest, RepositoryError, State, StoredChunk
from tusd_py_cas.repository import Repository, new_parameters

from tests.cas.files.contents import describe, file_of, noise, text
from tests.cas.reading.repositories import publish, put, put_chunk
from tusd_py.ports.failures import StorageFailure

HOUR = 3600.0


def later(seconds: float = 0.0) -> float:
    """A time that is after everything that has been done."""
    return time.time() + 1 + seconds


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    repository = Repository.open(str(tmp_path), create=new_parameters(), durable=False)
    yield repository
    repository.close()


def parts(count: int, seed: int = 0) -> list[bytes]:
    return [(text if n % 2 else noise)(3000 + n, 1000 * seed + n) for n in range(count)]


def files(root: Path) -> set[str]:
    return {path.name for path in (root / "chunks").rglob("*") if path.is_file()}


def write_orphan(repository: Repository, data: bytes, age: float = 0.0, codec: Codec | None = None) -> StoredChunk:
    """A file of a chunk that is not in the index, as a crash leaves it."""
    chosen, stored = Compressor().encode(data)
    if codec is Codec.RAW:
        chosen, stored = Codec.RAW, data
    chunk = describe(data, chosen, stored)
    repository.chunks.write(chunk.name, chosen, stored)
    at = time.time() - age
    os.utime(file_of(Path(repository.path), chunk), (at, at))
    return chunk


def edit(root: Path, statement: str) -> None:
    connection = sqlite3.connect(root / "index.db", isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_an_empty_repository(repository: Repository) -> None:
    assert collect(repository, grace=0, now=later()) == Collected()


def test_what_a_version_has_stays(repository: Repository, tmp_path: Path) -> None:
    publish(repository, "a", put(repository, parts(10)))
    before = files(tmp_path)
    assert collect(repository, grace=0, now=later(100 * HOUR)) == Collected()
    assert files(tmp_path) == before
    assert len(before) == 10


def test_what_nothing_has_goes_with_its_files(repository: Repository, tmp_path: Path) -> None:
    publish(repository, "a", put(repository, parts(6)))
    publish(repository, "b", put(repository, parts(4) + parts(4, seed=1)))
    stored = {chunk.name: chunk.stored_size for chunk, _ in repository.index.all_chunks()}
    before = files(tmp_path)
    repository.index.drop_version("b")
    shared = {chunk.name for chunk in (put_chunk(repository, part) for part in parts(6))}
    expected = Collected(1, 3, 4, sum(size for name, size in stored.items() if name not in shared))
    assert collect(repository, grace=HOUR, now=later(), dry_run=True) == Collected()
    assert collect(repository, grace=HOUR, now=later(HOUR), dry_run=True) == expected
    assert files(tmp_path) == before
    assert collect(repository, grace=HOUR, now=later()) == Collected(), "the grace period begins when it was let go of"
    assert collect(repository, grace=HOUR, now=later(HOUR)) == expected
    assert {bytes.fromhex(name.split(".")[0]) for name in files(tmp_path)} == shared
    assert collect(repository, grace=HOUR, now=later(HOUR)) == Collected()
    assert list(repository.index.check()) == []


def test_more_than_is_removed_at_once(repository: Repository, tmp_path: Path) -> None:
    put(repository, [noise(10, n) for n in range(450)], leaf=100)
    for n in range(450):
        write_orphan(repository, noise(11, n), age=HOUR)
    told: dict[str, int] = {}

    def tell(step: str, more: int) -> None:
        told[step] = told.get(step, 0) + more

    assert collect(repository, grace=0, now=later(), progress=tell) == Collected(1, 5, 450, 450 * 21, 450)
    assert files(tmp_path) == set()
    assert told == {"checking the index": 6, "sweeping": 6, "condemning": 450, "removing chunks": 450, "looking at files": 450}


def test_orphans_go_once_they_are_old(repository: Repository, tmp_path: Path) -> None:
    young, old = write_orphan(repository, noise(100, 1), age=HOUR / 2), write_orphan(repository, text(100, 2), age=HOUR * 2)
    known = put_chunk(repository, noise(100, 3))
    collected = Collected(orphans=1, freed_bytes=old.stored_size)
    assert collect(repository, grace=HOUR, now=time.time(), dry_run=True) == collected
    assert len(files(tmp_path)) == 3
    assert collect(repository, grace=HOUR, now=time.time()) == collected
    assert not repository.chunks.exists(old)
    assert repository.chunks.exists(young)
    assert repository.chunks.exists(known)


def test_the_other_form_of_a_chunk_is_an_orphan(repository: Repository) -> None:
    """As where it was condemned, and stored again with another level before it was removed."""
    data = text(5000)
    old = put_chunk(repository, data, Codec.RAW)
    repository.index.condemn(later())
    now = put_chunk(repository, data)
    assert now.codec is Codec.ZSTD
    made = put(repository, [data])
    publish(repository, "a", made)
    assert collect(repository, grace=0, now=later()) == Collected(orphans=1, freed_bytes=old.stored_size)
    assert repository.chunks.exists(now)
    assert not repository.chunks.exists(old)


def test_files_of_damaged_chunks_are_no_orphans(repository: Repository) -> None:
    chunk = put_chunk(repository, noise(100))
    publish(repository, "a", put(repository, [noise(100)]))
    repository.index.mark_damaged([chunk.name])
    assert collect(repository, grace=0, now=later(), dry_run=True) == collect(repository, grace=0, now=later()) == Collected()
    assert repository.chunks.exists(chunk)


def test_files_that_are_being_written_stay_for_an_hour(repository: Repository, tmp_path: Path) -> None:
    for name, age in (("young", HOUR - 60), ("old", HOUR + 60)):
        path = tmp_path / "tmp" / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    assert collect(repository, grace=0, now=time.time()) == Collected(temporaries=1)
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["young"]


def test_foreign_files_stay(repository: Repository, tmp_path: Path) -> None:
    chunk = put_chunk(repository, noise(10))
    foreign = [tmp_path / "chunks" / "readme", file_of(tmp_path, chunk).with_suffix(".bak"), tmp_path / "chunks" / "zz" / "x"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    collect(repository, grace=0, now=later())
    assert all(path.exists() for path in foreign)


@pytest.mark.parametrize("what", ["content", "orphan"])
def test_nothing_is_removed_while_the_index_is_damaged(repository: Repository, tmp_path: Path, what: str) -> None:
    publish(repository, "a", put(repository, parts(5)))
    if what == "content":
        put(repository, parts(5, seed=1))
    else:
        write_orphan(repository, noise(100, 77), age=HOUR)
    edit(tmp_path, "UPDATE leaves SET seal = zeroblob(16) WHERE id = 1")
    before, rows = files(tmp_path), list(repository.index.all_chunks())
    for _ in range(2):
        with pytest.raises(RepositoryError, match=r"nothing is removed, because the index is damaged: leaf 1 does not fit"):
            collect(repository, grace=0, now=later())
    assert (files(tmp_path), list(repository.index.all_chunks())) == (before, rows)


def test_a_damaged_index_is_no_matter_while_there_is_nothing_to_remove(repository: Repository, tmp_path: Path) -> None:
    publish(repository, "a", put(repository, parts(5)))
    edit(tmp_path, "UPDATE leaves SET seal = zeroblob(16) WHERE id = 1")
    assert collect(repository, grace=0, now=later()) == Collected()


def test_one_collector_at_a_time(repository: Repository, tmp_path: Path) -> None:
    write_orphan(repository, noise(100), age=HOUR)
    with (tmp_path / "collecting.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # which a collector does not share
        with pytest.raises(AlreadyCollecting, match="is collecting already"):
            collect(repository, grace=0, now=later())
        assert collect(repository, grace=0, now=later(), dry_run=True).orphans == 1, "looking is free"
    assert collect(repository, grace=0, now=later()).orphans == 1


def test_the_lock_is_for_the_owner_alone(repository: Repository, tmp_path: Path) -> None:
    collect(repository, grace=0, now=later())
    assert (tmp_path / "collecting.lock").stat().st_mode & 0o777 == 0o600


def test_a_file_that_can_not_be_removed_stays_condemned(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(repository, parts(5))
    remove, calls = repository.chunks.remove, []

    def fail_at_the_third(chunk: StoredChunk) -> None:
        calls.append(chunk)
        if len(calls) == 3:
            raise StorageFailure("disk gone")
        remove(chunk)

    monkeypatch.setattr(repository.chunks, "remove", fail_at_the_third)
    with pytest.raises(StorageFailure, match="disk gone"):
        collect(repository, grace=0, now=later())
    assert {state for _, state in repository.index.all_chunks()} == {State.CONDEMNED}
    assert len(files(tmp_path)) == 3
    assert collect(repository, grace=0, now=later()).chunks == 5
    assert files(tmp_path) == set()


class Stop(BaseException):
    """The end of the process, as seen from inside."""


def steps(repository: Repository, monkeypatch: pytest.MonkeyPatch, at: Callable[[str], None]) -> None:
    """Call `at` before and after each step of the collector that changes something."""
    for owner, name in [
        (repository.index, "sweep"),
        (repository.index, "condemn"),
        (repository.index, "bury"),
        (repository.index, "without_row"),
        (repository.chunks, "remove"),
        (repository.chunks, "tidy"),
    ]:
        original = getattr(owner, name)

        def step(*args: object, original: Callable[..., object] = original, name: str = name) -> object:
            at(f"before {name}")
            result = original(*args)
            at(f"after {name}")
            return result

        monkeypatch.setattr(owner, name, step)


def fill(repository: Repository) -> None:
    publish(repository, "kept", put(repository, parts(4) + parts(3, seed=1)))
    put(repository, parts(4) + parts(3, seed=2))
    write_orphan(repository, noise(100, 5), age=HOUR)


def test_stopped_at_any_step_and_started_again(tmp_path: Path) -> None:
    passed = 0
    for stop in range(1000):
        root = tmp_path / str(stop)
        repository = Repository.open(str(root), create=new_parameters(), durable=False)
        fill(repository)
        seen: list[str] = []

        def at(what: str, seen: list[str] = seen, stop: int = stop) -> None:
            seen.append(what)
            if len(seen) == stop + 1:
                raise Stop

        with pytest.MonkeyPatch.context() as monkeypatch:
            steps(repository, monkeypatch, at)
            try:
                collect(repository, grace=0, now=later())
            except Stop:
                passed += 1
        check_whole(repository)
        collect(repository, grace=0, now=later())
        check_whole(repository)
        assert len(files(root)) == 7
        repository.close()
        if len(seen) <= stop:
            break
    assert passed >= 14


def check_whole(repository: Repository) -> None:
    """Nothing dangles: what counts as stored has its file, and what a version has is stored."""
    assert list(repository.index.check()) == []
    for chunk, state in repository.index.all_chunks():
        if state is State.LIVE and not repository.chunks.exists(chunk):
            assert not repository.index.find_chunks([chunk.name]), "unless it was collected since it was listed"
    for version in repository.index.versions():
        data = b"".join(repository.chunks.read(piece.chunk) for piece in repository.index.pieces(version.manifest))
        assert len(data) == version.manifest.size
        assert repository.index.is_whole(version.manifest)


def test_beside_somebody_who_stores_the_same_again_and_again(repository: Repository) -> None:
    """The grace period is nothing at all: everything that is not in use at the moment goes."""
    stop = threading.Event()
    collected: list[Collected] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                collected.append(collect(repository, grace=0, now=later()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for n in range(500):
            if n >= 60 and any(each.chunks for each in collected):
                break
            # five uploads have five of seven contents: one is let go of, another comes back, each time
            store_whatever_it_takes(repository, f"u{n % 5}", parts(6, seed=n % 7))
            check_whole(repository)
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert any(each.chunks for each in collected)


def store_whatever_it_takes(repository: Repository, upload_id: str, content: list[bytes]) -> None:
    repository.index.drop_version(upload_id)
    for _ in range(500):
        try:
            publish(repository, upload_id, put_unasserted(repository, content))
            return
        except ChunksMissing:
            continue
    raise AssertionError("the collector was faster every time")


def put_unasserted(repository: Repository, content: list[bytes]) -> Manifest:
    """As `put`, but writing again what the collector has taken before it was added."""
    for part in content:
        chunk = write_if_unknown(repository, part)
        while chunk is not None and repository.index.add_chunks([chunk], repository.chunks.exists):
            chunk = write_if_unknown(repository, part)
    refs = [ChunkRef(blake3(part).digest(), len(part)) for part in content]
    leaves = [repository.index.add_leaf(refs[at : at + 3]) for at in range(0, len(refs), 3)]
    data = b"".join(content)
    sha256 = hashlib.sha256(data).digest()
    return repository.index.add_manifest(size=len(data), blake3=blake3(data).digest(), sha256=sha256, leaves=leaves)


def write_if_unknown(repository: Repository, data: bytes) -> StoredChunk | None:
    codec, stored = Compressor().encode(data)
    chunk = describe(data, codec, stored)
    if repository.index.find_chunks([chunk.name]):
        return None
    repository.chunks.write(chunk.name, codec, stored)
    return chunk
