"""SIGUSR2: a successor takes the sockets over while clients connect and uploads run."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import StartServer
from tests.interop.clients import JsClient, assert_stored, make_file
from tests.server.standin import STANDIN
from tests.server.test_tls import client_context
from tests.server.test_tls import pair as pair
from tests.server.test_unix_socket import connects
from tests.server.test_workers import until_refused, worker_pids
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until
from tests.support.wire import OFFSET_STREAM, Connection, TusClient

MIB = 1024 * 1024

both = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def serve(start_server: StartServer) -> Iterator[StartServer]:
    """`start_server`, that also ends the successors of its servers."""
    servers: list[ServerProcess] = []

    def start(*args: str, **options: object) -> ServerProcess:
        servers.append(start_server(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # they are all of its group


def leaders(server: ServerProcess) -> list[int]:
    return [int(pid) for pid in re.findall(r"event=RestartComplete successor=(\d+)", server.log)]


def restart(server: ServerProcess, leader: int | None = None) -> int:
    """Have the leader replaced; the pid of the new one."""
    before = leaders(server)
    os.kill(leader or server.pid, signal.SIGUSR2)
    until(lambda: leaders(server) != before, what=server.log)
    return leaders(server)[-1]


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wake_ups(pid: int) -> int:
    """How often the process has waited for something and gone on."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return 0


def until_gone(pid: int) -> None:
    until(lambda: not alive(pid), what=f"{pid} goes on")


def fails_to_restart(server: ServerProcess) -> str:
    """The reason in the log, once the server has given up its attempt."""
    server.signal(signal.SIGUSR2)
    return until(lambda: re.search(r'event=RestartFailed reason="?([^"\n]+)', server.log))[1]


Connect = Callable[[], Connection]


class Visitors:
    """Clients that ask for something as fast as they can: two on ever new connections, two on one for as long as it is kept."""

    def __init__(self, connect: Connect) -> None:
        self.connect, self.failures, self.answers = connect, list[str](), [0, 0, 0, 0]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(n, n % 2 == 0)) for n in range(4)]

    def _visit(self, number: int, keep: bool) -> None:
        connection: Connection | None = None
        while not self._stop.is_set():
            try:
                connection = connection or self.connect()
                answer = connection.request("OPTIONS", "/files/")
                assert answer.status == 200, answer
                if not keep or answer.headers.get("connection") == "close":
                    connection.sock.close()
                    connection = None
            except (OSError, AssertionError) as failure:
                self.failures.append(repr(failure))
                if connection:
                    connection.sock.close()
                connection = None
            self.answers[number] += 1
        if connection:
            connection.sock.close()

    def more(self) -> None:
        """Wait until each has been answered again."""
        before = list(self.answers)
        until(lambda: all(now > then + 5 for now, then in zip(self.answers, before, strict=True)), what=self.failures[:5])

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


def tls_connection(server: ServerProcess) -> Connection:
    connection = Connection(server.address)
    connection.sock = client_context(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3).wrap_socket(connection.sock)
    return connection


@both
@pytest.mark.parametrize("how", ["tcp", "unix", "tls"])
def test_no_connection_is_refused_or_reset(
    serve: StartServer, pair: tuple[Path, Path], tmp_path: Path, workers: int, how: str
) -> None:
    args = [f"-tls-certificate={pair[0]}", f"-tls-key={pair[1]}"] if how == "tls" else []
    server = serve(f"-workers={workers}", *args, unix=str(tmp_path / "s") if how == "unix" else None)
    until(lambda: "You can now" in server.log or connects(tmp_path / "s"))
    connect = (lambda: tls_connection(server)) if how == "tls" else server.client().connect
    leader = server.pid
    with Visitors(connect) as visitors:
        if how == "unix":
            visitors.more()
        for _ in range(3):
            former, leader = leader, restart(server, leader)
            visitors.more()
            until_gone(former)
            visitors.more()
    assert not visitors.failures
    os.kill(leader, signal.SIGTERM)
    until_gone(leader)
    assert "Traceback" not in server.log and "WorkerDied" not in server.log


