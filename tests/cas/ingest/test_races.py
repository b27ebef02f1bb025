"""Ingest that is killed, that meets itself, that runs out of space, and that a collector works against."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.windows import WINDOW
from tusd_py_cas.keeping.collecting import collect
from tusd_py_cas.model import Parameters
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import MEDIUM, check_sound, make_version, read_back, segments_of
from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.ports.failures import OutOfSpace

KILLS, KILLS_SLOW = 100, 1000
SECONDS, SECONDS_SLOW = 6, 240


@pytest.fixture
def parameters() -> Parameters:
    return MEDIUM


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Contents that share chunks with one another, and chunks with themselves; some are too large for one window."""
    folder = tmp_path / "contents"
    folder.mkdir()
    chance = random.Random(1)
    parts = [chance.randbytes(700_000) for _ in range(4)] + [b"some text, again and again\n" * 30_000]
    for number in range(8):
        (folder / f"small {number}").write_bytes(b"".join(chance.choices(parts, k=2)) + bytes([number]))
    (folder / "tiny").write_bytes(b"tiny")
    (folder / "empty").write_bytes(b"")
    (folder / "large").write_bytes(b"".join(chance.choices(parts, k=1 + WINDOW // 700_000)))
    return folder


@contextmanager
def running(module: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that prints something now and then; killed at the end, unless it has been before."""
    command = [sys.executable, "-m", f"tests.cas.ingest.{module}", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it has failed"
    return line


def take_all(repository: Repository, folder: Path, prefix: str) -> None:
    """All files become versions, and read back."""
    engine = Engine(repository, threads=2)
    try:
        for file in folder.iterdir():
            version = make_version(repository, engine, file, f"{prefix} {file.name}")
            assert read_back(repository, version.manifest) == file.read_bytes()
    finally:
        engine.close()


def clean_up(repository: Repository) -> None:
    """Without a version, nothing is left, not even of what was being written."""
    for version in list(repository.index.versions()):
        repository.index.drop_version(version.upload_id)
    collect(repository, grace=0, now=time.time() + 24 * 3600)
    assert repository.index.totals().chunks == 0
    assert list(repository.chunks.walk()) == []
    assert os.listdir(f"{repository.path}/tmp") == []


def kill_again_and_again(repository: Repository, folder: Path, kills: int) -> None:
    chance = random.Random(2)
    for number in range(kills):
        with running("ingester", repository.path, folder, 0, number) as process:
            for _ in range(1 + chance.randrange(4)):
                read_line(process)
            time.sleep(chance.random() * 0.05)  # any moment will do
        if number % 20 == 19:
            check_sound(repository)
            collect(repository, grace=0, now=time.time())
    temporaries = os.listdir(f"{repository.path}/tmp")
    assert len(temporaries) <= 8 * kills, "what a killed process was writing, and no more"
    take_all(repository, folder, "afterwards")
    check_sound(repository)
    clean_up(repository)


@pytest.mark.timeout(300)
def test_killed_at_any_moment(repository: Repository, folder: Path) -> None:
    kill_again_and_again(repository, folder, KILLS)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_any_moment_for_long(repository: Repository, folder: Path) -> None:
    kill_again_and_again(repository, folder, KILLS_SLOW)


def test_two_processes_take_the_same_contents_at_once(repository: Repository, folder: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(running("ingester", repository.path, folder, 0, number)) for number in range(2)]
        for _ in range(30):
            for process in processes:
                read_line(process)
    check_sound(repository)
    take_all(repository, folder, "afterwards")
    check_sound(repository)


def collect_meanwhile(repository: Repository, folder: Path, seconds: float) -> None:
    """One process takes in and drops, another collects without any grace, and this one looks."""
    collected = 0
    with running("ingester", repository.path, folder, 0, 1) as ingester, running("collector", repository.path) as collector:
        end = time.monotonic() + seconds
        while time.monotonic() < end or not collected:
            read_line(ingester)
            collected += int(read_line(collector))
            read_versions(repository, folder)
            assert list(repository.index.check()) == []
        assert ingester.poll() is collector.poll() is None
    take_all(repository, folder, "afterwards")
    check_sound(repository)
    clean_up(repository)


def read_versions(repository: Repository, folder: Path) -> None:
    """Those that are there, and stay there while they are read."""
    for version in list(repository.index.versions()):
        with suppress(Exception):
            found = read_back(repository, version.manifest)
            assert found == (folder / version.object).read_bytes()
            continue
        still_there = repository.index.find_version(version.upload_id)
        assert still_there is None or still_there.created_at != version.created_at, "a version that can't be read"


@pytest.mark.timeout(300)
def test_collected_meanwhile(repository: Repository, folder: Path) -> None:
    collect_meanwhile(repository, folder, SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_collected_meanwhile_for_long(repository: Repository, folder: Path) -> None:
    collect_meanwhile(repository, folder, SECONDS_SLOW)


@pytest.mark.parametrize("room", ["4m", "9m", "14m", "20m"])
def test_no_space(tmp_path: Path, room: str) -> None:
    requires_mounts()
    file = tmp_path / "content"
    file.write_bytes(random.Random(3).randbytes(24_000_000))
    with mounted_tmpfs(tmp_path / "small", f"size={room}") as mount:
        repository = Repository.open(str(mount / "cas"), create=MEDIUM)
        engine = Engine(repository, threads=2)
        try:
            for _ in range(3):
                with pytest.raises(OutOfSpace):
                    engine.ingest(segments_of(file))
                assert list(repository.index.check()) == []
                assert os.listdir(f"{repository.path}/tmp") == []
            remount(mount, "size=60m")
            before = repository.index.totals().chunks
            taken = engine.ingest(segments_of(file))
            assert taken.chunks_new == taken.chunks - before, "what was stored until then is not stored again"
            assert read_back(repository, taken.manifest) == file.read_bytes()
        finally:
            engine.close()
            repository.close()
