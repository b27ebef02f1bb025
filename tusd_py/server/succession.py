"""Starting the process that takes this one's place: the same command line, which finds new code, and the same sockets.

A successor inherits the listening sockets themselves, not only their addresses: connections that wait to be accepted wait on
in the same queue, so none is refused or reset, whichever process ends when.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass

from tusd_py.observability.logs import log_event
from tusd_py.server.inheritance import HANDOVER
from tusd_py.server.listeners import Listeners
from tusd_py.server.notify import Notifier

__all__ = ["MESSAGE", "RESTART_SIGNAL", "START_TIMEOUT", "Succession", "Successor", "Verdict"]

log = logging.getLogger("tusd_py.server")

# nginx's and gunicorn's for the same.
RESTART_SIGNAL = signal.SIGUSR2

# Seconds that a successor has until it accepts connections: it may have to import from a cold disk.
START_TIMEOUT = 60.0

# Of a message between the two, in bytes.
MESSAGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a start. `kept`: the successor listens on the inherited sockets, not on others of its own."""

    ready: bool
    kept: bool = False
    reason: str = ""

    @classmethod
    def of(cls, message: bytes) -> Verdict:
        """As the successor said; an empty message is its end."""
        if not message:
            return cls(False, reason="it ended without a word: see what it has printed")
        try:
            facts = json.loads(message)
            return cls(facts["ready"], facts.get("kept", False), facts.get("reason", ""))
        except (ValueError, KeyError, TypeError):  # of a version that speaks otherwise
            return cls(False, reason=f"it said something that is not understood: {message[:100]!r}")


@dataclass(frozen=True, slots=True)
class Successor:
    """A process that is starting. `channel` is readable when it has something to say, or has ended."""

    pid: int
    channel: socket.socket

    def read(self) -> Verdict | None:
        """The verdict, None while there is none."""
        try:
            return Verdict.of(self.channel.recv(MESSAGE))
        except BlockingIOError:
            return None

    def signal(self, number: signal.Signals) -> None:
        """It must not have been reaped yet."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class Succession:
    """How this process is followed by another. `keeper`: where leaders report, if a first process stays behind them."""

    listeners: Listeners
    notifier: Notifier
    keeper: socket.socket | None = None

    def start(self) -> Successor | None:
        """Start a successor; None, and a line in the log, where the system does not let us."""
        self.notifier.reloading()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                successor = Successor(self._spawn(theirs), ours)
            except OSError as error:
                ours.close()
                self.conclude(0, Verdict(False, reason=f"cannot start {sys.executable}: {error.strerror}"))
                return None
        log_event(log, logging.INFO, "RestartStarted", successor=successor.pid)
        return successor

    def conclude(self, pid: int, verdict: Verdict) -> bool:
        """Tell the log and systemd; whether that process serves from now on, in which case this one is to let go."""
        if verdict.ready:
            log_event(log, logging.INFO, "RestartComplete", successor=pid)
            self.listeners.hand_over(kept=verdict.kept)
            self.notifier.succeeded_by(pid)
        else:
            log_event(log, logging.ERROR, "RestartFailed", reason=verdict.reason)
            self.notifier.ready()
        return verdict.ready

    def _spawn(self, channel: socket.socket) -> int:
        listeners = self.listeners.filenos()
        facts = {"channel": channel.fileno(), "listeners": listeners, "address": self.listeners.address}
        passed = [channel.fileno(), *listeners]
        if self.keeper is not None:
            facts["keeper"] = self.keeper.fileno()
            passed.append(self.keeper.fileno())
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            {**os.environ, HANDOVER: json.dumps(facts)},
            # Onto themselves: that is how a descriptor which would be closed is kept open.
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in passed],
            # It must not die of a signal to restart before it can understand one.
            setsigmask=[RESTART_SIGNAL],
        )
