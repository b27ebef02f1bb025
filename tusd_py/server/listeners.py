"""The sockets that clients connect to, bound before any process is forked."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tusd_py.server.errors import StartError, reason
from tusd_py.settings import Settings

__all__ = ["BACKLOG", "Listeners", "listen"]

# How many connections may wait to be accepted; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048

# What Go listens on for both address families at once.
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})


class Listeners:
    """One socket for each process, or one for all on a UNIX socket. `port` is the real one, None on a UNIX socket."""

    def __init__(self, sockets: list[socket.socket], port: int | None) -> None:
        self._sockets, self.port = sockets, port

    def __repr__(self) -> str:
        return f"<Listeners port={self.port} sockets={len(self._sockets)}>"

    def take(self, index: int) -> socket.socket:
        """The socket of the process with this index. Those of the others are closed here: call it after the fork."""
        mine = self._sockets[index % len(self._sockets)]
        for other in self._sockets:
            if other is not mine:
                other.close()
        return mine

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@contextmanager
def listen(settings: Settings) -> Iterator[Listeners]:
    """Bind what the settings ask for; a UNIX socket's file is removed at the end. Raises `StartError`."""
    if settings.unix_sock is not None:
        with _unix_socket(settings.unix_sock) as one:
            yield Listeners([one], None)
        return
    listeners = _tcp_sockets(settings.host, settings.port, settings.workers)
    try:
        yield listeners
    finally:
        listeners.close()


def _tcp_sockets(host: str, port: int, count: int) -> Listeners:
    try:
        first = _bound(host, port)
        real_port = first.getsockname()[1]
        if count == 1:
            return Listeners([first], real_port)
        # The first was bound without SO_REUSEPORT, or it would share the port with somebody else's server unnoticed.
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return Listeners([first, *(_bound(host, real_port, shared=True) for _ in range(count - 1))], real_port)
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


@contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    _remove_stale(path)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(str(path))
        # At once: whoever sees the file expects to be able to connect.
        one.listen(BACKLOG)
        made = _identity(path)
    except OSError as error:
        one.close()
        raise StartError(f"cannot listen on the UNIX socket {path}: {reason(error)}") from None
    try:
        yield one
    finally:
        one.close()
        _remove_own(path, made)


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
    try:
        if _identity(path) == made:
            path.unlink()
    except OSError:
        pass  # gone already
