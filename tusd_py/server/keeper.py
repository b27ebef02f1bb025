"""The first process of a container stays after a restart: with process 1 the container would end.

It serves nothing any more. It hands signals on to the process that leads, collects the dead as process 1 has to, and ends with
the status of the last leader. Each leader says so on a channel that is handed down with the listening sockets.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

from tusd_py.server.succession import RESTART_SIGNAL

__all__ = ["HANDED_ON", "keep"]

HANDED_ON = (signal.SIGINT, signal.SIGTERM, RESTART_SIGNAL)


def keep(channel: socket.socket) -> int:
    """Stay until the last leader has ended; its exit status. `HANDED_ON` must be blocked, so that none is missed before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    channel.setblocking(False)
    leader = _latest(channel, 0)
    while (status := _reaped(channel, leader)) is None:
        number = signal.sigwait([*HANDED_ON, signal.SIGCHLD])
        leader = _latest(channel, leader)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(leader, number)
    return status


def _latest(channel: socket.socket, leader: int) -> int:
    """Who leads: the last that said so."""
    with suppress(BlockingIOError):
        while message := channel.recv(64):
            leader = int(message)
    return leader


def _reaped(channel: socket.socket, leader: int) -> int | None:
    """Collect the dead; the status if the leader is among them."""
    dead = {}
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            dead[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    # A successor speaks up before its predecessor ends: it leads if it has.
    status = dead.get(_latest(channel, leader))
    return None if status is None else status if status >= 0 else 128 - status
