"""The power is cut under a running server: what was not synced is lost, then a new server starts on the rest."""

from __future__ import annotations

import pytest

from tests.crash.ledger import Promise
from tests.crash.soak import Soak
from tests.support.mounts import LoopDisk, requires_mounts
from tests.support.server import ServerProcess

pytestmark = pytest.mark.root

PROMISES = {"final": Promise.FINISHED, "every-patch": Promise.ACKED, "none": Promise.NOTHING}
ROUNDS = {"final": 14, "every-patch": 12, "none": 4}  # times one or two file systems
SLOW = 8  # times as many in the slow run


def soak(kind: str, durability: str, rounds: int) -> None:
    requires_mounts(kind)
    with LoopDisk(kind) as disk:

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
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_promised_survives_a_power_cut(kind: str, durability: str) -> None:
    soak(kind, durability, ROUNDS[durability])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", PROMISES)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_promised_survives_many_power_cuts(kind: str, durability: str) -> None:
    soak(kind, durability, ROUNDS[durability] * SLOW)
