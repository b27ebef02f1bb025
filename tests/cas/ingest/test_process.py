"""The process that takes contents in, from its parent's side: real processes throughout."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from tusd_py_cas.ingest import child
from tusd_py_cas.ingest.client import IngestProcess
from tusd_py_cas.ingest.jobs import Segment
from tusd_py_cas.model import ChunkDamaged, RepositoryError
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import TINY, read_back, segments_of
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tests.support.waiting import until
from tusd_py.ports.failures import OutOfSpace, StorageFailure

DATA = random.Random(1).randbytes(3_000_000)

SLOW = 1e-9
"""Processors: with as many, a second window would come after a year."""

Start = Callable[..., IngestProcess]


@pytest_asyncio.fixture
async def start(tmp_path: Path, repository: Repository) -> AsyncIterator[Start]:
    """Make clients of processes for the repository; all are closed when the test ends."""
    clients = []

    def start(path: str = repository.path, **options: Any) -> IngestProcess:
        clients.append(IngestProcess(path, durable=False, **options))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def endless(tmp_path: Path) -> list[Segment]:
    """A content that takes minutes."""
    path = tmp_path / "endless"
    path.touch()
    os.truncate(path, 1 << 40)
    return segments_of(path)


async def until_true(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


def is_there(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_content(start: Start, content: Path, repository: Repository) -> None:
    process = start()
    assert process.pid is None
    taken = await process.take(segments_of(content))
    assert read_back(repository, taken.manifest) == DATA
    assert (taken.bytes_in, taken.bytes_new) == (len(DATA), len(DATA))
    assert taken.manifest == repository.index.find_manifest(taken.manifest.name)
    again = await process.take(segments_of(content))
    assert (again.manifest, again.chunks, again.chunks_new) == (taken.manifest, taken.chunks, 0)
    assert str(process.pid) in repr(process)


async def test_an_open_file_of_the_parent(start: Start, content: Path) -> None:
    with content.open("rb") as file:
        os.unlink(content)
        taken = await start().take([Segment(f"/proc/{os.getpid()}/fd/{file.fileno()}", 5, 1000)])
    assert taken.bytes_in == 1000


async def test_many_at_once(start: Start, tmp_path: Path, repository: Repository) -> None:
    process = start(concurrency=4)
    contents = [random.Random(number % 20).randbytes(20_000 + number % 20) for number in range(60)]
    for number, data in enumerate(contents):
        (tmp_path / str(number)).write_bytes(data)
    taken = await asyncio.gather(*(process.take(segments_of(tmp_path / str(number))) for number in range(60)))
    assert [read_back(repository, each.manifest) for each in taken] == contents
    assert sum(each.bytes_new for each in taken) == sum(map(len, contents[:20])), "nothing is stored twice"


async def test_digests_of_composed_content(start: Start, content: Path, tmp_path: Path, repository: Repository) -> None:
    process = start()
    taken = (await process.take(segments_of(content))).manifest
    composed = repository.index.compose([taken, taken])
    (tmp_path / "twice").write_bytes(DATA * 2)
    whole = (await process.take(segments_of(tmp_path / "twice"))).manifest
    assert await process.digest(composed) == (whole.blake3, whole.sha256)
    found = repository.index.find_manifest(composed.name)
    assert found is not None
    assert (found.blake3, found.sha256) == (whole.blake3, whole.sha256)


async def test_a_damaged_chunk_on_the_way(start: Start, content: Path, repository: Repository) -> None:
    process = start()
    taken = (await process.take(segments_of(content))).manifest
    composed = repository.index.compose([taken, taken])
    piece = next(repository.index.pieces(composed, 1_000_000))
    repository.chunks.remove(piece.chunk)
    with pytest.raises(ChunkDamaged) as caught:
        await process.digest(composed)
    assert caught.value.name == piece.chunk.name


async def test_collecting(start: Start, content: Path, repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    process = start()
    taken = await process.take(segments_of(content))
    with caplog.at_level(logging.INFO, "tusd_py.cas"):
        assert (await process.collect(grace=3600))["chunks"] == 0
        assert (await process.collect(grace=-1))["chunks"] == taken.chunks
    assert repository.index.totals().chunks == 0
    assert "garbage collected" in [record.message for record in caplog.records], "what the process logs is logged here"


async def test_where_somebody_else_collects_there_is_nothing_to_do(start: Start, content: Path, repository: Repository) -> None:
    process = start()
    await process.take(segments_of(content))
    with Path(repository.path, "collecting.lock").open("w") as lock:  # noqa: ASYNC230
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not any((await process.collect(grace=-1)).values())
    assert any((await process.collect(grace=-1)).values())


async def test_failures_are_what_they_were(start: Start, tmp_path: Path) -> None:
    process = start()
    with pytest.raises(StorageFailure, match="to be taken in"):
        await process.take([Segment(str(tmp_path / "nothing"), 0, 5)])
    with pytest.raises(RepositoryError, match="there is no repository"):
        await start(str(tmp_path / "elsewhere")).take([])
    assert (await process.take([])).bytes_in == 0


async def test_no_space(start: Start, tmp_path: Path, content: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=2m") as mount:
        Repository.open(str(mount / "cas"), create=TINY).close()
        process = start(str(mount / "cas"))
        with pytest.raises(OutOfSpace):
            await process.take(segments_of(content))
        await process.close()


@pytest.mark.parametrize("told", ["meanwhile", "before"])
async def test_there_is_no_time_to_wait_for_who_keeps_the_index(
    start: Start, repository: Repository, content: Path, told: str
) -> None:
    process = start()
    await process.take(segments_of(content))
    await asyncio.to_thread(content.write_bytes, DATA[::-1])
    other = sqlite3.connect(f"{repository.path}/index.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    if told == "before":
        await process.close()
        process = start()
        process.hurry()
    taking = asyncio.create_task(process.take(segments_of(content)))
    if told == "meanwhile":
        await process.working.wait()
        process.hurry()
    with pytest.raises(StorageFailure, match="there is no time to wait"):
        await taking
    other.close()
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)


async def test_a_process_that_is_killed(start: Start, content: Path, endless: list[Segment]) -> None:
    process = start()
    await process.take([])
    first = process.pid
    assert first is not None
    job = asyncio.create_task(process.take(endless))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(StorageFailure, match="has ended with status -9"):
        await job
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)
    assert process.pid not in (None, first)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_is_asked_for_when_it_has_ended_and_that_is_not_known_yet(
    new_loop: Callable[[], asyncio.AbstractEventLoop], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, go_on = asyncio.Event(), asyncio.Event()
    reap = child.Child._reap

    async def slow(self: child.Child) -> int | None:
        ended.set()
        await go_on.wait()
        return await reap(self)

    async def main() -> None:
        process = IngestProcess(repository.path, durable=False)
        await process.take([])
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await ended.wait()
        await asyncio.sleep(0)
        job = asyncio.create_task(process.take([]))
        await asyncio.sleep(0)
        process.pace(SLOW)
        go_on.set()
        with pytest.raises(StorageFailure, match="has ended with status -9"):
            await job
        assert (await process.take([])).bytes_in == 0
        await process.close()

    monkeypatch.setattr(child.Child, "_reap", slow)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def test_a_job_that_is_cancelled(start: Start, content: Path, endless: list[Segment]) -> None:
    process = start(concurrency=1)
    await process.take([])
    pid = process.pid
    job = asyncio.create_task(process.take(endless))
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)
    assert process.pid == pid


@pytest.fixture
def large(tmp_path: Path) -> list[Segment]:
    """A content of some windows."""
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 50 << 20)
    return segments_of(path)


@pytest.mark.parametrize("when", ["before it starts", "while it runs", "meanwhile"])
async def test_its_pace(start: Start, content: Path, large: list[Segment], when: str) -> None:
    """Small contents are taken in whatever it is."""
    process = start(idle=0.01 if when == "before it starts" else 60)
    if when == "before it starts":
        process.pace(SLOW)
        await process.take([])
        await until_true(lambda: process.pid is None)
    elif when == "while it runs":
        await process.take([])
        process.pace(SLOW)
    job = asyncio.create_task(process.take(large))
    if when == "meanwhile":
        await until_true(lambda: process.pid is not None)
        process.pace(SLOW)
    small = segments_of(content)[0]
    assert (await process.take([Segment(small.path, 0, 100_000)])).bytes_in == 100_000
    assert not (await asyncio.wait([job], timeout=0.5))[0]
    process.pace(None)
    assert (await job).bytes_in == 50 << 20


async def test_who_is_cancelled_does_not_wait_for_the_pace(start: Start, content: Path, large: list[Segment]) -> None:
    process = start()
    process.pace(SLOW)
    await process.take([])
    pid = process.pid
    jobs = [asyncio.create_task(process.take(large)) for _ in range(3)]
    await asyncio.sleep(0.1)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    process.pace(None)
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)
    assert process.pid == pid


async def test_digests_keep_the_pace(start: Start, large: list[Segment], repository: Repository) -> None:
    process = start()
    taken = await process.take(large)
    process.pace(SLOW)
    job = asyncio.create_task(process.digest(taken.manifest))
    assert not (await asyncio.wait([job], timeout=0.5))[0]
    process.pace(None)
    assert await job == (taken.manifest.blake3, taken.manifest.sha256)


async def test_it_is_known_whether_there_is_work(start: Start, endless: list[Segment]) -> None:
    process = start()
    assert not process.working.is_set()
    jobs = [asyncio.create_task(process.take(each)) for each in ([], endless)]
    await process.working.wait()
    await jobs[0]
    assert process.working.is_set()
    jobs[1].cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert not process.working.is_set()


async def test_who_is_cancelled_twice_does_not_wait(start: Start, endless: list[Segment]) -> None:
    """Its files are closed next: so the process is killed."""
    process = start()
    await process.take([])
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    job = asyncio.create_task(process.take(endless))
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.sleep(0)
    pid = process.pid
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await until_true(lambda: not is_there(pid))


async def test_a_start_that_is_cancelled_goes_on(start: Start) -> None:
    process = start()
    job = asyncio.create_task(process.take([]))
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await until_true(lambda: process.pid is not None)


async def test_it_ends_when_there_is_nothing_to_do(start: Start, content: Path) -> None:
    process = start(idle=0.01)
    await process.take([])
    await until_true(lambda: process.pid is None)
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)


async def test_closing_ends_it_whatever_it_does(start: Start, endless: list[Segment]) -> None:
    process = start()
    await process.take([])
    pid = process.pid
    assert pid is not None
    job = asyncio.create_task(process.take(endless))
    await asyncio.sleep(0)
    await process.close()
    assert not is_there(pid)
    with pytest.raises(StorageFailure, match="is ending"):
        await job
    with pytest.raises(StorageFailure, match="closed"):
        await process.take([])
    await process.close()


async def test_it_yields_to_others_and_leaves_signals_to_the_server(
    start: Start, monkeypatch: pytest.MonkeyPatch, content: Path
) -> None:
    monkeypatch.setenv("TUSD_PY_JWT_SECRET", "hunter2")
    process = start()
    await process.take([])
    pid = process.pid
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    assert os.getsid(pid) == os.getsid(0), "niceness counts within a session"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)
    assert process.pid == pid
    assert b"hunter2" not in await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)


PARENT = """
import asyncio, sys
from tusd_py_cas.ingest.client import IngestProcess
from tusd_py_cas.ingest.jobs import Segment

