"""The sockets that clients connect to: bound, or inherited, before any process is forked."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tusd_py.server.errors import StartError, reason
from tusd_py.server.inheritance import ACTIVATED, Inheritance
from tusd_py.settings import Settings

__all__ = ["BACKLOG", "Listeners", "listen", "wanted_address"]

# How many connections may wait to be accepted; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048

# What Go listens on for both address families at once.
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})


class Listeners:
    """The sockets of all processes: some for each, or all for all where they are `shared` (UNIX sockets, systemd's).

    `port` is the real one, None without a TCP port. `address` says what the sockets are, for a successor that asks whether
    they are what its own settings want.
    """

    def __init__(self, sockets: list[socket.socket], address: str, *, count: int, shared: bool) -> None:
        self._sockets, self.address = sockets, address
        self._count, self._shared = count, shared
        self.port: int | None = next((one.getsockname()[1] for one in sockets if one.family != socket.AF_UNIX), None)
        self.handed_over = False
        self._file: tuple[Path, tuple[int, int, int]] | None = None

    def __repr__(self) -> str:
        return f"<Listeners address={self.address} sockets={len(self._sockets)}>"

    @property
    def shown(self) -> str:
        """Where they listen, for the log."""
        return ", ".join(_shown(one.getsockname()) for one in self._sockets)

    def filenos(self) -> list[int]:
        return [one.fileno() for one in self._sockets]

    def take(self, index: int) -> list[socket.socket]:
        """The sockets of the process with this index. Those of the others are closed here: call it after the fork."""
        mine = self._sockets if self._shared else self._sockets[index :: self._count]
        for other in self._sockets:
            if other not in mine:
                other.close()
        return mine

    def own_file(self, path: Path) -> None:
        """See to it that the UNIX socket's file is removed at the end, unless somebody else's has taken its place."""
        with suppress(OSError):  # somebody has removed it already
            self._file = (path, _identity(path))

    def hand_over(self, *, kept: bool) -> None:
        """Another process is in charge; with `kept` it listens on these very sockets."""
        self.handed_over = True
        if kept:
            self._file = None

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def end(self) -> None:
        self.close()
        if self._file is not None:
            _remove_own(*self._file)


def wanted_address(settings: Settings) -> str:
    """What the settings ask for, as `Listeners.address`."""
    return f"unix:{settings.unix_sock}" if settings.unix_sock is not None else f"tcp:{_joined(settings.host, settings.port)}"


@contextmanager
def listen(settings: Settings, inherited: Inheritance) -> Iterator[Listeners]:
    """Bind what the settings ask for, or go on with what was inherited; a UNIX socket's file is removed at the end.

    Inherited sockets that the settings do not ask for any more are closed. Raises `StartError`.
    """
    listeners = _listeners(settings, inherited)
    try:
        yield listeners
    finally:
        listeners.end()


def _listeners(settings: Settings, inherited: Inheritance) -> Listeners:
    address, count = wanted_address(settings), settings.workers
    given = list(inherited.sockets)
    if given and inherited.address == ACTIVATED:
        return Listeners(given, ACTIVATED, count=count, shared=True)
    if inherited.address != address:
        for one in given:
            one.close()
        given = []
    if settings.unix_sock is not None:
        listeners = Listeners(given or [_unix_socket(settings.unix_sock)], address, count=count, shared=True)
        listeners.own_file(settings.unix_sock)
        return listeners
    return Listeners(_tcp_sockets(given, settings.host, settings.port, count), address, count=count, shared=False)


def _tcp_sockets(given: list[socket.socket], host: str, port: int, count: int) -> list[socket.socket]:
    """At least one for each process. More than that, where there were more processes before, are all kept: connections wait."""
    try:
        sockets = given or [_bound(host, port)]
        real_port = sockets[0].getsockname()[1]
        if len(sockets) < count:
            # The first was bound without SO_REUSEPORT, or it would share the port with somebody else's server unnoticed.
            sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        missing = range(len(sockets), count)
        return [*sockets, *(_bound(host, real_port, shared=True) for _ in missing)]
    except (OSError, UnicodeError) as error:
        why = _WHY.get(error.errno or 0, reason(error)) if isinstance(error, OSError) else "expected a host name or an address"
        raise StartError(f"cannot listen on {_joined(host, port)}: {why}") from None


_WHY = {
    errno.EADDRINUSE: "another process has this port",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EACCES: "the system does not permit it (ports below 1024 usually need root or CAP_NET_BIND_SERVICE)",
}


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, address = _address(host, port)
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host not in _WILDCARDS)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


def _address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    if host in _WILDCARDS:
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("0.0.0.0", port))
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Like Go, prefer the IPv4 address of a name that has both.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(name: Any) -> str:
    """A socket's own name: a path, or a host and a port."""
    if isinstance(name, tuple):
        return _joined(name[0], name[1])
    return name.decode(errors="replace").replace("\0", "@") if isinstance(name, bytes) else str(name)


def _unix_socket(path: Path) -> socket.socket:
    _remove_stale(path)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(str(path))
        # At once: whoever sees the file expects to be able to connect.
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise StartError(f"cannot listen on the UNIX socket {path}: {reason(error)}") from None
    return one


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or bind() will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise StartError(f"cannot listen on {path}: it exists and is not a socket")
    if _answers(path):
        raise StartError(f"cannot listen on {path}: another process listens there")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Not blocking: a listener with a full backlog is a listener, and not to be waited for.
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN)


def _identity(path: Path) -> tuple[int, int, int]:
    """Tells one file from another at the same place later on. The inode alone does not: it is given out again at once."""
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove_own(path: Path, made: tuple[int, int, int]) -> None:
    """Remove the socket's file, unless somebody has put another in its place."""
    with suppress(OSError):  # gone already
        if _identity(path) == made:
            path.unlink()
