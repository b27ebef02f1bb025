"""How fast contents are taken in: as fast as they can be, or with a share of the processors while clients need these."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition

__all__ = ["Pace"]

FASTEST = 1e9
"""Bytes per second of one processor: what was let through is thought to cost as much until it has, so that threads that come
at the same time wait for each other."""

LOOK = 0.2
"""Seconds between two looks whether somebody still wants to go on."""


class Pace:
    """Says when the next bytes may be worked at. For the threads of one process, whose processor time is what counts: whatever
    it is used for, what was too much is waited for."""

    def __init__(
        self, processor_time: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._processor_time, self._clock = processor_time, clock
        self._changed = Condition()
        self._share: float | None = None
        self._since, self._used_before, self._next = 0.0, 0.0, 0.0

    def __repr__(self) -> str:
        return f"<Pace {'free' if self._share is None else f'{self._share:g} processors'}>"

    def set(self, share: float | None) -> None:
        """From now on take no more than `share` processors, or as many as there are."""
        with self._changed:
            if share != self._share:
                self._share = share
                self._start_anew()
                self._next = self._since
                self._changed.notify_all()

    def wait(self, size: int, is_unwanted: Callable[[], bool]) -> None:
        """Return when `size` bytes may be worked at, or when nobody wants that any more."""
        with self._changed:
            while (rest := self._rest()) > 0 and not is_unwanted():
                self._changed.wait(min(rest, LOOK))
            if self._share is not None:
                self._next = self._clock() + size / FASTEST / self._share
                if self._debt(self._share) < 0:  # who did nothing for a while has not saved it up
                    self._start_anew()

    def _rest(self) -> float:
        """Seconds until the share has made up for what was used, as far as can be seen now."""
        if self._share is None:
            return 0.0
        return max(self._next - self._clock(), self._debt(self._share) / self._share)

    def _debt(self, share: float) -> float:
        """Seconds of a processor that were used beyond the share."""
        return self._processor_time() - self._used_before - share * (self._clock() - self._since)

    def _start_anew(self) -> None:
        self._since, self._used_before = self._clock(), self._processor_time()
