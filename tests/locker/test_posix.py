"""`PosixLocker` keeps the port's promises, under both event loops, and between real processes whatever happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

import tusd_py.locker.kernel_locks as kernel_locks
from tusd_py.locker.kernel_locks import KernelLocks
from tusd_py.locker.peers import PeerAnswer
from tusd_py.locker.posix import PosixLocker
from tusd_py.ports.failures import LockTimeout, ReadOnlyStorage, StorageFailure
from tusd_py.testing import LockerSuite

AGES = 30.0
MOMENT = 0.05

HOLDER = """
import asyncio, sys
from tusd_py.locker.posix import PosixLocker

async def main():
    locker = PosixLocker(sys.argv[1])
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    lease = None
    say = lambda text: print(text, flush=True)
    while line := (await lines.readline()).decode().strip():
        verb, _, upload_id = line.partition(" ")
        if verb == "acquire":
            lease = await locker.acquire(upload_id, lambda: say("asked"), 30)
            say("acquired")
        elif verb == "release":
            await lease.release()
            say("released")
    await locker.close()

asyncio.run(main())
"""


class Holder:
    """A process of its own with a locker, told what to do line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def hear(self, expected: str) -> None:
        """Read on until it says `expected`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(AGES):
            while (said := (await self.process.stdout.readline()).decode().strip()) != expected:
                assert said == "asked", f"it said {said!r} before {expected!r}"

    async def do(self, line: str, expected: str) -> None:
        self.tell(line)
        await self.hear(expected)


@asynccontextmanager
async def holder(state: Path) -> AsyncIterator[Holder]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(state), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Holder(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()


def nobody() -> None:
    """For holders that are not to be asked."""


@pytest.fixture
async def locker(tmp_path: Path) -> AsyncIterator[PosixLocker]:
    locker = PosixLocker(str(tmp_path))
    yield locker
    await locker.close()


class TestPosixLocker(LockerSuite):
    @pytest.fixture
    async def locker(self, tmp_path: Path) -> AsyncIterator[PosixLocker]:
        locker = PosixLocker(str(tmp_path))
        yield locker
        await locker.close()


class Pair:
    """Two lockers on one directory, used in turn: nearly every step is between strangers."""

    def __init__(self, *lockers: PosixLocker) -> None:
        self.lockers = list(lockers)

    def _next(self) -> PosixLocker:
        self.lockers.append(self.lockers.pop(0))
        return self.lockers[-1]

    async def acquire(self, upload_id: str, on_release_request: Callable[[], None], timeout: float) -> object:
        return await self._next().acquire(upload_id, on_release_request, timeout)

    async def try_acquire(self, upload_id: str, on_release_request: Callable[[], None] = nobody) -> object:
        return await self._next().try_acquire(upload_id, on_release_request)

    async def close(self) -> None:
        for locker in self.lockers:
            await locker.close()


class TestPairOfPosixLockers(LockerSuite):
    @pytest.fixture
    async def locker(self, tmp_path: Path) -> AsyncIterator[Pair]:
        pair = Pair(PosixLocker(str(tmp_path)), PosixLocker(str(tmp_path)))
        yield pair
        await pair.close()

    async def test_a_lock_is_exclusive(self, locker: Pair) -> None:
        """As in the suite, but strangers are served in no order."""
        inside, most = 0, 0

        async def enter() -> None:
            nonlocal inside, most
            lease = await locker.acquire("upload", nobody, AGES)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            await lease.release()

        await asyncio.gather(*(enter() for _ in range(20)))
        assert most == 1

    async def test_each_holder_is_asked_when_somebody_waits_already(self, locker: Pair) -> None:
        left = 5

        async def hold() -> None:
            nonlocal left
            asked = asyncio.Event()
            lease = await locker.acquire("upload", asked.set, AGES)
            left -= 1
            if left:
                await asked.wait()
            await lease.release()

        async with asyncio.timeout(AGES):
            await asyncio.gather(*(hold() for _ in range(5)))


def test_under_the_other_event_loop(tmp_path: Path) -> None:
    """uvloop's transports are others; a takeover between two lockers uses every part of them."""

    async def takeover() -> None:
        first, second = PosixLocker(str(tmp_path)), PosixLocker(str(tmp_path))
        for _ in range(3):
            asked = asyncio.Event()
            lease = await first.acquire("upload", asked.set, AGES)
            waiting = asyncio.create_task(second.acquire("upload", nobody, AGES))
            await asked.wait()
            await lease.release()
            await (await waiting).release()
        await first.close()
        await second.close()
        await asyncio.sleep(0.01)

    uvloop.run(takeover())


# Between processes


async def test_a_holder_in_another_process_is_asked(tmp_path: Path, locker: PosixLocker) -> None:
    async with holder(tmp_path) as other:
        await other.do("acquire upload", "acquired")
        waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        await other.hear("asked")
        assert not waiting.done()
        other.tell("release")
        await (await waiting).release()


