"""Tells systemd how the server is doing: sd_notify(3), which is a line of text in a datagram.

Without `$NOTIFY_SOCKET` (no systemd, or a unit without `Type=notify`) nothing is sent. A message that cannot be delivered is
lost: systemd is told what is the case, and asked for nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Notifier"]


@dataclass(frozen=True, slots=True)
class Notifier:
    """`address` is that of systemd's socket; `watchdog` is how many seconds without `alive` systemd puts up with."""

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], *, successor: bool = False) -> Notifier:
        """As the environment says. A `successor` inherits the variables of the process that it follows, pid included."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        owner = environ.get("WATCHDOG_PID", "")
        mine = successor or owner in ("", str(os.getpid()))
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog = int(microseconds) / 1e6 if mine and microseconds.isdecimal() and int(microseconds) else None
        return cls(address, watchdog)

    @property
    def interval(self) -> float | None:
        """Seconds between two calls of `alive`: half of what systemd allows, as sd_watchdog_enabled(3) recommends."""
        return None if self.watchdog is None else self.watchdog / 2

    def ready(self) -> None:
        """Connections are accepted; also the end of what `reloading` began."""
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """A successor is being started. Ends with `ready` or `succeeded_by`."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def succeeded_by(self, pid: int) -> None:
        """That process is the service from now on; the caller has nothing more to say."""
        self._send(f"MAINPID={pid}\nREADY=1")

    def alive(self) -> None:
        if self.watchdog is not None:
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if self.address is None:
            return
        # An abstract address begins with a NUL, which environment variables write as @.
        target = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.sendto(text.encode(), target)
