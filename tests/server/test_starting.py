"""What a start prints, what it needs, and how it fails: one sentence on stderr, exit status 1, no traceback."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.server.standin import STANDIN
from tests.support.wire import TusClient
from tusd_py.protocol.hooks import HookType


def fails(*arguments: str, program: tuple[str, ...] = (sys.executable, "-m", "tusd_py"), **environ: str) -> str:
    """The sentence with which this command fails to start."""
    done = subprocess.run([*program, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert re.fullmatch(r"tusd-py: [^\n]+\n", done.stderr), done.stderr
    assert "Traceback" not in done.stdout, done.stdout
    return done.stderr.removeprefix("tusd-py: ").rstrip()


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return f"-upload-dir={tmp_path / 'data'}"


def test_the_printed_url_is_where_uploads_go(start_server: StartServer) -> None:
    server = start_server("-base-path=/up")
    found = re.search(r"^\S+ \S+ You can now upload files to: (https?://([^/]+)/\S*)$", server.log, re.MULTILINE)
    assert found and found[1] == f"http://127.0.0.1:{server.port}/up/"
    assert server.client("/up/").create(1).startswith("/up/")


def test_startup_lines_in_tusds_words(start_server: StartServer) -> None:
    server = start_server("-max-size=1048576")
    lines = [line.split(" ", 2)[2] for line in server.log.splitlines()]  # before there is a request to log
    assert lines == [
        f"Using '{server.upload_dir}' as directory storage.",
        "Using 1.00MB as maximum size.",
        f"Supported tus extensions: {server.client().request('OPTIONS', '/files/').headers['tus-extension']}",
        "Using 127.0.0.1:0 as address to listen.",
        "Using /files/ as the base path.",
        "Using /metrics as the metrics path.",
        f"You can now upload files to: http://127.0.0.1:{server.port}/files/",
    ]


HOOKS = {
    "-hooks-dir=/usr": "Using '/usr' for hooks",
    "-hooks-http=http://127.0.0.1:1/": "Using 'http://127.0.0.1:1/' as the endpoint for hooks",
}


@pytest.mark.parametrize(("flag", "line"), HOOKS.items())
@pytest.mark.parametrize(
    ("events", "names"), [("pre-create,post-finish", "pre-create, post-finish"), ("", ", ".join(HookType))]
)
def test_hooks_are_told(start_server: StartServer, flag: str, line: str, events: str, names: str) -> None:
    lines = [one.split(" ", 2)[2] for one in start_server(flag, f"-hooks-enabled-events={events}").log.splitlines()]
    found = lines.index(line)
    assert lines[found + 1] == f"Enabled hook events: {names}"
    assert lines[found + 2].startswith("Supported tus extensions: ")


@pytest.mark.parametrize("flag", ["-expiry=1h", "-disable-termination", "-disable-concatenation"])
def test_extensions_are_those_that_are_announced(start_server: StartServer, flag: str) -> None:
    server = start_server(flag)
    announced = server.client().request("OPTIONS", "/files/").headers["tus-extension"]
    assert f" Supported tus extensions: {announced}\n" in server.log


@pytest.mark.parametrize("workers", [1, 2])
def test_without_startup_lines_the_url_remains(start_server: StartServer, workers: int) -> None:
    server = start_server("-show-startup-logs=false", f"-workers={workers}")
    assert len(server.log.splitlines()) == 1


def test_a_host_with_colons_stands_in_brackets(start_server: StartServer) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("the kernel has no IPv6")
    server = start_server("-host=::1")
    assert f"http://[::1]:{server.port}/files/" in server.log
    assert TusClient(("::1", server.port)).create(1)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "0.0.0.0"), ("", "[::]"), ("::", "[::]")])
def test_a_wildcard_host_listens_on_both_address_families(start_server: StartServer, host: str, shown: str) -> None:
    server = start_server(f"-host={host}")
    assert f"to: http://{shown}:{server.port}/files/" in server.log
    assert server.client().create(1)
    if socket.has_ipv6:
        assert TusClient(("::1", server.port)).create(1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken(start_server: StartServer, directory: str, workers: int) -> None:
    port = start_server().port
    sentence = fails("-host=127.0.0.1", f"-port={port}", f"-workers={workers}", directory)
    assert sentence == f"cannot listen on 127.0.0.1:{port}: another process has this port"


def test_a_port_that_other_workers_share_is_taken(start_server: StartServer, directory: str) -> None:
    port = start_server("-workers=2").port
    assert "another process has this port" in fails("-host=127.0.0.1", f"-port={port}", "-workers=2", directory)


HOSTS = {
    "198.51.100.1": "cannot listen on 198.51.100.1:0: this machine does not have that address",
    "no such host": "cannot listen on no such host:0: ",
    "a..b": "cannot listen on a..b:0: expected a host name or an address",
}


@pytest.mark.parametrize(("host", "sentence"), HOSTS.items())
def test_a_host_that_is_not_here(host: str, sentence: str, directory: str) -> None:
    assert fails(f"-host={host}", "-port=0", directory).startswith(sentence)


def test_an_upload_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert (
        fails("-port=0", f"-upload-dir={tmp_path / 'data'}") == f"the upload directory {tmp_path / 'data'} is not a directory"
    )


def test_an_upload_directory_that_cannot_be_made() -> None:
    assert fails("-port=0", "-upload-dir=/proc/uploads").startswith("cannot make the upload directory /proc/uploads: ")


def test_an_upload_directory_that_cannot_be_written() -> None:
    # Not even root can make files there.
    assert fails("-port=0", "-upload-dir=/proc/self/fd").startswith("cannot use the upload directory /proc/self/fd: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_that_the_disk_prevents(directory: str, workers: int) -> None:
    program = (*STANDIN, "tusd_py")
    command = [*program, "-host=127.0.0.1", "-port=0", directory, f"-workers={workers}"]
    done = subprocess.run(command, env={"STANDIN": "disk"}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert set(lines) == {"tusd-py: the application did not start: [Errno 5] the disk is broken"}
    # Each worker that got so far says so, but none is tried again.
    assert len(lines) <= workers
    assert "Traceback" not in done.stdout


def test_a_defect_at_the_start_leaves_its_traceback_in_the_log(directory: str) -> None:
    program = (*STANDIN, "tusd_py")
    done = subprocess.run(
        [*program, "-port=0", directory], env={"STANDIN": "defect"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "tusd-py: the application did not start: see the log\n")
    assert "ZeroDivisionError" in done.stdout


def test_as_many_files_as_the_system_allows(start_server: StartServer) -> None:
    server = start_server(prefix=("/bin/sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh"))
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    found = re.search(r"^Max open files +(\d+) +(\d+)", limits, re.MULTILINE)
    assert found and found[1] == found[2] != "64"


def test_memory_of_a_server_that_has_nothing_to_do(start_server: StartServer) -> None:
    status = Path(f"/proc/{start_server().pid}/status").read_text()
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert peak and int(peak[1]) < 48 * 1024
