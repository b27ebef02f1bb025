"""When an upload is too slow."""

from __future__ import annotations

import pytest

from tusd_py.protocol.throughput import GRACE, too_slow

CASES = [
    # bytes, seconds, minimum in bytes a second, whether it is too slow
    (0, 0, 1000, False),
    (0, GRACE - 0.1, 1000, False),
    (0, GRACE, 1000, True),
    (29_999, 30, 1000, True),
    (30_000, 30, 1000, False),
    (30_000, 30.1, 1000, True),
    (1 << 40, 3600, 1000, False),
    (0, 3600, 0, False),
]


@pytest.mark.parametrize(("count", "seconds", "rate", "slow"), CASES)
def test_throughput(count: int, seconds: float, rate: float, slow: bool) -> None:
    assert too_slow(count, seconds, rate) is slow