async def test_and_asks_us(tmp_path: Path, locker: PosixLocker) -> None:
    asked = asyncio.Event()
    lease = await locker.acquire("upload", asked.set, AGES)
    async with holder(tmp_path) as other:
        other.tell("acquire upload")
        async with asyncio.timeout(AGES):
            await asked.wait()
        await lease.release()
        await other.hear("acquired")
        assert await locker.try_acquire("upload") is None


async def test_a_killed_holder_holds_nothing(tmp_path: Path, locker: PosixLocker) -> None:
    async with holder(tmp_path) as other:
        await other.do("acquire upload", "acquired")
        waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        await other.hear("asked")
        other.process.send_signal(signal.SIGKILL)
        await (await waiting).release()


async def test_what_a_killed_process_left_is_cleared(tmp_path: Path, locker: PosixLocker) -> None:
    async with holder(tmp_path) as other, holder(tmp_path) as third:
        await other.do("acquire upload", "acquired")
        await third.do("acquire another", "acquired")
        other.process.send_signal(signal.SIGKILL)
        await other.process.wait()
        assert len(os.listdir(tmp_path / "peers")) == 2
        with pytest.raises(LockTimeout):
            await locker.acquire("another", nobody, MOMENT)
        assert len(os.listdir(tmp_path / "peers")) == 2, "the third's and ours"
        await (await locker.acquire("upload", nobody, AGES)).release()


async def test_a_stopped_holder_keeps_its_lock(tmp_path: Path, locker: PosixLocker) -> None:
    async with holder(tmp_path) as other:
        await other.do("acquire upload", "acquired")
        other.process.send_signal(signal.SIGSTOP)
        with pytest.raises(LockTimeout):
            await locker.acquire("upload", nobody, 3 * MOMENT)
        assert await locker.try_acquire("upload") is None
        waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        other.process.send_signal(signal.SIGCONT)
        await other.hear("asked")
        other.tell("release")
        await (await waiting).release()


async def test_a_stopped_stranger_is_in_nobodys_way(tmp_path: Path, locker: PosixLocker) -> None:
    async with holder(tmp_path) as stopped, holder(tmp_path) as other:
        await stopped.do("acquire unrelated", "acquired")
        stopped.process.send_signal(signal.SIGSTOP)
        await other.do("acquire upload", "acquired")
        waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        await other.hear("asked")
        other.tell("release")
        await (await waiting).release()


async def test_a_stranger_gets_its_turn_before_our_own_next(tmp_path: Path, locker: PosixLocker) -> None:
    order: list[str] = []
    asked = asyncio.Event()
    lease = await locker.acquire("upload", nobody, AGES)

    async def own() -> None:
        mine = await locker.acquire("upload", nobody, AGES)
        order.append("own")
        await mine.release()

    async with holder(tmp_path) as other:
        waiting = asyncio.create_task(own())
        await asyncio.sleep(0)
        lease._on_release_request = asked.set
        other.tell("acquire upload")
        async with asyncio.timeout(AGES):
            await asked.wait()
            while not lease.askers:  # noqa: ASYNC110 - our own waiter has asked as well
                await asyncio.sleep(0.001)
        await lease.release()
        await other.hear("acquired")
        order.append("stranger")
        await other.do("release", "released")
        await waiting
    assert order == ["stranger", "own"]


async def test_who_waited_while_we_were_contending_is_told_about(tmp_path: Path, locker: PosixLocker) -> None:
    """The first of two waits for a stranger when the second joins it: it must not be asked before it has the lock, but then."""
    stranger = PosixLocker(str(tmp_path))
    wanted, asked = asyncio.Event(), asyncio.Event()
    lease = await stranger.acquire("upload", wanted.set, AGES)
    first = asyncio.create_task(locker.acquire("upload", asked.set, AGES))
    await wanted.wait()
    second = asyncio.create_task(locker.acquire("upload", nobody, AGES))
    await asyncio.sleep(MOMENT)
    assert not asked.is_set()
    await lease.release()
    held = await first
    async with asyncio.timeout(AGES):
        await asked.wait()
    await held.release()
    await (await second).release()
    await stranger.close()


