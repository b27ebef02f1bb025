"""Signals for code that waits in `select` instead of in an event loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

__all__ = ["WakeUp"]


class WakeUp:
    """Makes signals readable: their numbers arrive on a descriptor that `select` can wait for together with others."""

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self._numbers = numbers

    def __enter__(self) -> WakeUp:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers = {number: signal.signal(number, _noted) for number in self._numbers}
        self._fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        signal.set_wakeup_fd(self._fd)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.reader)
        os.close(self._writer)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """A handler there must be, or the number would not be written."""
