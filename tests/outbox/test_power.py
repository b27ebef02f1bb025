"""The power is cut under a process that uses an outbox: what had been prepared is there, and the database is whole."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outbox.ledger import FINISH, ONCE, Ledger
from tests.support.mounts import LoopDisk, requires_mounts
from tusd_py.outbox.administration import Administration, Selection
from tusd_py.outbox.sqlite import SqliteOutbox

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12


def run_until_power_cut(disk: LoopDisk, state_dir: Path, first: int, count: int) -> tuple[list[bytes], list[bytes]]:
    """What the worker had said before the cut, and what it said afterwards. The second is no promise: a cut by an ioctl leaves
    the process running, and a sync of ext4 that is under way at that moment may report success."""
    command = [sys.executable, "-m", "tests.outbox.worker", str(state_dir), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdout is not None
        output, said = process.stdout.fileno(), b""
        try:
            while said.count(b"\n") < count:
                piece = os.read(output, 65536)
                assert piece, "the worker ended by itself"
                said += piece
            disk.cut_power()
        finally:
            process.kill()
        return said.splitlines(keepends=True), process.stdout.readlines()


def named(lines: list[bytes], verb: bytes) -> set[str]:
    """The uploads of which the worker said this."""
    return {line.split()[1].decode() for line in lines if line.startswith(verb + b" ") and line.endswith(b"\n")}


def check(state_dir: Path, ledger: Ledger) -> None:
    """Whatever was prepared is still known: as prepared, if the disk has not heard of more, or as what became of it."""
    with Administration.open(str(state_dir)) or pytest.fail("there is no database") as administration:
        (found,) = administration._connection.execute("PRAGMA integrity_check").fetchone()
        assert found == "ok"
        listed = {(one.upload, one.type) for one in administration.list(Selection(), -1)}
    expected = {(name, str(kind)) for name in ledger.prepared for kind in ONCE}
    expected -= {(name, str(FINISH)) for name in ledger.undecided}
    assert expected <= listed, f"lost: {sorted(expected - listed)[:10]}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_what_was_prepared_survives_a_power_cut(kind: str) -> None:
    requires_mounts(kind)
    chance, ledger = random.Random(kind), Ledger()
    with LoopDisk(kind) as disk:
        state_dir = disk.path / "data" / ".tusd-py"
        for number in range(ROUNDS):
            before, after = run_until_power_cut(disk, state_dir, number * 1_000_000, chance.randint(4, 300))
            ledger.prepared |= named(before, b"prepared")
            ledger.undecided |= named(before + after, b"withdraw")
            disk.replug()
            check(state_dir, ledger)
        outbox = SqliteOutbox(str(state_dir))
        async for stored in outbox.prepared(1e12):
            await outbox.confirm(stored.event, ["hooks"], only_prepared=True)
        while claimed := await outbox.claim("hooks", 100):
            await outbox.settle(claimed, ())
        await outbox.close()
        check(state_dir, ledger)
    assert len(ledger.prepared) > 10 * ROUNDS