async def test_many_strangers_and_one_counter(tmp_path: Path) -> None:
    """Read, wait, write: two at once would lose an increment."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    lockers = [PosixLocker(str(tmp_path)) for _ in range(4)]

    async def increment(locker: PosixLocker) -> None:
        for _ in range(10):
            lease = await locker.acquire("upload", nobody, AGES)
            value = int(counter.read_text())
            await asyncio.sleep(0)
            counter.write_text(str(value + 1))
            await lease.release()

    await asyncio.gather(*(increment(locker) for locker in lockers for _ in range(2)))
    assert counter.read_text() == "80"
    for locker in lockers:
        await locker.close()


# Its own parts


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    first, second = PosixLocker(str(deep)), PosixLocker(str(deep))
    asked = asyncio.Event()
    lease = await first.acquire("upload", asked.set, AGES)
    waiting = asyncio.create_task(second.acquire("upload", nobody, AGES))
    async with asyncio.timeout(AGES):
        await asked.wait()
    await lease.release()
    await (await waiting).release()
    await first.close()
    await second.close()


async def test_closing_removes_the_socket_and_may_be_repeated(tmp_path: Path) -> None:
    locker = PosixLocker(str(tmp_path))
    await (await locker.acquire("upload", nobody, AGES)).release()
    assert len(os.listdir(tmp_path / "peers")) == 1
    await locker.close()
    await locker.close()
    assert os.listdir(tmp_path / "peers") == []


async def test_a_lease_that_outlives_closing_is_kept_from_strangers(tmp_path: Path, locker: PosixLocker) -> None:
    closing = PosixLocker(str(tmp_path))
    lease = await closing.acquire("upload", nobody, AGES)
    await closing.close()
    assert await locker.try_acquire("upload") is None
    waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
    await asyncio.sleep(0)
    await lease.release()
    await (await waiting).release()


async def test_locks_leave_no_files_of_their_own(tmp_path: Path, locker: PosixLocker) -> None:
    for number in range(200):
        await (await locker.acquire(f"upload{number}", nobody, AGES)).release()
    names = os.listdir(tmp_path / "locks")
    assert len(names) <= kernel_locks._SHARDS
    assert all((tmp_path / "locks" / name).stat().st_size == 0 for name in names)


async def test_a_lock_that_cannot_be_taken_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locker = PosixLocker(str(tmp_path))
    shutil.rmtree(tmp_path / "locks")
    with pytest.raises(StorageFailure):
        await locker.acquire("upload", nobody, AGES)
    with pytest.raises(StorageFailure):
        await locker.try_acquire("upload")
    assert repr(locker) == "<PosixLocker 0 held, <MemoryLocker 0 held, 0 waiting>>"
    await locker.close()


def test_what_may_not_be_written_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReadOnlyStorage, match="file/locks"):
        PosixLocker(str(tmp_path / "file"))


@pytest.mark.parametrize("ofd", [True, False])
def test_kernel_locks_exclude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ofd: bool) -> None:
    if not ofd:
        monkeypatch.setattr(kernel_locks, "_SET", None)
    locks, others = KernelLocks(str(tmp_path), 0o600), KernelLocks(str(tmp_path), 0o600)
    assert locks.try_lock("a")
    assert others.try_lock("b")
    if ofd:
        assert not others.try_lock("a")
    locks.unlock("a")
    assert others.try_lock("a")
    locks.close()
    others.close()


async def talk(directory: Path, *sent: bytes) -> bytes:
    """What the only peer answers to `sent`, up to the end of the connection or two lines."""
    (name,) = os.listdir(directory / "peers")
    reader, writer = await asyncio.open_unix_connection(f"{directory}/peers/{name}")
    received = b""
    with contextlib.suppress(ConnectionError):
        for piece in sent:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(AGES):
            while received.count(b"\n") < 2 and (data := await reader.read(1000)):
                received += data
    writer.close()
    return received


async def test_the_conversation(tmp_path: Path, locker: PosixLocker) -> None:
    lease = await locker.acquire("upload", nobody, AGES)
    assert await talk(tmp_path, b"release oth", b"er\nrelease upload\n") == b"free\nheld\n"
    await lease.release()
    assert await talk(tmp_path, b"release upload\nrelease upload\n") == b"free\nfree\n"


@pytest.mark.parametrize("sent", [b"nonsense\n", b"x" * 5000, b"\xff\n", b"\n"])
async def test_nonsense_is_hung_up_on(tmp_path: Path, locker: PosixLocker, sent: bytes) -> None:
    await (await locker.acquire("upload", nobody, AGES)).release()
    assert await talk(tmp_path, sent) == b""


async def test_a_peer_that_talks_nonsense_does_not_disturb(tmp_path: Path, locker: PosixLocker) -> None:
    connections = 0

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"what?\n" + b"y" * 5000)
        writer.close()

    server = await asyncio.start_unix_server(nonsense, f"{tmp_path}/peers/strange")
    other = PosixLocker(str(tmp_path))
    lease = await other.acquire("upload", nobody, AGES)
    with pytest.raises(LockTimeout):
        await locker.acquire("upload", nobody, 2 * MOMENT)
    waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
    await lease.release()
    await (await waiting).release()
    assert connections <= 2, "who hangs up is not called again"
    await other.close()
    server.close()


async def test_a_socket_nobody_listens_to_is_removed(tmp_path: Path, locker: PosixLocker) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(f"{tmp_path}/peers/stale")
    stale.close()
    other = PosixLocker(str(tmp_path))
    lease = await other.acquire("upload", nobody, AGES)
    with pytest.raises(LockTimeout):
        await locker.acquire("upload", nobody, MOMENT)
    assert not (tmp_path / "peers" / "stale").exists()
    await lease.release()
    await other.close()


def test_answers_are_words() -> None:
    assert [answer.name for answer in PeerAnswer] == ["NONE", "FREE", "HELD", "RELEASED", "GONE"]
