"""Used intents: one use, whoever else tries at the same moment, and whatever breaks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.authorization.support import NOW, TurnedClock
from tusd_py.authorization import used
from tusd_py.authorization.used import GRACE, SWEEP_INTERVAL, UsedIntents
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure
from tusd_py.protocol.refusals import Forbidden, Refusal, Unauthorized

EXPIRES = int(NOW) + 60


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def store(tmp_path: Path, clock: TurnedClock) -> UsedIntents:
    return UsedIntents(tmp_path, clock=clock)


def names(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / ".tusd-py" / "intents"))


async def test_an_intent_is_used_once(store: UsedIntents) -> None:
    await store.use("nonce", EXPIRES)
    with pytest.raises(Forbidden, match="has been used"):
        await store.use("nonce", EXPIRES)
    await store.use("another", EXPIRES)


async def test_one_that_is_given_back_can_be_used_again(store: UsedIntents) -> None:
    give_back = await store.use("nonce", EXPIRES)
    await give_back()
    await store.use("nonce", EXPIRES)
    with pytest.raises(Forbidden):
        await store.use("nonce", EXPIRES)


async def test_it_stays_used_over_a_restart(store: UsedIntents, tmp_path: Path, clock: TurnedClock) -> None:
    await store.use("nonce", EXPIRES)
    with pytest.raises(Forbidden):
        await UsedIntents(tmp_path, clock=clock).use("nonce", EXPIRES)


async def test_nonces_leave_no_trace_in_names(store: UsedIntents, tmp_path: Path) -> None:
    await store.use("../../nonce", EXPIRES)
    (name,) = names(tmp_path)
    assert name.startswith(f"{EXPIRES}-") and "nonce" not in name


async def test_of_many_tasks_one_wins(store: UsedIntents) -> None:
    results = await asyncio.gather(*(store.use("nonce", EXPIRES) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(result, Forbidden) for result in results) == 49


RACER = """
import asyncio, sys
from pathlib import Path
from tusd_py.authorization.used import UsedIntents
from tusd_py.protocol.refusals import Forbidden

async def main():
    store = UsedIntents(Path(sys.argv[1]), durable=False, clock=lambda: 0.0)
    won = []
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(200):
        try:
            await store.use(f"nonce-{number}", 60)
        except Forbidden:
            continue
        won.append(number)
    print(*won, flush=True)

asyncio.run(main())
"""


def test_of_several_processes_one_wins_each_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    with ExitStack() as stack:
        racers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        for racer in racers:
            stack.callback(racer.kill)
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        won = [int(number) for racer in racers for number in racer.communicate(timeout=60)[0].split()]
    assert sorted(won) == list(range(200))
    assert len(names(tmp_path)) == 200


async def test_a_use_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(used.os, "fsync", lambda _: synced.append(names(tmp_path)))
    await UsedIntents(tmp_path, clock=TurnedClock()).use("nonce", EXPIRES)
    assert len(synced) == 1 and len(synced[0]) == 1
    await UsedIntents(tmp_path, clock=TurnedClock(), durable=False).use("other", EXPIRES)
    assert len(synced) == 1


async def test_what_can_not_be_synced_is_not_used(store: UsedIntents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(used.os, "fsync", fail)
        with pytest.raises(OutOfSpace, match="noting that an upload intent is used"):
            await store.use("nonce", EXPIRES)
    store._pool.shutdown(wait=True)
    assert names(tmp_path) == []


async def test_who_is_cancelled_has_not_used_it(store: UsedIntents, tmp_path: Path) -> None:
    task = asyncio.ensure_future(store.use("nonce", EXPIRES))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store._pool.shutdown(wait=True)
    assert names(tmp_path) == []


async def test_giving_back_goes_on_after_a_cancellation(store: UsedIntents, tmp_path: Path) -> None:
    give_back = await store.use("nonce", EXPIRES)
    task = asyncio.ensure_future(give_back())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store._pool.shutdown(wait=True)
    assert names(tmp_path) == []


async def test_giving_back_never_fails(store: UsedIntents, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    give_back = await store.use("nonce", EXPIRES)
    os.unlink(f"{tmp_path}/.tusd-py/intents/{names(tmp_path)[0]}")
    await give_back()
    assert "stays used" in caplog.text


async def test_storage_that_is_gone_is_a_failure(store: UsedIntents, tmp_path: Path) -> None:
    os.rmdir(f"{tmp_path}/.tusd-py/intents")
    with pytest.raises(StorageFailure):
        await store.use("nonce", EXPIRES)


def test_storage_that_can_not_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".tusd-py").write_text("")
    with pytest.raises(ReadOnlyStorage):
        UsedIntents(tmp_path)


@pytest.mark.parametrize(("late", "accepted"), [(0, True), (GRACE - 1, True), (GRACE, False)])
async def test_a_creation_may_take_long_and_not_for_ever(
    store: UsedIntents, clock: TurnedClock, late: float, accepted: bool
) -> None:
    clock.now = EXPIRES + late
    if accepted:
        await store.use("nonce", EXPIRES)
    else:
        with pytest.raises(Unauthorized, match="expired"):
            await store.use("nonce", EXPIRES)


@pytest.mark.parametrize("late", range(-1, int(4 * GRACE), 600))
async def test_there_is_no_moment_in_which_it_is_forgotten_and_accepted(
    store: UsedIntents, clock: TurnedClock, late: float
) -> None:
    await store.use("nonce", EXPIRES)
    clock.now = EXPIRES + late
    store.sweep()
    with pytest.raises(Refusal):
        await store.use("nonce", EXPIRES)


async def test_what_expired_long_ago_is_forgotten(store: UsedIntents, tmp_path: Path, clock: TurnedClock) -> None:
    await store.use("old", EXPIRES)
    await store.use("new", EXPIRES + 10_000)
    (tmp_path / ".tusd-py" / "intents" / "notes.txt").touch()
    clock.now = EXPIRES + 2 * GRACE
    assert store.sweep() == 0
    clock.now += 1
    assert store.sweep() == 1
    assert [name.partition("-")[0] for name in names(tmp_path)] == [str(EXPIRES + 10_000), "notes.txt"]


async def test_a_use_now_and_then_sweeps(store: UsedIntents, tmp_path: Path, clock: TurnedClock) -> None:
    await store.use("old", EXPIRES)
    clock.now += 2 * GRACE + SWEEP_INTERVAL + 61
    await store.use("new", int(clock.now) + 60)
    store._pool.shutdown(wait=True)
    assert len(names(tmp_path)) == 1