@both
def test_what_was_accepted_before_is_answered(serve: StartServer, workers: int) -> None:
    """A connection on which nothing has come yet, and one between two requests."""
    server = serve(f"-workers={workers}", "-shutdown-timeout=1h")
    with server.client().connect() as fresh, server.client().connect() as idle:
        assert "connection" not in idle.request("OPTIONS", "/files/").headers
        restart(server)
        until(lambda: server.log.count("event=ShutdownStarted") == workers)
        for connection in (fresh, idle):
            answer = connection.request("OPTIONS", "/files/")
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert connection.is_closed()
    assert server.wait() == 0


def finishes(client: ssl.SSLObject, down: ssl.MemoryBIO, connection: Connection) -> bool:
    while True:
        try:
            client.do_handshake()
            return True
        except ssl.SSLWantReadError:
            if not down.write(connection.sock.recv(1 << 16)):
                return False


def test_a_tls_handshake_that_had_begun_is_finished(serve: StartServer, pair: tuple[Path, Path]) -> None:
    server = serve(f"-tls-certificate={pair[0]}", f"-tls-key={pair[1]}", "-shutdown-timeout=1h")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3).wrap_bio(down, up)
    with server.client().connect() as connection:
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        connection.send(up.read())
        down.write(connection.sock.recv(1 << 16))  # the server's half is here, so the server has accepted us
        restart(server)
        until(lambda: "event=ShutdownStarted" in server.log)
        before = wake_ups(server.pid)
        until(lambda: wake_ups(server.pid) > before + 3 or not alive(server.pid))  # it has looked for what is left, repeatedly
        assert finishes(client, down, connection)
        client.write(b"OPTIONS /files/ HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n")
        connection.send(up.read())
        answer = b""
        while b"\r\n\r\n" not in answer:
            assert down.write(connection.sock.recv(1 << 16))
            with suppress(ssl.SSLWantReadError):
                while piece := client.read(1 << 16):
                    answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer
    assert server.wait() == 0


@both
def test_a_running_upload_may_end_at_the_old_process(serve: StartServer, workers: int) -> None:
    server = serve(f"-workers={workers}", "-shutdown-timeout=1h")
    path = server.client().create(10)
    with begin_patch(server.client(), path, 0, 10) as connection:
        connection.send(b"12345")
        restart(server)
        until(lambda: server.log.count("event=ShutdownStarted") == workers)
        connection.send(b"67890")
        assert connection.answer("PATCH").status == 204
    assert server.wait() == 0
    assert server.client().get(path).body == b"1234567890"


@both
def test_a_long_upload_is_cut_and_goes_on_at_the_new_process(serve: StartServer, workers: int) -> None:
    server = serve(f"-workers={workers}", "-shutdown-timeout=200ms")
    path = server.client().create(10)
    with begin_patch(server.client(), path, 0, 10) as connection:
        connection.send(b"12345")
        restart(server)
        answer = connection.answer("PATCH")
        assert (answer.status, answer.body.split(b":")[0]) == (503, b"ERR_SERVER_SHUTDOWN")
    assert server.wait() == 0
    assert server.client().offset(path) == 5
    assert server.client().patch(path, 5, b"67890").status == 204


@both
def test_the_new_process_takes_an_upload_from_the_old_one(serve: StartServer, workers: int) -> None:
    server = serve(f"-workers={workers}", "-shutdown-timeout=1h")
    path = server.client().create(10)
    with begin_patch(server.client(), path, 0, 10) as connection:
        connection.send(b"12345")
        restart(server)
        until(lambda: server.log.count("event=ShutdownStarted") == workers)
        until(lambda: server.client().offset(path) == 5)  # a tus HEAD asks the holder to let go
        assert connection.answer("PATCH").status == 400
        assert server.client().patch(path, 5, b"67890").status == 204
    assert server.wait() == 0


@both
def test_tus_js_client_survives(serve: StartServer, tmp_path: Path, workers: int) -> None:
    server = serve(f"-workers={workers}", "-shutdown-timeout=100ms")
    source = make_file(tmp_path / "source.bin", 20 * MIB + 1)
    with JsClient(source, pause_at=7 * MIB, endpoint=server.url, retryDelays=[0, 100, 300]) as client:
        client.until("paused")
        restart(server)
        url = client.finish()
        assert [one["status"] for one in client.responses("PATCH")] == [503, 204]
    assert_stored(server.upload_dir, url, source)


