"""How the ingest process stays out of the way of others."""

from __future__ import annotations

import contextlib
import os
import signal

__all__ = ["ignore_signals", "yield_to_others"]


def yield_to_others() -> None:
    """Take processors and disks that nobody else wants: uploads go first.

    The lowest niceness gets a 68th of what a normal process gets beside it, so ingest never comes to a stop, as it could under
    SCHED_IDLE. From it the kernel derives the lowest best-effort class for disks (ioprio_set(2)). It counts within the same
    session (sched(7), autogroup): so the process has to stay in its parent's. Under SCHED_BATCH its wake-ups do not push
    others aside (sched(7)).
    """
    os.nice(19)
    with contextlib.suppress(OSError):  # a sandbox may not allow it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def ignore_signals() -> None:
    """Those that a terminal or a service manager sends to a whole group of processes are for the server, which decides how long
    ingest goes on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
