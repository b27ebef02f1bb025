"""Processes that end, and system calls that fail, while they store chunks: a file under a final name is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.model import StoredChunk

from tests.cas.files import writer
from tests.crash.strace import Strace, requires_strace

COUNT = 12
CHUNKS = [writer.encoded(number)[0] for number in range(400)]

SETTLED = {"openat": 6, "write": 4, "fsync": 6, "mkdir": 3, "rename": 4}
"""Calls of storing a batch, and at which occurrence they are tried: all of a batch's, but no more."""


class Writer:
    """A process as `tests.cas.files.writer`, ready."""

    def __init__(self, root: Path, count: int, *options: str) -> None:
        (root / "tmp").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cas.files.writer", str(root), str(count), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.line() == ["ready"]

    def line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def lines(self) -> Iterator[list[str]]:
        """Until it is done or dead."""
        while line := self.line():
            yield line


@contextmanager
def writing(root: Path, count: int = COUNT, *options: str) -> Iterator[Writer]:
    process = Writer(root, count, *options)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


@dataclass(frozen=True)
class Left:
    """What there is after a writer's end."""

    stored: set[int]
    temporary: int


def look(root: Path, chunks: list[StoredChunk] = CHUNKS) -> Left:
    """Every file under a final name has to be a whole chunk."""
    files = ChunkFiles(str(root))
    by_name = {chunk.name: number for number, chunk in enumerate(chunks)}
    stored = set()
    for found in files.walk():
        number = by_name[found.name]
        assert found.codec is chunks[number].codec
        assert files.read(chunks[number]) == writer.content(number)
        stored.add(number)
    assert len(list((root / "chunks").rglob("*.*"))) == sum(number % 2 for number in stored), "no other names"
    return Left(stored, len(os.listdir(root / "tmp")))


@pytest.mark.parametrize("options", [(), ("not",)], ids=["durable", "not durable"])
def test_a_writer_killed_at_random_leaves_no_wrong_chunk(tmp_path: Path, options: tuple[str, ...]) -> None:
    chance = random.Random(len(options))
    for _ in range(6):
        told = set()
        with writing(tmp_path, len(CHUNKS), *options) as process:
            process.go()
            wanted = chance.randrange(len(CHUNKS) // 2)
            for line in process.lines():
                told.add(int(line[1]))
                if len(told) > wanted:
                    process.process.kill()
            told.discard(-1)
        left = look(tmp_path)
        assert told <= left.stored
        assert left.temporary <= 1
        files = ChunkFiles(str(tmp_path))
        assert files.tidy(2**40) == left.temporary
        for chunk in CHUNKS:
            files.remove(chunk)


@pytest.mark.parametrize(("call", "nth"), [(call, nth) for call, most in SETTLED.items() for nth in range(1, most + 1)])
def test_a_writer_killed_at_any_call_leaves_no_wrong_chunk(tmp_path: Path, call: str, nth: int) -> None:
    requires_strace()
    with writing(tmp_path) as process:
        with Strace(process.process.pid, tuple(SETTLED), f"{call}:signal=SIGKILL:when={nth}") as strace:
            process.go()
            told = {int(line[1]) for line in process.lines() if line[0] == "stored"}
            strace.outlast()
        assert process.process.wait(10) == -signal.SIGKILL
    left = look(tmp_path)
    assert told <= left.stored
    assert left.temporary <= 1
    with writing(tmp_path) as process:  # and then as if nothing had been
        process.go()
        assert [line[0] for line in process.lines()] == ["stored"] * COUNT + ["done"]
    assert look(tmp_path).stored == set(range(COUNT))


FAILURES = [
    *((call, "ENOSPC", "OutOfSpace") for call in ("openat", "write", "mkdir", "rename", "fsync")),
    *((call, "EDQUOT", "OutOfSpace") for call in ("openat", "write", "mkdir", "rename", "fsync")),
    *((call, "EIO", "StorageFailure") for call in ("openat", "write", "mkdir", "rename", "fsync")),
    *((call, "EROFS", "ReadOnlyStorage") for call in ("openat", "mkdir", "rename")),
    *((call, "EACCES", "ReadOnlyStorage") for call in ("openat", "mkdir", "rename")),
    ("write", "EFBIG", "OutOfSpace"),
]


@pytest.mark.parametrize(("call", "error", "failure"), FAILURES)
def test_a_failing_call_fails_the_chunk_and_leaves_nothing(tmp_path: Path, call: str, error: str, failure: str) -> None:
    requires_strace()
    with writing(tmp_path) as process, Strace(process.process.pid, tuple(SETTLED), f"{call}:error={error}:when=2"):
        process.go()
        lines = list(process.lines())
    assert lines[0] == ["failed", failure]
    assert [line[0] for line in lines[1:]] == ["stored"] * (COUNT - writer.BATCH) + ["done"]
    left = look(tmp_path)
    assert set(range(writer.BATCH, COUNT)) <= left.stored
    assert left.temporary == 0


SYNCED = 2 * writer.BATCH + 1
"""A batch's files, their directories, and the directory of those."""


def test_chunks_of_the_first_batch_are_in_directories_of_their_own() -> None:
    assert len({chunk.name[0] for chunk in CHUNKS[: writer.BATCH]}) == writer.BATCH


@pytest.mark.parametrize("nth", range(1, SYNCED + 1))
def test_what_could_not_be_synced_is_no_success(tmp_path: Path, nth: int) -> None:
    requires_strace()
    with writing(tmp_path) as process, Strace(process.process.pid, ("fsync",), f"fsync:error=EIO:when={nth}"):
        process.go()
        assert process.line() == ["failed", "StorageFailure"]


def test_a_kernel_that_takes_nothing_is_an_error_and_no_loop(tmp_path: Path) -> None:
    requires_strace()
    with (
        writing(tmp_path, writer.BATCH) as process,
        Strace(process.process.pid, ("write",), "write:retval=0:when=1"),
    ):
        process.go()
        assert list(process.lines()) == [["failed", "StorageFailure"], ["done"]]
    assert look(tmp_path).temporary == 0


def test_interrupted_calls_are_made_again(tmp_path: Path) -> None:
    requires_strace()
    with writing(tmp_path) as process, Strace(process.process.pid, ("write", "fsync"), "write,fsync:error=EINTR:when=1..9+2"):
        process.go()
        assert [line[0] for line in process.lines()] == ["stored"] * COUNT + ["done"]
    assert look(tmp_path).stored == set(range(COUNT))


READER = """
import os, sys, time
from tests.cas.files import writer
from tusd_py_cas.chunk_files import ChunkFiles
files, chunk = ChunkFiles(sys.argv[1]), writer.encoded(0)[0]
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
try:
    files.read(chunk)
except Exception as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("call", ["openat", "read"])
def test_a_disk_that_can_not_be_read_is_not_a_damaged_chunk(tmp_path: Path, call: str) -> None:
    """It may work again, so nothing follows from it but that it failed."""
    requires_strace()
    with writing(tmp_path, 1) as process:
        process.go()
        assert list(process.lines()) == [["stored", "0"], ["done"]]
    go = tmp_path / "go"
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path), str(go)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        with Strace(reader.pid, (call,), f"{call}:error=EIO:when=1"):
            go.touch()
            assert reader.stdout.readline() == "StorageFailure\n"
    assert look(tmp_path).stored == {0}
