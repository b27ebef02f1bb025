"""Processes that are killed while they use an outbox, and the others that go on."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.outbox.ledger import Ledger
from tusd_py.outbox.sqlite import SqliteOutbox
from tusd_py.testing.outbox_suite import event

ROOT = Path(__file__).resolve().parents[2]
KILLS = 60


@contextmanager
def worker(state_dir: Path, first: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.outbox.worker", str(state_dir), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until_killed(process: subprocess.Popen[bytes], count: int) -> list[bytes]:
    """`count` lines, then a kill, then what it had still said."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    process.kill()
    return [*lines, *process.stdout.readlines()]


@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_changes_its_name_whenever_a_process_is_killed(tmp_path: Path) -> None:
    chance, ledger = random.Random("killed"), Ledger()
    for number in range(KILLS):
        with worker(tmp_path, number * 1_000_000) as process:
            ledger.read(lines_until_killed(process, chance.randint(1, 120)))
        outbox = SqliteOutbox(str(tmp_path))
        await ledger.check_prepared(outbox)
        await ledger.decide(outbox, chance)
        await outbox.close()
    outbox = SqliteOutbox(str(tmp_path))
    await ledger.check_rest(outbox)
    await outbox.close()
    assert len(ledger.confirmed) > 2 * KILLS and ledger.withdrawn and ledger.settled


TAKER = """
import asyncio, sys
from tusd_py.outbox.sqlite import SqliteOutbox

async def main():
    outbox = SqliteOutbox(sys.argv[1])
    await outbox.next_due("hooks")
    print("ready", flush=True)
    sys.stdin.readline()
    told_to_go_on = False
    while claimed := await outbox.claim("hooks", 2):
        print(*(stored.event.id for stored in claimed), flush=True)
        if not told_to_go_on:
            told_to_go_on = bool(sys.stdin.readline())
        await outbox.settle(claimed, ())
    await outbox.close()

asyncio.run(main())
"""


async def test_processes_that_claim_at_once_share_what_there_is(tmp_path: Path) -> None:
    outbox = SqliteOutbox(str(tmp_path))
    for number in range(500):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    await outbox.close()
    takers = [taker(tmp_path) for _ in range(3)]
    assert [line_of(process) for process in takers] == 3 * [[b"ready"]]
    for process in takers:
        go(process)
    shares = [line_of(process) for process in takers]  # everybody has some before anybody goes on
    assert all(shares)
    for process in takers:
        go(process)
    for process, share in zip(takers, shares, strict=True):
        share += process.communicate(timeout=60)[0].split()
    assert [process.returncode for process in takers] == [0, 0, 0]
    assert sum(map(len, shares)) == len({one for share in shares for one in share}) == 500


def line_of(process: subprocess.Popen[bytes]) -> list[bytes]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()


def taker(state_dir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", TAKER, str(state_dir)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


CLAIMER = """
import asyncio, sys
from tusd_py.outbox.sqlite import SqliteOutbox

async def main():
    outbox = SqliteOutbox(sys.argv[1])
    claimed = await outbox.claim("hooks", 10)
    print(len(claimed), flush=True)
    await asyncio.sleep(1e6)

asyncio.run(main())
"""


def claimer(state_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CLAIMER, str(state_dir)], cwd=ROOT, stdout=subprocess.PIPE)


async def test_what_a_dead_process_had_claimed_is_free(tmp_path: Path) -> None:
    outbox = SqliteOutbox(str(tmp_path))
    for number in range(3):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    await outbox.close()
    with claimer(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"3\n"
        living = SqliteOutbox(str(tmp_path))
        assert not await living.claim("hooks", 10)
        process.kill()
        process.wait()
        starting = SqliteOutbox(str(tmp_path))
        (first,) = await starting.claim("hooks", 1)  # one that starts looks at once
        assert first.attempts == 0
        assert len(await living.claim("hooks", 10)) == 2
    await living.close()
    await starting.close()


async def test_a_living_process_finds_out_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusd_py.outbox.sqlite.LOOK_AROUND", 0.01)
    living = SqliteOutbox(str(tmp_path))
    await living.confirm(event("a"), ["hooks"])
    await living.close()
    living = SqliteOutbox(str(tmp_path))
    with claimer(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert not await living.claim("hooks", 10)
        process.kill()
        process.wait()
    async with asyncio.timeout(15):
        while not await living.claim("hooks", 10):  # noqa: ASYNC110 - a process only looks when it wants something
            await asyncio.sleep(0.001)
    await living.close()
