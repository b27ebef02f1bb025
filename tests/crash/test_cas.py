"""Content-addressed storage under kills and power cuts: whatever moment it is at, every finished upload reads back whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.ledger import Promise, check_end
from tests.crash.soak import Soak
from tests.support.mounts import LoopDisk, requires_mounts
from tests.support.server import ServerProcess

MODES = ("keep", "replace")
KILLS = 26  # times four ways to run the server: more than 100 in an ordinary run
KILLS_SLOW = 80
POWER_CUTS = 10
POWER_CUTS_SLOW = 60

FLAGS = ("-events-backoff=20ms", "-events-max-backoff=200ms", "-cas-gc-interval=300ms", "-cas-gc-grace=0s")
"""Garbage is collected all the time, and at once."""


def administer(directory: Path, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "tusd_py", "cas", *arguments, "--json", f"--upload-dir={directory}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def soak(soak: Soak, rounds: int) -> None:
    """Rounds of it; then nothing is wrong with the repository, and nothing is missing after a collection."""
    soak.run(rounds)
    administer(soak.directory, "verify")
    administer(soak.directory, "gc", "--grace=0s")
    administer(soak.directory, "verify")
    with ServerProcess(soak.directory, *soak.args) as server:
        check_end(server.client(), soak.directory, soak.uploads, taken_over=soak.taken_over)


def kill(directory: Path, mode: str, workers: int, kills: int) -> None:
    flags = (f"-cas={mode}", f"-workers={workers}", *FLAGS)
    soak(Soak(directory, Promise.SHOWN, *flags, taken_over=mode == "replace"), kills)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_everything_is_there_whenever_the_server_is_killed(tmp_path: Path, mode: str, workers: int) -> None:
    kill(tmp_path / "data", mode, workers, KILLS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_everything_is_there_after_many_kills(tmp_path: Path, mode: str, workers: int) -> None:
    kill(tmp_path / "data", mode, workers, KILLS_SLOW)


def cut(kind: str, mode: str, rounds: int) -> None:
    requires_mounts(kind)
    with LoopDisk(kind) as disk:

        def cut_power(server: ServerProcess) -> None:
            disk.cut_power()

        flags = (f"-cas={mode}", "-durability=final", *FLAGS)
        taken_over = mode == "replace"
        soak(
            Soak(disk.path / "data", Promise.FINISHED, *flags, stop=cut_power, recover=disk.replug, taken_over=taken_over),
            rounds,
        )


@pytest.mark.root
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_is_finished_survives_a_power_cut(kind: str) -> None:
    cut(kind, "replace", POWER_CUTS)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_finished_survives_many_power_cuts(kind: str, mode: str) -> None:
    cut(kind, mode, POWER_CUTS_SLOW)
