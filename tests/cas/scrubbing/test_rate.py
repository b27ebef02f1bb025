"""The rate of reading, by a clock that the test moves."""

from __future__ import annotations

import pytest
from tusd_py_cas.keeping.rate import STEP, Rate


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.longest = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.longest = max(self.longest, seconds)


def never() -> bool:
    return False


@pytest.mark.parametrize("sizes", [[1000] * 50, [1, 20_000, 3, 5000, 1], [100_000] * 3])
def test_no_more_than_the_rate(sizes: list[int]) -> None:
    clock = Clock()
    rate = Rate(1000, clock, clock.sleep)
    for size in sizes:
        assert rate.wait(size, never)
    assert clock.now - 100 == pytest.approx(sum(sizes[:-1]) / 1000)
    assert clock.longest <= STEP


def test_time_that_was_not_used_is_not_made_up_for() -> None:
    clock = Clock()
    rate = Rate(1000, clock, clock.sleep)
    rate.wait(1000, never)
    clock.now += 3600
    before = clock.now
    for _ in range(3):
        rate.wait(1000, never)
    assert clock.now - before == pytest.approx(2)


def test_without_a_rate_nobody_waits() -> None:
    clock = Clock()
    rate = Rate(None, clock, clock.sleep)
    assert all(rate.wait(1 << 40, never) for _ in range(10))
    assert clock.now == 100


def test_a_stop_is_heard_within_a_step() -> None:
    clock = Clock()
    rate = Rate(1, clock, clock.sleep)
    assert rate.wait(1_000_000, never)
    asked_at = clock.now + 7.05
    assert not rate.wait(1, lambda: clock.now >= asked_at)
    assert clock.now - asked_at <= STEP
    assert not Rate(None, clock, clock.sleep).wait(1, lambda: True)
