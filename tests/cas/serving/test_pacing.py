"""Ingest is slowed down while clients are busy, and not for ever: by a clock that sleepers turn."""

from __future__ import annotations

import asyncio
import os

import pytest
from tusd_py_cas.serving import pacing
from tusd_py_cas.serving.pacing import LINGER, LOOK, PATIENCE, Pacer

from tests.cas.serving.support import Server, until
from tusd_py.ports.extension import Received

SLOW = pacing.SHARE * len(os.sched_getaffinity(0))


class World:
    """Ingest that has something to do until `idle`; clients that are busy until `busy`; and what ingest was told, when."""

    def __init__(self) -> None:
        self.now = self.idle = self.busy = 0.0
        self.told: list[tuple[float, float | None]] = []
        self.working = asyncio.Event()
        self.awaited = (0.0, 0.0)  # from and until when somebody waits for ingest
        self.pacer = Pacer(self, self, self.is_awaited)  # type: ignore[arg-type]

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.idle:
            self.working.clear()
        await asyncio.sleep(0)

    def is_busy(self) -> bool:
        return self.now < self.busy

    def is_awaited(self) -> bool:
        return self.awaited[0] <= self.now < self.awaited[1]

    def pace(self, share: float | None) -> None:
        if not self.told or self.told[-1][1] != share:
            self.told.append((self.now, share))

    async def work(self, *, seconds: float, busy: float) -> list[tuple[float, float | None]]:
        """What ingest is told in so many seconds of work, for so many of which clients are busy; times since its begin."""
        begun = self.now
        self.idle, self.busy, self.told = begun + seconds, begun + busy, []
        self.working.set()
        await until(lambda: not self.working.is_set())
        return [(pytest.approx(at - begun, abs=2 * LOOK), share) for at, share in self.told]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(pacing, "time", world)
    monkeypatch.setattr(pacing, "asyncio", world)
    return world


async def test_ingest_slows_down_while_clients_are_busy(world: World) -> None:
    running = asyncio.create_task(world.pacer.run())
    for _ in range(2):
        assert await world.work(seconds=30, busy=0) == [(0, None)]
        assert await world.work(seconds=30, busy=10) == [(0, SLOW), (10 + LINGER, None)]
    running.cancel()


async def test_not_while_something_waits_for_it(world: World) -> None:
    running = asyncio.create_task(world.pacer.run())
    world.awaited = (10, 20)
    assert await world.work(seconds=30, busy=30) == [(0, SLOW), (10, None), (20, SLOW)]
    running.cancel()


async def test_not_for_ever(world: World) -> None:
    """Only when there was nothing to do it is slowed down again."""
    running = asyncio.create_task(world.pacer.run())
    for _ in range(2):
        assert await world.work(seconds=3 * PATIENCE, busy=3 * PATIENCE) == [(0, SLOW), (PATIENCE, None)]
    running.cancel()


async def test_what_counts_is_how_long_it_was_slowed_down(world: World) -> None:
    running = asyncio.create_task(world.pacer.run())
    told = asyncio.create_task(world.work(seconds=3 * PATIENCE, busy=PATIENCE / 2))
    await until(lambda: world.now > PATIENCE)
    world.busy = 3 * PATIENCE
    slower = world.now
    assert await told == [
        (0, SLOW),
        (PATIENCE / 2 + LINGER, None),
        (slower, SLOW),
        (slower + PATIENCE / 2 - LINGER, None),
    ]
    running.cancel()


@pytest.mark.parametrize("received", [Received(0, 10**15), Received(10**9, 0)], ids=["large", "many"])
async def test_a_server_sees_what_its_clients_do(keeping: Server, received: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float | None] = []
    monkeypatch.setattr(keeping.worker, "pace", told.append)
    keeping.run()
    keeping.worker.working.set()
    await until(lambda: None in told)
    keeping.host.received = received
    await until(lambda: SLOW in told)
