"""How the command ends: statuses, sentences, and that it leaves alone what it only looks at."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cas.commands.conftest import Store, random_bytes

VERBS = ("stats", "ls", "versions", "cat", "export", "import", "verify", "gc")

READING = [
    ["stats"],
    ["ls"],
    ["versions", "x"],
    ["cat", "x"],
    ["export", "x", "y"],
    ["export", "--all", "y"],
    ["export", "--restore"],
    ["verify"],
    ["gc"],
]

every_reading = pytest.mark.parametrize("arguments", READING, ids=" ".join)


@every_reading
def test_no_repository(store: Store, arguments: list[str]) -> None:
    ran = store.run(*arguments)
    assert (ran.status, ran.output) == (3, "")
    assert ran.errors == f"tusd-py cas: there is no repository in '{store.path}': a server with -cas makes one\n"
    assert os.listdir(store.upload_dir) == []


@every_reading
def test_no_upload_directory(store: Store, arguments: list[str]) -> None:
    store.upload_dir.rmdir()
    assert store.run(*arguments).status == 3
    assert not store.upload_dir.exists()


@every_reading
def test_a_repository_without_its_index(store: Store, arguments: list[str]) -> None:
    store.add(b"x")
    for path in store.path.glob("index.db*"):
        path.unlink()
    ran = store.run(*arguments)
    assert (ran.status, ran.output) == (1, "") and "index" in ran.errors and ran.errors.count("\n") == 1


def test_a_repository_without_its_description(store: Store) -> None:
    store.add(b"x")
    (store.path / "repository.json").unlink()
    ran = store.run("ls")
    assert ran.status == 1 and "repository.json' is missing" in ran.errors


def test_a_database_that_is_none(store: Store) -> None:
    store.add(b"x")
    for path in store.path.glob("index.db*"):
        path.write_bytes(b"not a database" * 100)
    ran = store.run("ls")
    assert (ran.status, ran.output) == (1, "") and ran.errors.count("\n") == 1


@pytest.mark.parametrize("arguments", [["nothing"], ["ls", "--unknown"], ["cat"], ["versions"], ["ls", "a", "b"]])
def test_misuse(store: Store, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tusd_py", "cas", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "") and "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str) -> None:
    command = [sys.executable, "-m", "tusd_py", "cas", verb, "-help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "--upload-dir" in done.stdout


def test_the_list_of_commands_has_whole_sentences() -> None:
    done = subprocess.run([sys.executable, "-m", "tusd_py", "cas", "-help"], capture_output=True, text=True, timeout=60)
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    assert done.returncode == 0 and len(listed) == len(VERBS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed), listed


def test_configurations(store: Store, tmp_path: Path) -> None:
    """Where the repository is, is said as it is said to the server."""
    store.add(b"x", "report")
    (tmp_path / "settings.toml").write_text(f'upload-dir = "{store.upload_dir}"\n')

    def ls(*arguments: str, **variables: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tusd_py", "cas", "ls", "--json", *arguments]
        env = {**os.environ, **variables}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path, check=False)
        return done.returncode, done.stdout

    found = 0, store.run("ls", "--json").output
    assert ls(f"-config={tmp_path}/settings.toml") == found
    assert ls("--config", f"{tmp_path}/settings.toml") == found
    assert ls("--upload-dir", "data") == found
    assert ls(TUSD_PY_UPLOAD_DIR=str(store.upload_dir)) == found
    (tmp_path / "settings.toml").write_text("nonsense")
    assert ls(f"-config={tmp_path}/settings.toml") == (2, "")


def test_what_a_program_finds_wrong_with_the_settings(store: Store) -> None:
    from tusd_py_cas.commands import main

    def refuse(upload_dir: str | None, config: str | None) -> Path:
        raise ValueError("the settings make no sense")

    assert main(["ls"], refuse) == 2
    assert store.capture.readouterr().err == "tusd-py cas: the settings make no sense\n"


@pytest.mark.parametrize("closed", [{1}, {2}, {0, 1, 2}], ids=str)
@pytest.mark.parametrize("arguments", [["stats"], ["cat", "report"], ["import"], ["cat", "no"]], ids=" ".join)
def test_streams_that_are_closed(store: Store, tmp_path: Path, arguments: list[str], closed: set[int]) -> None:
    """To write to them is an error like any other, and no file of the repository gets their numbers."""
    store.add(b"x", "report")
    told = tmp_path / "told"
    told.touch()
    redirected = " ".join(f"{number}>&-" for number in closed)
    command = [sys.executable, "-m", "tusd_py", "cas", arguments[0], f"-upload-dir={store.upload_dir}", *arguments[1:]]
    shell = ["sh", "-c", f'"$@" >{tmp_path}/output 2>{told} {redirected}', "sh", *command]
    done = subprocess.run(shell, timeout=60, check=False)
    missing = arguments == ["cat", "no"]
    assert done.returncode == (1 in closed or missing), told.read_text()
    if 2 in closed or not done.returncode:
        assert told.read_text() == ""
    elif not missing:
        assert told.read_text() == "tusd-py cas: the output could not be written: Bad file descriptor\n"
    assert store.run("verify", "--json").document["sound"]


@pytest.mark.parametrize("arguments", [["cat", "no"], ["import", "missing", "file"]], ids=" ".join)
def test_nobody_can_be_told(store: Store, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store.add(b"x", "report")
    command = [sys.executable, "-m", "tusd_py", "cas", arguments[0], f"-upload-dir={store.upload_dir}", *arguments[1:]]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert (b"1 file stored" in done.stdout) is (arguments[0] == "import")


def on_a_terminal(*command: str) -> tuple[int, bytes, str]:
    """Status, output and what standard error, a terminal, was told."""
    leader, follower = pty.openpty()
    told = bytearray()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(follower)
        while select.select([leader], [], [], 60)[0]:
            try:
                told += os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
        assert process.stdout is not None
        output = process.stdout.read()
    os.close(leader)
    return process.returncode, output, told.decode()


@pytest.mark.parametrize("verb", ["verify", "gc", "import", "export"])
def test_bars_are_for_terminals(store: Store, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_bytes(random_bytes(300_000))
    store.add(b"x")
    arguments = {"import": [str(tmp_path / "file")], "export": ["--all", "--force", str(tmp_path / "out")]}.get(verb, [])
    command = [sys.executable, "-m", "tusd_py", "cas", verb, f"-upload-dir={store.upload_dir}", *arguments]
    doing = {"verify": "verifying", "gc": "collecting", "import": "importing", "export": "exporting"}[verb]
    status, output, told = on_a_terminal(*command)
    assert status == 0 and doing in told and doing.encode() not in output
    assert on_a_terminal(*command, "--json")[2] == ""
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_looking_changes_nothing(store: Store) -> None:
    store.add(random_bytes(300_000), "report")
    before = {path: path.stat().st_mtime_ns for path in sorted(store.path.rglob("*")) if path.is_file()}
    for arguments in (["stats"], ["ls"], ["versions", "report"], ["verify"], ["gc", "--dry-run"]):
        assert store.run(*arguments).status == 0
    after = {path: path.stat().st_mtime_ns for path in sorted(store.path.rglob("*")) if path.is_file()}
    ours = {path for path in before if "index.db" not in path.name}
    assert {path: before[path] for path in ours} == {path: after[path] for path in ours}


def test_beside_each_other(store: Store) -> None:
    """Several at once on one repository."""
    store.add(random_bytes(2_000_000), "report")
    running = [store.process(verb, *rest) for verb, *rest in (["verify"], ["gc"], ["cat", "report"], ["ls"], ["stats"]) * 2]
    statuses = []
    for process in running:
        with process:
            process.communicate(timeout=60)
        statuses.append(process.returncode)
    gc = [statuses.pop(6), statuses.pop(1)]
    assert statuses == [0] * 8
    assert 0 in gc and set(gc) <= {0, 1}


def test_a_copy_of_a_repository_is_one(store: Store, tmp_path: Path) -> None:
    store.add(b"x", "report")
    shutil.copytree(store.upload_dir, tmp_path / "copy")
    command = [sys.executable, "-m", "tusd_py", "cas", "cat", "report", f"-upload-dir={tmp_path}/copy"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=True).stdout == b"x"
