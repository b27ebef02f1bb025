"""Doing something no faster than so many bytes a second, ready to stop at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Rate"]

STEP = 0.1
"""Seconds of sleep at a time: how late a wish to stop is heard at most."""


class Rate:
    """For one thread. `rate` in bytes a second, None for as fast as it goes. `clock` and `sleep` are for tests."""

    def __init__(
        self, rate: float | None, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate of {rate} bytes a second never gets anything done: expected more than 0")
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._free_at = clock()

    def wait(self, size: int, stop: Callable[[], bool]) -> bool:
        """Wait until `size` more bytes are due; False if `stop` said so first."""
        while (rest := self._free_at - self._clock()) > 0:
            if stop():
                return False
            self._sleep(min(rest, STEP))
        if self._rate is not None:
            self._free_at = self._clock() + size / self._rate
        return not stop()
