"""Holds: who is receiving, and how all of them are stopped."""

from __future__ import annotations

import pytest

from tusd_py.ports.extension import Received
from tusd_py.protocol.refusals import ServerShutdown, UploadInterrupted
from tusd_py.protocol.upload import Upload
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads.holding import Holds


async def test_an_interrupted_hold_stops_its_body() -> None:
    holds, body = Holds(), ScriptedBody()
    hold = holds.begin(body)
    assert not hold.refusal and not body.stopped and len(holds) == 1
    hold.interrupt()
    assert isinstance(hold.refusal, UploadInterrupted) and body.stopped
    holds.end(hold)
    holds.end(hold)
    assert len(holds) == 0


async def test_the_first_reason_counts() -> None:
    holds = Holds()
    hold = holds.begin(ScriptedBody())
    first = ServerShutdown()
    hold.stop(first)
    hold.interrupt()
    assert hold.refusal is first


async def test_closing_stops_all_and_lets_nobody_in() -> None:
    holds = Holds()
    bodies = [ScriptedBody() for _ in range(3)]
    begun = [holds.begin(body) for body in bodies]
    holds.end(begun[0])
    holds.close()
    assert holds.closing and [body.stopped for body in bodies] == [False, True, True]
    assert type(begun[1].refusal) is ServerShutdown
    with pytest.raises(ServerShutdown):
        holds.begin(ScriptedBody())
    assert len(holds) == 2


class At:
    """As much of a `Writer` as is looked at."""

    def __init__(self, position: int) -> None:
        self.position = position


def test_what_has_come_in_is_counted_meanwhile_and_afterwards() -> None:
    holds = Holds()
    first, second = holds.begin(ScriptedBody()), holds.begin(ScriptedBody())
    assert holds.count() == Received(2, 0)
    writer = At(100)
    first.receive(Upload(id="a", length=500, offset=100), writer)  # type: ignore[arg-type]
    writer.position = 130
    second.receive(Upload(id="b", length=500), At(7))  # type: ignore[arg-type]
    assert holds.count() == Received(2, 37)
    first.received()
    assert holds.count() == Received(2, 37)
    holds.end(first)
    holds.end(first)
    assert holds.count() == Received(2, 37)
    holds.end(second)
    holds.begin(ScriptedBody())
    assert holds.count() == Received(3, 37)
