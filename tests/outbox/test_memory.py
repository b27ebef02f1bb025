"""The outbox in memory, and its bounds."""

from __future__ import annotations

import pytest

from tusd_py.outbox.memory import MemoryOutbox
from tusd_py.ports.failures import OutOfSpace
from tusd_py.protocol.hooks import HookType
from tusd_py.testing.outbox_suite import OutboxSuite, Time, event, tried


class TestMemoryOutbox(OutboxSuite):
    @pytest.fixture
    async def outbox(self, clock: Time) -> MemoryOutbox:
        return MemoryOutbox(retention=100.0, clock=clock)


async def test_no_more_than_the_limit() -> None:
    outbox = MemoryOutbox(limit=3)
    for number in range(3):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    with pytest.raises(OutOfSpace):
        await outbox.confirm(event("one more"), ["hooks"])
    claimed = await outbox.claim("hooks", 10)
    assert len(claimed) == 3
    await outbox.settle(claimed[:1], ())
    await outbox.confirm(event("one more"), ["hooks"])


async def test_the_oldest_prepared_is_forgotten_and_told_all_the_same() -> None:
    outbox = MemoryOutbox(limit=3)
    for number in range(5):
        await outbox.prepare([event(f"{number}")], ["hooks"])
    assert [stored.event.upload.id async for stored in outbox.prepared(1e12)] == ["2", "3", "4"]
    await outbox.confirm(event("0"), ["hooks"])
    assert len(await outbox.claim("hooks", 10)) == 1


async def test_nothing_is_kept_without_retention() -> None:
    outbox = MemoryOutbox()
    for kind in (HookType.POST_CREATE, HookType.POST_FINISH):
        await outbox.confirm(event("a", kind), ["hooks"])
    (first,) = await outbox.claim("hooks", 10)
    await outbox.settle([first], ())
    (second,) = await outbox.claim("hooks", 10)
    await outbox.settle((), [tried(second, 0, dead=True)])
    assert repr(outbox) == "<MemoryOutbox 0 prepared, 0 due, 0 settled>"


async def test_retention() -> None:
    clock = Time()
    outbox = MemoryOutbox(retention=100.0, clock=clock)
    await outbox.confirm(event("a"), ["hooks"])
    await outbox.settle(await outbox.claim("hooks", 10), ())
    for age, left in ((99, 1), (1, 0)):
        clock.now += age
        await outbox.tidy()
        assert f"{left} settled" in repr(outbox)
