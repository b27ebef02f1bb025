"""Sockets that systemd has opened, passed as systemd passes them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.server.test_restart import until_gone
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import TusClient

# What systemd does between fork and exec, as a program that is put before the server's command.
AS_SYSTEMD = """
import os, sys
count, fds, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
for target, fd in enumerate(fds, 3):
    os.dup2(int(fd), target)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES="tusd-py.socket")
os.execv(command[0], command)
"""


@contextmanager
def activated(upload_dir: Path, *sockets: socket.socket, args: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A server that was given these sockets; its output is in `upload_dir` + `.log`."""
    high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 50) for one in sockets]  # free ones: the tests may have that many open
    command = [sys.executable, "-m", "tusd_py", f"-upload-dir={upload_dir}", *args]
    start = [sys.executable, "-c", AS_SYSTEMD, str(len(sockets)), ",".join(map(str, high)), *command]
    with log_of(upload_dir).open("wb") as log:
        server = subprocess.Popen(start, pass_fds=high, stdout=log, stderr=log, start_new_session=True)
    for fd in high:
        os.close(fd)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)


def log_of(upload_dir: Path) -> Path:
    return upload_dir.with_suffix(".log")


def tcp() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_wait_for_the_start(tmp_path: Path, workers: int) -> None:
    """The first request comes before there is a server, which is what socket activation is for."""
    upload_dir, place = tmp_path / "data", str(tmp_path / "s")
    with tcp() as one, socket.socket(socket.AF_UNIX) as other:
        other.bind(place)
        other.listen()
        clients = [TusClient(one.getsockname()), TusClient(place)]
        early = [client.connect() for client in clients]
        for connection in early:
            connection.send_head("OPTIONS", "/files/")
        with activated(upload_dir, one, other, args=(f"-workers={workers}", "-port=1")) as server:
            assert [connection.answer("OPTIONS").status for connection in early] == [200, 200]
            for connection in early:
                connection.sock.close()
            path = clients[0].create(5)
            assert clients[1].patch(path, 0, b"hello").status == 204
            log = until(lambda: (text := log_of(upload_dir).read_text()) and "You can now" in text and text)
            port = one.getsockname()[1]
            assert f"Using 127.0.0.1:{port}, {place} as address to listen, as systemd has opened it." in log
            assert f"You can now upload files to: http://0.0.0.0:{port}/files/" in log
            server.terminate()
            assert server.wait(20) == 0
        # systemd's sockets stay systemd's: the next start finds them.
        assert Path(place).is_socket()
        with activated(upload_dir, one, other):
            assert clients[1].get(path).body == b"hello"


def test_a_restart_hands_them_on(tmp_path: Path) -> None:
    upload_dir = tmp_path / "data"
    with tcp() as one, activated(upload_dir, one) as server:
        client = TusClient(one.getsockname())
        path = client.create(5)
        server.send_signal(signal.SIGUSR2)
        assert server.wait(20) == 0
        assert client.patch(path, 0, b"hello").status == 204
        leader = int(re.findall(r"RestartComplete successor=(\d+)", log_of(upload_dir).read_text())[0])
        assert log_of(upload_dir).read_text().count("as systemd has opened it") == 2
        os.kill(leader, signal.SIGTERM)
        until_gone(leader)


def test_what_is_no_listener_is_refused(tmp_path: Path) -> None:
    with (
        tcp() as one,
        socket.create_connection(one.getsockname()) as connected,
        activated(tmp_path / "data", connected) as server,
    ):
        assert server.wait(20) == 1
    sentence = (
        "tusd-py: descriptor 3, given by socket activation, is no listening stream socket: expected ListenStream= and Accept=no"
    )
    assert log_of(tmp_path / "data").read_text() == sentence + "\n"


def test_variables_that_are_about_another_process_mean_nothing(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as server:
        assert server.client().create(1)


def test_by_systemds_own_tool(tmp_path: Path) -> None:
    """systemd-socket-activate passes sockets as systemd does, by systemd's own code."""
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("missing: systemd-socket-activate; run: sh tests/setup.sh all")
    place, upload_dir = str(tmp_path / "s"), tmp_path / "data"
    command = [tool, f"--listen={place}", sys.executable, "-m", "tusd_py", f"-upload-dir={upload_dir}"]
    with log_of(upload_dir).open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until(Path(place).is_socket)
        client = TusClient(place)
        until(lambda: "Listening on" in log_of(upload_dir).read_text())
        path = client.create(5)  # starts it
        assert client.patch(path, 0, b"hello").status == 204
        server.terminate()
        assert server.wait(20) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)
