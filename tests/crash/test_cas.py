"""Content-addressed storage under kills and power cuts: whatever moment it is at, every finished upload reads back whole."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.crash.ledger import Promise, check_end
from tests.crash.soak import SEED_VARIABLE, Soak, new_seed
from tests.support.mounts import LoopDisk, requires_mounts
from tests.support.receiver import Receiver
from tests.support.server import ServerProcess
from tests.support.waiting import until

MODES = ("keep", "replace")
KILLS = 26  # times four ways to run the server: more than 100 in an ordinary run
KILLS_SLOW = 80
INGEST_KILLS = 9
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", MODES)
def test_hooks_are_told_of_every_version_whenever_the_server_is_killed(tmp_path: Path, mode: str) -> None:
    """Also when it was killed behind the version and before the event."""
    seed = new_seed()
    why, chance, finished = f"{SEED_VARIABLE}={seed}", random.Random(seed), list[str]()
    flags = (f"-cas={mode}", "-hooks-enabled-events=post-ingest", "-hooks-http-retry=0", *FLAGS)
    with Receiver(failing=0.1) as receiver:
        server = ServerProcess(tmp_path / "data", f"-hooks-http={receiver.url}", *flags)
        for _ in range(INGEST_KILLS):
            with server:
                told, tus = len(receiver.by_upload()), server.client()
                finished += [tus.create(size, chance.randbytes(size)) for size in chance.sample(range(200_000), 3)]
                # Some rounds go as far as the first event, and then some more: that is where versions are made.
                if chance.random() < 0.7:
                    until(lambda: len(receiver.by_upload()) > told, 30)  # noqa: B023
                threading.Event().wait(chance.random() * 0.03)
                server.kill()
        receiver.failing = 0.0
        with server:
            names = {path.rsplit("/", 1)[1] for path in finished}
            accepted = lambda: {one.upload for one in list(receiver.told) if one.accepted}  # noqa: E731
            until(lambda: names <= accepted(), 60, what=f"not all are told ({why})")
    for upload_id, events in receiver.by_upload().items():
        assert len({event.event_id for event in events}) == 1, f"{upload_id} has become several versions ({why})"
