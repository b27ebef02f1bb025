"""Several processes on one port."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.conftest import StartServer
from tests.server.standin import STANDIN
from tests.support.server import ServerProcess
from tests.support.waiting import until


def worker_pids(server: ServerProcess) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()}


def answering(server: ServerProcess) -> int:
    """The process that answers a new connection."""
    return int(server.client().request("GET", "/pid").body)


def until_answered_by(server: ServerProcess, pids: set[int]) -> None:
    seen: set[int] = set()

    def all_seen() -> bool:
        seen.add(answering(server))
        return seen >= pids

    until(all_seen, what=f"{seen} should become {pids}")


def until_refused(server: ServerProcess) -> None:
    def refused() -> bool:
        try:
            server.client().connect().sock.close()
        except ConnectionRefusedError:
            return True
        return False

    until(refused)


def test_all_workers_serve_one_port(start_server: StartServer) -> None:
    server = start_server("-workers=3", prefix=STANDIN)
    pids = worker_pids(server)
    assert len(pids) == 3
    until_answered_by(server, pids)


def test_all_workers_serve_one_unix_socket(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("-workers=2", prefix=STANDIN, unix=str(tmp_path / "s"))
    assert answering(server) in until(lambda: worker_pids(server))


def test_a_worker_that_was_killed_is_replaced(start_server: StartServer) -> None:
    server = start_server("-workers=2", prefix=STANDIN)
    before = worker_pids(server)
    killed = before.pop()
    os.kill(killed, signal.SIGKILL)
    after = until(lambda: (now := worker_pids(server)) - before - {killed} and now)
    until_answered_by(server, after)
    assert before < after
    assert "event=WorkerDied worker=" in server.log and f"pid={killed} status=-9" in server.log
    assert server.log.count("You can now upload files") == 1
    assert server.terminate() == 0


def test_connections_wait_for_the_replacement(start_server: StartServer) -> None:
    server = start_server("-workers=2", prefix=STANDIN)
    for pid in worker_pids(server):
        os.kill(pid, signal.SIGKILL)
    assert answering(server) in until(lambda: worker_pids(server))


def test_workers_that_die_as_they_start_are_given_up(tmp_path: Path) -> None:
    command = [*STANDIN, "tusd_py", "-host=127.0.0.1", "-port=0", "-workers=2", f"-upload-dir={tmp_path}"]
    done = subprocess.run(command, env={"STANDIN": "dies"}, capture_output=True, text=True, timeout=60, check=False)
    sentence = "tusd-py: 8 workers in a row ended as they started (the last with status 9): giving up\n"
    assert (done.returncode, done.stderr) == (1, sentence)
    assert "You can now upload" not in done.stdout


def test_workers_do_not_outlive_their_parent(start_server: StartServer) -> None:
    server = start_server("-workers=2", prefix=STANDIN)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    until_refused(server)
    until(lambda: server.log.count("the application was closed") == 2)


def test_the_parent_imports_nothing_of_the_web_server(start_server: StartServer) -> None:
    server = start_server("-workers=2")
    mapped = Path(f"/proc/{server.pid}/maps").read_text()
    assert "uvloop" not in mapped and "httptools" not in mapped