def test_tuspy_survives_one_restart_after_another(serve: StartServer, tmp_path: Path) -> None:
    server = serve("-shutdown-timeout=50ms")
    source = make_file(tmp_path / "source.bin", 60 * MIB + 1)
    script = (
        "import sys; from tusclient.client import TusClient;"
        "u = TusClient(sys.argv[1]).uploader(sys.argv[2], chunk_size=1 << 18, retries=10, retry_delay=0);"
        "u.upload(); print(u.url)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, server.url, str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        until(lambda: any(path.stat().st_size for path in server.upload_dir.glob("*") if path.is_file()))
        leader = restart(server, restart(server))
        stdout, stderr = client.communicate(timeout=60)
    assert client.returncode == 0, stderr
    assert_stored(server.upload_dir, stdout.strip(), source)
    assert alive(leader)


@both
def test_a_file_that_is_downloaded_arrives_whole(serve: StartServer, workers: int) -> None:
    server = serve(f"-workers={workers}", "-shutdown-timeout=1h")
    data = os.urandom(20 * MIB)
    path = server.client().create(len(data), data)
    with server.client().connect() as connection:
        connection.send_head("GET", path)
        head = connection._until(b"\r\n\r\n")
        restart(server)
        until(lambda: server.log.count("event=ShutdownStarted") == workers)
        assert head.startswith(b"HTTP/1.1 200") and connection._exactly(len(data)) == data
    assert server.wait() == 0


# What the successor finds


@both
@pytest.mark.parametrize("after", [1, 3])
def test_another_number_of_workers(serve: StartServer, tmp_path: Path, workers: int, after: int) -> None:
    config = tmp_path / "tusd-py.toml"
    config.write_text(f"workers = {workers}\n")
    server = serve(f"-config={config}", prefix=STANDIN)
    config.write_text(f"workers = {after}\n")
    leader = restart(server)
    assert server.wait() == 0
    expected = {leader} if after == 1 else children(leader)
    assert len(expected) == after
    seen: set[int] = set()
    until(lambda: seen.add(int(server.client().request("GET", "/pid").body)) or seen == expected)  # type: ignore[func-returns-value]


def children(pid: int) -> set[int]:
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_another_port(serve: StartServer, tmp_path: Path) -> None:
    config = tmp_path / "tusd-py.toml"
    config.write_text("")
    with ServerProcess(tmp_path / "data", f"-config={config}") as first:
        first.listen = []
    config.write_text('host = "127.0.0.1"\nport = 0\n')
    server = ServerProcess(tmp_path / "data", f"-config={config}")
    server.listen = []
    with server:
        before = server.port
        config.write_text(f'host = "localhost"\nport = {before}\n')
        assert "another process has this port" in fails_to_restart(server)  # it is ours, but of another address
        config.write_text('host = "localhost"\nport = 0\n')
        leader = restart(server)
        assert server.wait() == 0
        after = int(re.findall(r"You can now upload files to: http://localhost:(\d+)/", server.log)[-1])
        assert after != before
        until_refused(server)
        assert TusClient(("127.0.0.1", after)).create(1)
        os.kill(leader, signal.SIGTERM)
        until_gone(leader)


@both
def test_the_unix_sockets_file_belongs_to_who_listens(serve: StartServer, tmp_path: Path, workers: int) -> None:
    place = tmp_path / "s"
    server = serve(f"-workers={workers}", unix=str(place), prefix=STANDIN)
    until(lambda: int(server.client().request("GET", "/pid").body))
    before = place.stat()
    leader = restart(server)
    assert server.wait() == 0
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    os.kill(leader, signal.SIGTERM)
    until(lambda: not place.exists())
    until_gone(leader)


# When it fails


@both
def test_settings_that_are_refused(serve: StartServer, tmp_path: Path, workers: int) -> None:
    config = tmp_path / "tusd-py.toml"
    config.write_text("")
    server = serve(f"-config={config}", f"-workers={workers}")
    config.write_text("no-such-thing = 1")
    assert fails_to_restart(server) == "it ended without a word: see what it has printed"
    assert 'tusd-py: unknown key "no-such-thing"' in server.log
    assert server.client().create(1)
    config.write_text("")
    restart(server)
    assert server.client().create(1)
    assert server.wait() == 0


@both
def test_a_start_that_fails(serve: StartServer, pair: tuple[Path, Path], tmp_path: Path, workers: int) -> None:
    certificate = tmp_path / "own.pem"
    certificate.write_bytes(pair[0].read_bytes())
    server = serve(f"-tls-certificate={certificate}", f"-tls-key={pair[1]}", f"-workers={workers}")
    certificate.unlink()
    assert fails_to_restart(server) == f"cannot read the TLS certificate {certificate}: no such file or directory"
    with tls_connection(server) as connection:
        assert connection.request("OPTIONS", "/files/").status == 200
    assert server.terminate() == 0


@both
def test_a_successor_that_dies(serve: StartServer, workers: int) -> None:
    server = serve(f"-workers={workers}", prefix=STANDIN)
    hold = server.upload_dir / "hold"
    hold.touch()
    server.signal(signal.SIGUSR2)
    successor = int(until(lambda: re.search(r"event=RestartStarted successor=(\d+)", server.log))[1])
    server.signal(signal.SIGUSR2)
    until(lambda: "event=RestartIgnored" in server.log)
    os.kill(successor, signal.SIGKILL)
    until(lambda: "event=RestartFailed" in server.log)
    hold.unlink()
    assert server.client().request("GET", "/pid").status == 200
    restart(server)
    assert server.wait() == 0


@both
def test_a_stop_while_a_successor_starts_stops_both(serve: StartServer, workers: int) -> None:
    server = serve(f"-workers={workers}", prefix=STANDIN)
    (server.upload_dir / "hold").touch()
    server.signal(signal.SIGUSR2)
    successor = int(until(lambda: re.search(r"event=RestartStarted successor=(\d+)", server.log))[1])
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    (server.upload_dir / "hold").unlink()
    until_gone(successor)
    until_refused(server)


@both
def test_a_stop_while_the_last_requests_end(serve: StartServer, workers: int) -> None:
    """The first SIGTERM is a stop like any other; the second ends it at once."""
    server = serve(f"-workers={workers}", "-shutdown-timeout=1h")
    path = server.client().create(10)
    with begin_patch(server.client(), path, 0, 10) as connection:
        restart(server)
        until(lambda: server.log.count("event=ShutdownStarted") == workers)
        server.signal(signal.SIGTERM)
        assert connection.answer("PATCH").status == 503
    assert server.wait() == 0


def test_a_signal_to_all_of_the_group_is_one_restart(serve: StartServer) -> None:
    server = serve("-workers=2", prefix=STANDIN)
    workers = worker_pids(server)
    os.killpg(server.pid, signal.SIGUSR2)
    until(lambda: leaders(server))
    assert server.wait() == 0
    assert len(leaders(server)) == 1
    assert not any(alive(pid) for pid in workers)


# In a container


@pytest.mark.root
def test_process_1_stays(tmp_path: Path) -> None:
    """With it a container would end. It hands signals on and ends with its last successor."""
    unshare = ("unshare", "--pid", "--fork", "--kill-child")
    if os.geteuid() or subprocess.run([*unshare, "true"], capture_output=True, check=False, timeout=20).returncode:
        pytest.skip("no permission to make a PID namespace")
    with ServerProcess(tmp_path / "data", "-shutdown-timeout=0", prefix=unshare) as server:
        (first,) = children(server.pid)
        for number in (1, 2):
            os.kill(first, signal.SIGUSR2)
            until(lambda number=number: server.log.count("event=ShutdownComplete") == number)  # type: ignore[misc]
            assert server.client().create(1)
        assert alive(first)
        until(lambda: len(children(first)) == 1)
        os.kill(first, signal.SIGTERM)
        assert server.wait() == 0
        assert server.log.count("event=ShutdownComplete") == 3


def test_over_http_a_patch_is_never_refused_meanwhile(serve: StartServer) -> None:
    """Many small uploads while one process follows another: each is whole."""
    server = serve()
    client, leader = server.client(), server.pid
    done: list[tuple[str, bytes]] = []
    failures: list[str] = []
    stop = threading.Event()

    def upload() -> None:
        while not stop.is_set():
            data = os.urandom(1000)
            try:
                path = client.create(len(data))
                answer = client.request("PATCH", path, {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM}, data)
                assert answer.status == 204, answer
                done.append((path, data))
            except (OSError, AssertionError) as failure:
                failures.append(repr(failure))

    threads = [threading.Thread(target=upload) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        count = len(done)
        leader = restart(server, leader)
        until(lambda count=count: len(done) > count + 5 or failures)  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert all(client.get(path).body == data for path, data in done)
