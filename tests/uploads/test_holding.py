"""Holds: who is receiving, and how all of them are stopped."""

from __future__ import annotations

import pytest

from tusd_py.protocol.refusals import ServerShutdown, UploadInterrupted
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
