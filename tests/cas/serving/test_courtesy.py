"""Clients go first, but not for ever."""

from __future__ import annotations

import asyncio

import pytest
from tusd_py_cas.serving import courtesy
from tusd_py_cas.serving.courtesy import Courtesy

from tests.cas.serving.support import DictHost
from tusd_py.ports.extension import Received


class Turned:
    """A clock that sleepers turn; meanwhile `rate` bodies a second come in, and `speed` bytes."""

    def __init__(self, host: DictHost) -> None:
        self.now, self.rate, self.speed, self.host, self.slept = 0.0, 0.0, 0.0, host, 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        before = self.host.received
        self.host.received = Received(before.bodies + round(self.rate * seconds), before.bytes + round(self.speed * seconds))


@pytest.fixture
def host() -> DictHost:
    return DictHost()


@pytest.fixture
def clock(host: DictHost, monkeypatch: pytest.MonkeyPatch) -> Turned:
    clock = Turned(host)
    monkeypatch.setattr(courtesy, "time", clock)
    monkeypatch.setattr(courtesy, "asyncio", clock)
    return clock


@pytest.fixture
def polite(host: DictHost, clock: Turned) -> Courtesy:
    polite = Courtesy(processors=2)
    polite.host = host
    return polite


async def test_nobody_waits_where_little_comes_in(polite: Courtesy, clock: Turned) -> None:
    for clock.rate in (0.0, 1.0, courtesy.MANY - 20):
        clock.pass_by(1.0)
        await polite.give_way()
    assert not clock.slept


async def test_many_go_first(polite: Courtesy, clock: Turned) -> None:
    clock.rate = 10 * courtesy.MANY
    clock.pass_by(1.0)
    began = clock.now
    await polite.give_way()
    assert courtesy.PATIENCE <= clock.now - began <= courtesy.PATIENCE + courtesy.LOOK
    clock.rate = 0.0
    clock.pass_by(courtesy.LOOK)
    before = clock.slept
    await polite.give_way()
    assert clock.slept == before, "the rush is over"


async def test_who_waits_goes_on_when_it_is_over(polite: Courtesy, clock: Turned) -> None:
    clock.rate = 10 * courtesy.MANY
    clock.pass_by(1.0)
    began, sleep = clock.now, clock.sleep

    async def end_of_rush(seconds: float) -> None:
        clock.rate = 0.0
        await sleep(seconds)

    clock.sleep = end_of_rush  # type: ignore[method-assign]
    await polite.give_way()
    assert clock.now - began <= 2 * courtesy.LOOK


async def test_several_wait_together(polite: Courtesy, host: DictHost) -> None:
    """By the real clock: however many wait, what they measure is the same."""
    real = Courtesy()
    real.host = host
    await asyncio.gather(*(real.give_way() for _ in range(100)))


async def test_large_uploads_make_it_busy_but_no_rush(polite: Courtesy, clock: Turned) -> None:
    """By processors: what two are busy with is little for 64."""
    clock.rate, clock.speed = 1.0, 3 * courtesy.FAST
    clock.pass_by(1.0)
    assert polite.is_busy() and not polite.is_rush()
    await polite.give_way()
    assert not clock.slept
    clock.speed = courtesy.FAST
    clock.pass_by(1.0)
    assert not polite.is_busy()
    clock.rate, clock.speed = 10 * courtesy.MANY, 0.0
    clock.pass_by(1.0)
    assert polite.is_busy()


async def test_bytes_that_are_dropped_are_no_reason(polite: Courtesy, clock: Turned) -> None:
    clock.speed = -3 * courtesy.FAST
    clock.pass_by(1.0)
    assert not polite.is_busy()
