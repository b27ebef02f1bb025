"""Signals: what happens to running requests, and the exit status."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.server.standin import STANDIN
from tests.server.test_workers import worker_pids
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import Connection

STOPS = [signal.SIGTERM, signal.SIGINT]


def running(server: ServerProcess, path: str) -> Connection:
    """A connection whose request is being worked on."""
    connection = server.client().connect()
    connection.send_head("GET", path)
    connection._until(b"x-running: yes")
    return connection


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_that_was_asked_for_is_status_0(start_server: StartServer, number: signal.Signals, workers: int) -> None:
    server = start_server(f"-workers={workers}", prefix=STANDIN)
    server.signal(number)
    assert server.wait() == 0
    assert server.log.count("the application was closed") == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_connection_does_not_hold_up_the_end(start_server: StartServer, workers: int) -> None:
    server = start_server("-shutdown-timeout=1h", f"-workers={workers}")
    with server.client().connect() as connection:
        assert connection.request("OPTIONS", "/files/").status == 200
        assert server.terminate() == 0
        assert connection.until_closed() == b""


@pytest.mark.parametrize("workers", [1, 2])
def test_running_requests_may_end(start_server: StartServer, workers: int) -> None:
    server = start_server("-shutdown-timeout=1h", f"-workers={workers}", prefix=STANDIN)
    with running(server, "/until-stopped") as connection:
        server.signal(signal.SIGTERM)
        assert b"stopped" in connection.until_closed()
    assert server.wait() == 0


def test_a_running_upload_is_cut_and_answered(start_server: StartServer) -> None:
    server = start_server("-shutdown-timeout=1h")
    client = server.client()
    path = client.create(10)
    with client.connect() as connection:
        headers: dict[str, object] = {
            "Upload-Offset": 0,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": 10,
        }
        connection.send_head("PATCH", path, headers | {"Expect": "100-continue"})
        connection._until(b"100 Continue\r\n\r\n")
        connection.send(b"12345")
        until(lambda: client.request("HEAD", path, tus=False).offset == 5)
        server.signal(signal.SIGTERM)
        assert connection.answer("PATCH").status == 503
    assert server.wait() == 0
    assert (Path(server.upload_dir) / path.rsplit("/", 1)[1]).read_bytes() == b"12345"


@pytest.mark.parametrize("timeout", ["0", "50ms"])
@pytest.mark.parametrize("path", ["/for-ever", "/deaf"])
def test_requests_that_do_not_end_are_cut(start_server: StartServer, timeout: str, path: str) -> None:
    server = start_server(f"-shutdown-timeout={timeout}", prefix=STANDIN)
    with running(server, path) as connection:
        server.signal(signal.SIGTERM)
        assert b"0\r\n\r\n" not in connection.until_closed()
    assert server.wait() == 0
    assert "event=ShutdownTimeout requests=1 connections=1" in server.log


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_second_signal_ends_it_at_once(start_server: StartServer, number: signal.Signals, workers: int) -> None:
    server = start_server("-shutdown-timeout=1h", f"-workers={workers}", prefix=STANDIN)
    with running(server, "/for-ever") as connection:
        server.signal(number)
        until(lambda: server.log.count("event=ShutdownStarted") == workers)
        server.signal(number)
        assert server.wait() == 1
        connection.until_closed()


def test_ctrl_c_reaches_the_whole_group_and_counts_once(start_server: StartServer) -> None:
    server = start_server("-shutdown-timeout=1h", "-workers=2", prefix=STANDIN)
    with running(server, "/until-stopped") as connection:
        os.killpg(server.pid, signal.SIGINT)
        assert b"stopped" in connection.until_closed()
    assert server.wait() == 0


def test_a_sigterm_to_the_whole_group_counts_once(start_server: StartServer) -> None:
    """As systemd sends it with KillMode=control-group."""
    server = start_server("-shutdown-timeout=1h", "-workers=2", prefix=STANDIN)
    with running(server, "/until-stopped") as connection:
        os.killpg(server.pid, signal.SIGTERM)
        assert b"stopped" in connection.until_closed()
    assert server.wait() == 0
    assert "event=WorkerDied" not in server.log


@pytest.mark.parametrize("workers", [1, 2])
def test_new_connections_are_refused_while_it_stops(start_server: StartServer, workers: int) -> None:
    server = start_server("-shutdown-timeout=1h", f"-workers={workers}", prefix=STANDIN)
    with running(server, "/for-ever"):
        server.signal(signal.SIGTERM)
        until(lambda: server.log.count("the application was closed") == workers - 1)
        # Twenty: the kernel spreads connections over all sockets that are still open, whoever holds them.
        until(lambda: all(refuses(server) for _ in range(20)))


def refuses(server: ServerProcess) -> bool:
    try:
        server.client().connect().sock.close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_worker_stops_in_peace_however_often_it_is_told(start_server: StartServer) -> None:
    """What is sent to the whole group reaches a worker twice: directly and from its parent."""
    server = start_server("-shutdown-timeout=1h", "-workers=2", prefix=STANDIN)
    pids = worker_pids(server)
    with running(server, "/until-file") as connection:
        os.killpg(server.pid, signal.SIGINT)
        until(lambda: server.log.count("the application was closed") == 1)
        for pid in pids & worker_pids(server):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        (Path(server.upload_dir) / "go").touch()
        assert b"done" in connection.until_closed()
    assert server.wait() == 0
