"""Opening repositories: those that are whole, those whose making a crash has cut short, and no others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.reading import read_chunk
from tusd_py_cas.repository import Repository, new_parameters

from tests.cas.files.contents import noise
from tests.cas.reading.repositories import make, put_chunk
from tests.crash.strace import Strace, requires_strace
from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.ports.failures import OutOfSpace, StorageFailure


def test_a_repository_is_made_and_opened_again(tmp_path: Path) -> None:
    parameters = new_parameters()
    made = Repository.open(str(tmp_path / "state" / "cas"), create=parameters)
    chunk = put_chunk(made, noise(1000))
    made.close()
    made.close()
    again = Repository.open(str(tmp_path / "state" / "cas"))
    assert (again.id, again.parameters, again.path) == (made.id, parameters, made.path)
    assert read_chunk(again, chunk) == noise(1000)
    again.close()
    other = Repository.open(str(tmp_path / "state" / "cas"), create=new_parameters())
    assert (other.id, other.parameters) == (made.id, parameters)
    other.close()


def test_nothing_is_for_other_users(tmp_path: Path) -> None:
    repository = make(tmp_path / "cas")
    put_chunk(repository, noise(1000))
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cas", *(tmp_path / "cas").rglob("*")) if path.is_dir()}
    assert modes == {0o700}
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "cas").rglob("*") if path.is_file()}
    assert modes == {0o600}
    repository.close()


def test_where_there_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing" / "here"):
        with pytest.raises(RepositoryError, match="there is no repository in"):
            Repository.open(str(path))
    assert list(tmp_path.iterdir()) == []


def test_the_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    repository = Repository.open("cas", create=new_parameters())
    assert repository.path == str(tmp_path / "cas")
    repository.close()


def without_description(path: Path) -> None:
    (path / "repository.json").unlink()


def with_the_index_only(path: Path) -> None:
    (path / "repository.json").unlink()
    shutil.rmtree(path / "chunks")


def without_index(path: Path) -> None:
    (path / "index.db").unlink()


def with_an_empty_index(path: Path) -> None:
    os.truncate(path / "index.db", 0)


def with_another_description(path: Path) -> None:
    make(path / "other").close()
    (path / "other" / "repository.json").rename(path / "repository.json")


def with_a_broken_description(path: Path) -> None:
    os.truncate(path / "repository.json", 100)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    ("damage", "objection"),
    [
        (without_description, "repository.json' is missing, but"),
        (with_the_index_only, "repository.json' is missing, but"),
        (without_index, "index.db' is missing, but there are chunks: restore it from a backup"),
        (with_an_empty_index, "index.db' is empty: restore it from a backup"),
        (with_another_description, "belongs to repository"),
        (with_a_broken_description, "no JSON"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, damage: Callable[[Path], None], objection: str, create: bool) -> None:
    repository = make(tmp_path)
    put_chunk(repository, noise(1000))
    repository.close()
    damage(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RepositoryError, match=objection):
        Repository.open(str(tmp_path), create=new_parameters() if create else None)
    assert sorted(path for path in tmp_path.rglob("*") if "index.db-" not in path.name) == [
        path for path in before if "index.db-" not in path.name
    ]


@pytest.mark.parametrize("left", [[], ["tmp"], ["tmp", "chunks"], ["tmp", "chunks", "chunks/00", "quarantine"]], ids=str)
def test_a_creation_that_was_cut_short_goes_on(tmp_path: Path, left: list[str]) -> None:
    made = make(tmp_path)
    made.close()
    for entry in tmp_path.iterdir():
        if entry.name != "repository.json":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in left:
        (tmp_path / name).mkdir()
    again = Repository.open(str(tmp_path))
    assert again.id == made.id
    assert read_chunk(again, put_chunk(again, noise(1000))) == noise(1000)
    again.close()


def test_threads_that_make_it_at_once(tmp_path: Path) -> None:
    for number in range(5):
        together = threading.Barrier(4)

        def make_one(_: int, path: Path = tmp_path / str(number), together: threading.Barrier = together) -> Repository:
            parameters = new_parameters()
            together.wait()
            return Repository.open(str(path), create=parameters)

        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(make_one, range(4)))
        assert len({(each.id, each.parameters) for each in made}) == 1
        for each in made:
            each.close()


MAKER = """
import sys
from tusd_py_cas.repository import Repository, new_parameters
parameters = new_parameters()
print("ready", flush=True)
sys.stdin.readline()
repository = Repository.open(sys.argv[1], create=parameters)
print(repository.id, repository.parameters.seed, flush=True)
repository.close()
"""


class Maker:
    """A process that is about to make a repository."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAKER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def made(self) -> str:
        """Id and seed, or nothing if it was killed."""
        return self.process.communicate(timeout=30)[0]


def test_processes_that_make_it_at_once(tmp_path: Path) -> None:
    makers = [Maker(tmp_path / "cas") for _ in range(4)]
    for maker in makers:
        maker.go()
    made = {maker.made() for maker in makers}
    repository = Repository.open(str(tmp_path / "cas"))
    assert made == {f"{repository.id} {repository.parameters.seed}\n"}
    repository.close()


CALLS = {"mkdir": 6, "openat": 14, "write": 2, "fsync": 8, "link": 1, "unlink": 1, "pwrite64": 12, "fdatasync": 4}


@pytest.mark.parametrize(("call", "nth"), [(call, nth) for call, most in CALLS.items() for nth in range(1, most + 1)])
def test_a_creation_killed_at_any_call_goes_on(tmp_path: Path, call: str, nth: int) -> None:
    requires_strace()
    maker = Maker(tmp_path / "cas")
    with Strace(maker.process.pid, tuple(CALLS), f"{call}:signal=SIGKILL:when={nth}") as strace:
        maker.go()
        told = maker.made()
        strace.outlast()
    assert maker.process.returncode in (0, -signal.SIGKILL)  # it may make fewer calls of that name
    repository = Repository.open(str(tmp_path / "cas"), create=new_parameters())
    assert told in ("", f"{repository.id} {repository.parameters.seed}\n")
    assert read_chunk(repository, put_chunk(repository, noise(1000))) == noise(1000)
    assert list(repository.index.check()) == []
    repository.close()


@pytest.mark.root
def test_a_full_disk_at_any_step_of_making_it(tmp_path: Path) -> None:
    requires_mounts()
    failed = 0
    for kib in range(4, 400, 12):
        with mounted_tmpfs(tmp_path / "disk", f"size={kib}k") as disk:
            try:
                repository = Repository.open(str(disk / "cas"), create=new_parameters())
            except OutOfSpace:
                failed += 1
                remount(disk, "size=4m")
                repository = Repository.open(str(disk / "cas"), create=new_parameters())
            assert list(repository.index.check()) == []
            repository.close()
    assert failed > 3


@pytest.mark.root
def test_no_file_to_spare_at_any_step_of_making_it(tmp_path: Path) -> None:
    requires_mounts()
    failed = 0
    for inodes in range(2, 14):
        with mounted_tmpfs(tmp_path / "disk", f"size=4m,nr_inodes={inodes}") as disk:
            try:
                Repository.open(str(disk / "cas"), create=new_parameters()).close()
            except StorageFailure:  # SQLite does not say why it can't make a file
                failed += 1
                remount(disk, "nr_inodes=100")
            repository = Repository.open(str(disk / "cas"), create=new_parameters())
            assert list(repository.index.check()) == []
            repository.close()
    assert failed > 3
