"""What systemd is told, on a socket such as it listens on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.server.standin import STANDIN
from tests.server.test_restart import leaders, serve, until_gone
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tusd_py.server.notify import Notifier

__all__ = ["serve"]

both = pytest.mark.parametrize("workers", [1, 2])


class Systemd:
    """Takes messages and knows, unlike a pipe, who sent each (SO_PASSCRED)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.sock.settimeout(15)

    def next(self) -> tuple[int, dict[str, str]]:
        data, ancillary, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(12))
        pid = int.from_bytes(ancillary[0][2][:4], "little")
        return pid, dict(line.split("=", 1) for line in data.decode().split("\n"))

    def until(self, name: str) -> tuple[int, dict[str, str]]:
        while name not in (message := self.next())[1]:
            pass
        return message


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@tusd-py-test-{os.getpid()}")
    yield made
    made.sock.close()


def start(serve: StartServer, systemd: Systemd, workers: int, **env: str) -> ServerProcess:
    return serve(f"-workers={workers}", prefix=STANDIN, env={"NOTIFY_SOCKET": systemd.address, **env})


@both
def test_start_and_stop(serve: StartServer, systemd: Systemd, workers: int) -> None:
    server = start(serve, systemd, workers)
    assert systemd.next() == (server.pid, {"READY": "1"})
    assert server.terminate() == 0
    assert systemd.next() == (server.pid, {"STOPPING": "1"})


@both
def test_a_restart_names_the_new_main_process(serve: StartServer, systemd: Systemd, workers: int) -> None:
    server = start(serve, systemd, workers)
    systemd.until("READY")
    server.signal(signal.SIGUSR2)
    sender, reloading = systemd.next()
    assert (sender, reloading["RELOADING"]) == (server.pid, "1") and reloading["MONOTONIC_USEC"].isdecimal()
    # It is the former main process that says so: with NotifyAccess=main systemd listens to no other.
    sender, message = systemd.next()
    (leader,) = until(lambda: leaders(server))
    assert (sender, message) == (server.pid, {"MAINPID": str(leader), "READY": "1"})
    assert server.wait() == 0
    os.kill(leader, signal.SIGTERM)
    assert systemd.next() == (leader, {"STOPPING": "1"})
    until_gone(leader)


@both
def test_a_restart_that_fails_ends_the_reload(serve: StartServer, systemd: Systemd, workers: int) -> None:
    server = start(serve, systemd, workers)
    systemd.until("READY")
    (server.upload_dir / "hold").touch()
    server.signal(signal.SIGUSR2)
    systemd.until("RELOADING")
    pid = int(until(lambda: server.log.partition("event=RestartStarted successor=")[2].split("\n")[0]))
    os.kill(pid, signal.SIGKILL)
    assert systemd.next() == (server.pid, {"READY": "1"})


@both
def test_the_watchdog_is_fed_by_whoever_is_the_main_process(serve: StartServer, systemd: Systemd, workers: int) -> None:
    server = start(serve, systemd, workers, WATCHDOG_USEC="200000")
    for _ in range(3):
        assert systemd.until("WATCHDOG")[0] == server.pid
    server.signal(signal.SIGUSR2)
    leader = int(systemd.until("MAINPID")[1]["MAINPID"])
    assert systemd.until("WATCHDOG")[0] == leader
    assert systemd.until("WATCHDOG")[0] == leader


def test_a_watchdog_that_is_meant_for_another_process() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    assert Notifier.of(environ).watchdog is None
    assert Notifier.of(environ, successor=True).watchdog == 1.0
    assert Notifier.of({**environ, "WATCHDOG_PID": str(os.getpid())}).interval == 0.5


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/notify"])
def test_nobody_to_tell_is_no_failure(serve: StartServer, address: str) -> None:
    server = serve(env={"NOTIFY_SOCKET": address})
    assert server.client().create(1)
    assert server.terminate() == 0
