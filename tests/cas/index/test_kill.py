"""Processes that end at any moment: what they were told is done is done, and the rest is done or not, never half."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cas.index.support import open_index
from tests.cas.index.test_races import assert_sound, start
from tests.cas.index.worker import DiskFiles, assert_there

KILLS = 20


class Ledger:
    """What a worker has told, read line by line."""

    def __init__(self) -> None:
        self.contents: dict[str, list[int]] = {}
        self.sure: set[str] = set()
        self.noted: set[str] = set()
        self.open: str | None = None

    def read(self, line: str) -> None:
        what, _, rest = line.strip().partition(" ")
        upload_id, *numbers = rest.split()
        match what:
            case "adding":
                self.contents[upload_id], self.open = [int(number) for number in numbers], upload_id
            case "added":
                self.sure.add(upload_id)
                self.open = None
            case "dropping":
                self.sure.discard(upload_id)
                self.open = upload_id
            case "noted":
                self.noted.add(upload_id)
            case "dropped":
                del self.contents[upload_id]
                self.open = None


def kill_at_random_points(directory: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    files = DiskFiles(directory / "files")
    open_index(directory / "index.db").close()
    ledgers: list[Ledger] = []
    for kill in range(kills):
        process = start(directory, f"k{kill}", seed + kill, 1_000_000, "collect")
        ledgers.append(ledger := Ledger())
        assert process.stdout is not None
        with process:
            assert process.stdout.readline() == "ready\n"
            for _ in range(chance.randrange(60)):
                ledger.read(process.stdout.readline())
            for _ in range(chance.randrange(2000)):  # some way into the next step
                pass
            process.kill()
            for line in process.stdout:  # what it had told until then
                if line.endswith("\n"):
                    ledger.read(line)
        check_ledgers(directory, files, ledgers)


def check_ledgers(directory: Path, files: DiskFiles, ledgers: list[Ledger]) -> None:
    index = open_index(directory / "index.db", create=False)
    assert_sound(index, files)
    noted = set(index.vanished(limit=10_000))
    for ledger in ledgers:
        assert ledger.noted & ledger.sure <= noted
        for upload_id in ledger.sure:
            assert_there(index, files, upload_id, ledger.contents[upload_id])
        if ledger.open is not None and index.find_version(ledger.open) is not None:
            assert_there(index, files, ledger.open, ledger.contents[ledger.open])
    known = {upload_id for ledger in ledgers for upload_id in (*ledger.sure, ledger.open)}
    assert {version.upload_id for version in index.versions()} <= known
    index.close()


def test_killed_at_random_points(tmp_path: Path) -> None:
    kill_at_random_points(tmp_path, KILLS, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_many_random_points(tmp_path: Path) -> None:
    kill_at_random_points(tmp_path, 200, 2)
