"""kill -9 of the whole server at random moments, again and again on the same directory."""

from __future__ import annotations

import os
import random
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.ledger import Promise, digest, take_source
from tests.crash.resuming import ResumingClient
from tests.crash.soak import Soak
from tests.support.processes import processes_of
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, Connection, checksum

DURABILITIES = ("none", "final", "every-patch")
KILLS = 17  # times six ways to run the server: 102 in an ordinary run
KILLS_SLOW = 60


def soak(directory: Path, workers: int, durability: str, kills: int) -> None:
    Soak(directory, Promise.SHOWN, f"-workers={workers}", f"-durability={durability}").run(kills)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_shown_is_lost_when_the_server_is_killed(tmp_path: Path, workers: int, durability: str) -> None:
    soak(tmp_path / "data", workers, durability, KILLS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_shown_is_lost_in_many_kills(tmp_path: Path, workers: int, durability: str) -> None:
    soak(tmp_path / "data", workers, durability, KILLS_SLOW)


def wait_for_growth(file: Path, size: int, connection: Connection) -> None:
    """Return as soon as the file is larger than `size`, or the answer is there."""
    connection.sock.settimeout(30)
    while file.stat().st_size <= size:
        if select.select([connection.sock], [], [], 0)[0]:
            return


@pytest.mark.parametrize("length", [900_000, 24 << 20], ids=["small", "large"])
def test_a_checksummed_patch_is_never_half_there(tmp_path: Path, length: int) -> None:
    """Killed in the very moment in which verified bytes become part of the upload."""
    source = bytes(length) if length > 1 << 20 else bytes(take_source(random.Random(length), length))
    for _ in range(3):
        with ServerProcess(tmp_path / "data") as server:
            tus = server.client()
            path = tus.create(length, source[:1000])
            file = tmp_path / "data" / path.rsplit("/", 1)[1]
            with tus.connect() as connection:
                headers = {"Upload-Offset": 1000, "Content-Type": OFFSET_STREAM, "Content-Length": length - 1000}
                connection.send_head("PATCH", path, {**headers, "Upload-Checksum": checksum("sha1", source[1000:])})
                connection.send(source[1000:])
                wait_for_growth(file, 1000, connection)
                server.kill()
        with ServerProcess(tmp_path / "data") as server:
            assert server.client().offset(path) in (1000, length)


def test_the_others_go_on_when_one_worker_is_killed(tmp_path: Path) -> None:
    """The dead worker's locks are free at once, and a new one takes its place."""
    rng = random.Random("workers")
    sources = [bytes(take_source(rng, 5 << 20)) for _ in range(12)]
    with ServerProcess(tmp_path / "data", "-workers=2") as server, ThreadPoolExecutor(3) as pool:
        uploads = [pool.submit(ResumingClient(server.client(), source).upload) for source in sources]
        killed: list[int] = []
        for _ in range(4):
            workers = until(lambda: two_workers(server.pid, killed), what="the dead worker is not replaced")
            killed.append(rng.choice(workers))
            os.kill(killed[-1], signal.SIGKILL)
        for upload, source in zip(uploads, sources, strict=True):
            got = server.client().get(upload.result(60))
            assert got.status == 200 and digest(got.body) == digest(source)


def two_workers(leader: int, killed: list[int]) -> list[int]:
    """The workers' processes once there are two of them, else none. Some that were `killed` may not be gone yet."""
    workers = [pid for pid in processes_of(leader) if pid not in (leader, *killed)]
    return workers if len(workers) == 2 else []
