"""How much of the processors ingest takes: by a clock, and a meter of processor time, that the test turns."""

from __future__ import annotations

import threading

import pytest
from tusd_py_cas.ingest.pace import FASTEST, Pace

from tests.support.waiting import until

WINDOW = 16 << 20


def never() -> bool:
    return False


class Machine:
    """Time passes while somebody waits, and by `work`."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.pace = Pace(lambda: self.used, lambda: self.now)
        self.pace._changed.wait = self.pass_by  # type: ignore[method-assign,assignment]

    def pass_by(self, seconds: float) -> bool:
        self.now += seconds + 1e-9
        return False

    def work(self, processors: float, seconds: float) -> None:
        self.now += seconds
        self.used += processors * seconds

    def windows(self, count: int, cost: float) -> float:
        """The share that these take, each of which costs so many seconds of a processor."""
        since, used = self.now, self.used
        for _ in range(count):
            self.pace.wait(WINDOW, never)
            self.work(2, cost / 2)
        self.pace.wait(WINDOW, never)
        return (self.used - used) / (self.now - since)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_nobody_waits_unless_told_to(machine: Machine) -> None:
    assert machine.windows(10, 0.04) == pytest.approx(2)
    assert repr(machine.pace) == "<Pace free>"


@pytest.mark.parametrize("share", [0.01, 0.125, 1.0])
@pytest.mark.parametrize("cost", [0.02, 0.04, 9.0])
def test_a_share_is_what_is_taken(machine: Machine, share: float, cost: float) -> None:
    machine.pace.set(share)
    assert machine.windows(50, cost) == pytest.approx(share, rel=0.05)
    assert repr(machine.pace) == f"<Pace {share:g} processors>"


def test_what_comes_at_the_same_time_waits_though_nothing_has_been_used_yet(machine: Machine) -> None:
    machine.pace.set(0.125)
    for number in range(6):
        machine.pace.wait(WINDOW, never)
        assert machine.now == pytest.approx(number * WINDOW / FASTEST / 0.125, abs=1e-6)


def test_what_else_uses_the_processor_counts(machine: Machine) -> None:
    machine.pace.set(0.5)
    machine.pace.wait(WINDOW, never)
    machine.work(1, 10.0)
    machine.pace.wait(WINDOW, never)
    assert machine.now == pytest.approx(20)


def test_idle_time_is_not_saved_up(machine: Machine) -> None:
    machine.pace.set(0.125)
    machine.pace.wait(WINDOW, never)
    machine.pass_by(1000)
    assert machine.windows(10, 0.04) == pytest.approx(0.125, rel=0.15)


def test_what_was_used_before_does_not_count(machine: Machine) -> None:
    machine.work(2, 100)
    machine.pace.set(0.125)
    machine.pace.wait(WINDOW, never)
    assert machine.now == 100


def test_the_same_share_again_changes_nothing(machine: Machine) -> None:
    machine.pace.set(0.125)
    machine.pace.wait(WINDOW, never)
    machine.work(1, 1)
    machine.pace.set(0.125)
    machine.pace.wait(WINDOW, never)
    assert machine.now == pytest.approx(8)


def test_who_waits_goes_on_at_once_when_the_pace_is_free() -> None:
    pace = Pace(lambda: 0.0)
    pace.set(1e-9)
    pace.wait(WINDOW, never)
    waiting = [threading.Thread(target=pace.wait, args=(WINDOW, never), daemon=True) for _ in range(3)]
    for each in waiting:
        each.start()
    assert all(each.is_alive() for each in waiting)
    pace.set(None)
    for each in waiting:
        each.join(10)
    assert not any(each.is_alive() for each in waiting)


def test_who_is_not_wanted_any_more_does_not_wait() -> None:
    pace, unwanted = Pace(lambda: 0.0), threading.Event()
    pace.set(1e-9)
    pace.wait(WINDOW, never)
    waiting = threading.Thread(target=pace.wait, args=(WINDOW, unwanted.is_set), daemon=True)
    waiting.start()
    unwanted.set()
    until(lambda: not waiting.is_alive())
