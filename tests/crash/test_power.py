"""The power is cut under a running server: what was not synced is lost, then a new server starts on the rest."""

from __future__ import annotations

import random

import pytest

from tests.crash.ledger import Promise, digest, take_source
from tests.crash.soak import Soak
from tests.support.mounts import LoopDisk, requires_mounts
from tests.support.server import ServerProcess
from tests.support.waiting import until_offset
from tests.support.wire import OFFSET_STREAM

pytestmark = pytest.mark.root

PROMISES = {"final": Promise.FINISHED, "every-patch": Promise.ACKED, "none": Promise.NOTHING}
ROUNDS = {"final": 14, "every-patch": 12, "none": 4}  # times one or two file systems
SLOW = 8  # times as many in the slow run

DISKS = pytest.mark.parametrize(
    ("kind", "direct"), [("ext4", False), ("xfs", False), ("ext4", True)], ids=["ext4", "xfs", "ext4-direct"]
)


def soak(kind: str, durability: str, rounds: int, *, direct: bool) -> None:
    requires_mounts(kind)
    with LoopDisk(kind, direct=direct) as disk:

        def cut_power(server: ServerProcess) -> None:
            disk.cut_power()

        Soak(
            disk.path / "data",
            PROMISES[durability],
            f"-durability={durability}",
            stop=cut_power,
            recover=disk.replug,
        ).run(rounds)


@pytest.mark.parametrize("durability", PROMISES)
@DISKS
def test_what_was_promised_survives_a_power_cut(kind: str, durability: str, *, direct: bool) -> None:
    soak(kind, durability, ROUNDS[durability], direct=direct)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", PROMISES)
@DISKS
def test_what_was_promised_survives_many_power_cuts(kind: str, durability: str, *, direct: bool) -> None:
    soak(kind, durability, ROUNDS[durability] * SLOW, direct=direct)


@pytest.mark.parametrize("durability", ["final", "every-patch"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_zeros_take_the_place_of_bytes_that_were_lost(kind: str, durability: str) -> None:
    """ext4 notes the new size of a file whose last block grows before it writes the bytes (`data=ordered` is about new blocks
    only), and the sync of any other upload makes that last. A client that resumed there would leave zeros behind it.
    """
    requires_mounts(kind)
    source = bytes(take_source(random.Random("zeros"), 10_000))
    with LoopDisk(kind) as disk:
        with ServerProcess(disk.path / "data", f"-durability={durability}") as server:
            tus = server.client()
            path = tus.create(len(source), source[:100])
            disk.sync()
            with tus.connect() as connection:
                headers = {"Upload-Offset": 100, "Content-Type": OFFSET_STREAM, "Content-Length": len(source) - 100}
                connection.send_head("PATCH", path, headers)
                connection.send(source[100:700])
                until_offset(tus, path, 700)
                tus.create(10, b"the others")
                disk.cut_power()
                server.kill()
        disk.replug()
        with ServerProcess(disk.path / "data", f"-durability={durability}") as server:
            tus = server.client()
            offset = tus.offset(path)
            assert (disk.path / "data" / path.rsplit("/", 1)[1]).read_bytes()[:offset] == source[:offset]
            assert tus.patch(path, offset, source[offset:]).status == 204
            assert digest(tus.get(path).body) == digest(source)
