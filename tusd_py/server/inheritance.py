"""Listening sockets that this process did not open: those of systemd, or of the process whose place it takes.

systemd's protocol is sd_listen_fds(3). Between our own processes one variable says the same, and where to report to. Its form
is private to this package, but the two sides may be of different versions: unknown keys are ignored.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field

from tusd_py.server.errors import StartError

__all__ = ["ACTIVATED", "HANDOVER", "Inheritance", "Predecessor", "inherit"]

HANDOVER = "_TUSD_PY_HANDOVER"
"""Not TUSD_PY_...: those are settings."""

ACTIVATED = "systemd"
"""The `address` of sockets that count whatever the settings say."""

_FIRST_FD = 3


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The process whose place is to be taken, waiting to hear how the start went."""

    channel: socket.socket
    keeper: socket.socket | None = None  # of the first process of all, where that has to stay: `tusd_py.server.keeper`

    def ready(self, *, kept: bool) -> None:
        """Connections are accepted; `kept` says that they are those of the inherited sockets."""
        if self.keeper is not None:
            with suppress(OSError):
                self.keeper.send(str(os.getpid()).encode())
        self._tell({"ready": True, "kept": kept})

    def failed(self, sentence: str) -> None:
        self._tell({"ready": False, "reason": sentence})

    def _tell(self, message: dict[str, object]) -> None:
        with suppress(OSError):  # it has gone, or does not wait any longer
            self.channel.send(json.dumps(message).encode())
        self.channel.close()


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What was handed to this process. `address` tells what the sockets are: see `tusd_py.server.listeners.wanted_address`."""

    sockets: list[socket.socket] = field(default_factory=list)
    address: str = ""
    predecessor: Predecessor | None = None

    def close(self) -> None:
        """Of a process that ends, or has not begun."""
        for one in self.sockets:
            one.close()


def inherit(environ: MutableMapping[str, str]) -> Inheritance:
    """Take what there is; the variables are removed, so that no child believes they are about it. Raises `StartError`."""
    ours = environ.pop(HANDOVER, None)
    systemds = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if ours is not None:
        return _from_predecessor(ours)
    if systemds["LISTEN_PID"] == str(os.getpid()) and systemds["LISTEN_FDS"] not in ("", "0"):
        return _from_systemd(systemds["LISTEN_FDS"])
    return Inheritance()


def _from_predecessor(text: str) -> Inheritance:
    facts = json.loads(text)
    keeper = facts.get("keeper")
    predecessor = Predecessor(_taken(facts["channel"]), None if keeper is None else _taken(keeper))
    return Inheritance([_taken(fd) for fd in facts["listeners"]], facts["address"], predecessor)


def _from_systemd(count: str) -> Inheritance:
    if not count.isdecimal():
        raise StartError(f"LISTEN_FDS is {count!r}: expected a number of sockets")
    sockets = [_activated(fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))]
    return Inheritance(sockets, ACTIVATED)


def _activated(fd: int) -> socket.socket:
    try:
        one = _taken(fd)
        listening = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = False
    if not listening:
        raise StartError(
            f"descriptor {fd}, given by socket activation, is no listening stream socket: expected ListenStream= and Accept=no"
        )
    return one


def _taken(fd: int) -> socket.socket:
    """The socket behind the descriptor, not blocking, for this process alone: not for programs that it starts."""
    one = socket.socket(fileno=fd)
    one.setblocking(False)
    one.set_inheritable(False)
    return one
