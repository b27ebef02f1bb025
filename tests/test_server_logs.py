"""Logs of servers: shown where something failed, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.watchdog import ROOT

PROGRAM = """
import sys
from tests.support.server import ServerProcess
with ServerProcess(sys.argv[1]) as server:
    pass
assert "You can now upload files" in server.log
"""

FAILING = """
import pytest
from tests.support.server import ServerProcess
from tests.support.waiting import until

@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as server:
        yield server

def test_with_a_fixture(server):
    server.client().head("/files/of-the-fixture")
    until(lambda: "of-the-fixture" in server.log)
    assert False

def test_with_a_block(tmp_path):
    with ServerProcess(tmp_path) as server:
        server.client().head("/files/of-the-block")
        until(lambda: "of-the-block" in server.log)
        assert False
"""


def test_they_are_where_pytest_tidies_up(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert start_server().log_path.is_relative_to(tmp_path_factory.getbasetemp())


def test_a_program_leaves_none(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data")]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(temporary)}, check=True, timeout=60)
    assert list(temporary.iterdir()) == []


@pytest.mark.timeout(300)
def test_they_are_shown_where_a_test_fails(tmp_path: Path) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # not what we run under
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.logs", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**outer, "PYTHONPATH": str(ROOT), "PYTEST_DEBUG_TEMPROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,  # on a busy machine
        check=False,
    )
    assert "2 failed" in done.stdout, done.stdout
    for name in ("of-the-fixture", "of-the-block"):
        assert f"path={name}" in done.stdout, done.stdout