async def main(repository, path, size):
    process = IngestProcess(repository, durable=False)
    await process.take([])
    job = asyncio.ensure_future(process.take([Segment(path, 0, int(size))]))
    print(process.pid, flush=True)
    await job

asyncio.run(main(*sys.argv[1:]))
"""


def test_it_ends_with_its_parent(tmp_path: Path, repository: Repository, endless: list[Segment]) -> None:
    arguments = [repository.path, endless[0].path, str(endless[0].size)]
    with subprocess.Popen([sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        try:
            pid = int(parent.stdout.readline())
            assert is_there(pid)
        finally:
            parent.kill()
    until(lambda: not is_there(pid))


def test_what_it_says(repository: Repository) -> None:
    """Nothing but answers, in the order in which they are ready."""
    command = [sys.executable, "-m", "tusd_py_cas.ingest.process", repository.path, "3", "1", "0", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline()) == {"ready": True}
            process.stdin.write('{"id": 5, "op": "cancel"}\n{"id": 6, "op": "dance"}\n')
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert (answer["id"], answer["error"]["kind"]) == (6, "StorageFailure")
            process.stdin.close()
            assert process.stdout.read() == ""
            assert process.wait(20) == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()


@pytest.mark.parametrize("late", [False, True])
async def test_nobody_wants_it_any_more_while_it_is_started(
    late: bool, start: Start, content: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its input and output are its own all the same, and it is gone when that is known."""
    popen = child._popen
    started: list[subprocess.Popen[bytes]] = []
    reached, may_go_on = threading.Event(), threading.Event()

    def slow(command: Any, environment: Any, talk: Any, errors: Any) -> subprocess.Popen[bytes]:
        if not late:
            reached.set()
            assert may_go_on.wait(60)
        assert min(talk.fileno(), errors.fileno()) > 2
        started.append(popen(command, environment, talk, errors))
        return started[-1]

    async def never(*sockets: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(child, "_popen", slow)
    if late:
        monkeypatch.setattr(child, "_open", never)
    starting = asyncio.create_task(child.Child.start([sys.executable, "-c", "input()"], {}))
    await asyncio.to_thread(reached.wait, 60)
    starting.cancel()
    await asyncio.sleep(0)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("allowed", [0, 1])
async def test_too_many_open_files(allowed: int, start: Start, content: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [socket.socketpair() for _ in range(allowed)]

    def socketpair() -> tuple[socket.socket, socket.socket]:
        if not pairs:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pairs.pop()

    process = start()
    with monkeypatch.context() as patched:
        patched.setattr(child.socket, "socketpair", socketpair)
        with pytest.raises(StorageFailure, match="can't be started: Too many open files"):
            await process.take(segments_of(content))
    assert (await process.take(segments_of(content))).bytes_in == len(DATA)
