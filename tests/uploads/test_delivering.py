"""Delivery over the outbox in memory, with consumers that do as they are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.uploads.waiting import reached
from tusd_py.outbox.memory import MemoryOutbox
from tusd_py.ports.events import EventState, StoredEvent
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.hooks import EVENTS, HookEvent, HookType
from tusd_py.testing.outbox_suite import Time, event
from tusd_py.uploads import delivering
from tusd_py.uploads.delivering import Delivery, Pending

CREATE, FINISH = HookType.POST_CREATE, HookType.POST_FINISH


class Recorder:
    """A consumer that keeps what it gets, after `react` has looked at it."""

    types = EVENTS

    def __init__(self, name: str = "hooks", react: Callable[[HookEvent], Awaitable[None]] | None = None) -> None:
        self.name, self._react = name, react
        self.tried: list[HookEvent] = []
        self.got: list[HookEvent] = []

    async def deliver(self, event: HookEvent) -> None:
        self.tried.append(event)
        if self._react is not None:
            await self._react(event)
        self.got.append(event)

    @property
    def ids(self) -> list[str]:
        return [one.upload.id for one in self.got]


class Broken(MemoryOutbox):
    """An outbox whose calls fail while they are named in `broken`."""

    def __init__(self) -> None:
        super().__init__(retention=1e9)
        self.broken: dict[str, Exception] = {}
        self.failures = 0

    def _fail(self, name: str) -> None:
        if name in self.broken:
            self.failures += 1
            raise self.broken[name]

    async def claim(self, consumer: str, count: int) -> Sequence[StoredEvent]:
        self._fail("claim")
        return await super().claim(consumer, count)

    async def settle(self, delivered: Sequence[StoredEvent], failed: Sequence[StoredEvent]) -> None:
        self._fail("settle")
        await super().settle(delivered, failed)

    async def tidy(self) -> None:
        self._fail("tidy")


def settled(outbox: MemoryOutbox) -> list[StoredEvent]:
    return [entry.stored for entry in outbox._settled.values()]


@pytest.fixture
def outbox() -> Broken:
    return Broken()


@asynccontextmanager
async def delivering_to(outbox: MemoryOutbox, *consumers: Any, **options: Any) -> AsyncIterator[Delivery]:
    delivery = Delivery(outbox, consumers, **{"backoff": 0.001, **options})
    delivery.start()
    try:
        yield delivery
    finally:
        await delivery.close()


async def test_what_is_due_from_before_is_delivered(outbox: Broken) -> None:
    for number in range(50):
        await outbox.confirm(event(f"{number}"), ["hooks", "other"])
    hooks, other = Recorder(), Recorder("other")
    async with delivering_to(outbox, hooks, other):
        await reached(lambda: len(hooks.got) == len(other.got) == 50)
    assert sorted(hooks.ids) == sorted(other.ids) == sorted(str(number) for number in range(50))
    assert {(stored.state, stored.attempts) for stored in settled(outbox)} == {(EventState.DELIVERED, 1)}


async def test_what_is_confirmed_is_delivered_when_it_is_told(outbox: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "LOOK", 1e6)
    hooks = Recorder()
    async with delivering_to(outbox, hooks) as delivery:
        for number in range(5):
            await outbox.confirm(event(f"{number}"), ["hooks"])
            delivery.notify()
            await reached(lambda number=number: len(hooks.got) == number + 1)


async def test_what_nobody_told_of_is_found(outbox: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "LOOK", 0.01)
    hooks = Recorder()
    async with delivering_to(outbox, hooks):
        await asyncio.sleep(0.03)
        await outbox.confirm(event("a"), ["hooks"])
        await reached(lambda: hooks.got)


async def test_a_failure_is_tried_again(outbox: Broken, caplog: pytest.LogCaptureFixture) -> None:
    async def thrice(event: HookEvent) -> None:
        if len(hooks.tried) < 3:
            raise ValueError("not yet")

    hooks = Recorder(react=thrice)
    await outbox.confirm(event("a"), ["hooks"])
    async with delivering_to(outbox, hooks):
        await reached(lambda: hooks.got)
    assert len(hooks.tried) == 3 and len({one.id for one in hooks.tried}) == 1
    (stored,) = settled(outbox)
    assert (stored.state, stored.attempts, stored.error) == (EventState.DELIVERED, 3, None)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert caplog.records[0].fields["error"] == "ValueError: not yet"


async def test_too_many_failures_are_the_end(outbox: Broken, caplog: pytest.LogCaptureFixture) -> None:
    async def never(event: HookEvent) -> None:
        if event.type is CREATE:
            raise RuntimeError("x" * 5000)

    hooks = Recorder(react=never)
    for kind in (CREATE, FINISH):
        await outbox.confirm(event("a", kind), ["hooks"])
    async with delivering_to(outbox, hooks, max_attempts=4):
        await reached(lambda: hooks.got)
    assert [one.type for one in hooks.tried] == 4 * [CREATE] + [FINISH], "in order, and then no longer in the way"
    dead, delivered = settled(outbox)
    assert (dead.state, dead.attempts, len(dead.error or "")) == (EventState.DEAD, 4, delivering.LONGEST_ERROR)
    assert delivered.state is EventState.DELIVERED
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "an event was given up"
    assert record.fields["event"] == dead.event.id and record.fields["id"] == "a"


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 1.0), (1.0, 0.5)])
def test_the_pauses_double_up_to_the_longest(chance: float, factor: float) -> None:
    clock = Time()
    delivery = Delivery(MemoryOutbox(), [], clock, backoff=2, max_backoff=60, max_attempts=2000, chance=lambda: chance)
    stored = StoredEvent(event=event("a"), consumer="hooks", state=EventState.DUE, created_at=0, due_at=0)
    pauses = []
    for _ in range(1500):
        stored = delivery.failed(stored, ValueError())
        pauses.append((stored.due_at - clock.now) / factor)
    assert pauses[:6] == [2, 4, 8, 16, 32, 60]
    assert set(pauses[6:]) == {60}


async def test_one_that_hangs_holds_up_nobody_else(outbox: Broken) -> None:
    hanging = asyncio.Event()

    async def hang(event: HookEvent) -> None:
        if event.upload.id == "slow":
            await hanging.wait()

    hooks = Recorder(react=hang)
    await outbox.confirm(event("slow", CREATE), ["hooks"])
    await outbox.confirm(event("slow", FINISH), ["hooks"])
    async with delivering_to(outbox, hooks, concurrency=2) as delivery:
        await reached(lambda: hooks.tried)
        for number in range(10):
            await outbox.confirm(event(f"{number}"), ["hooks"])
        delivery.notify()
        await reached(lambda: len(hooks.got) == 10)
        assert len(hooks.tried) == 11, "the second event of the slow one waits for the first"
        hanging.set()
        await reached(lambda: hooks.ids.count("slow") == 2)


async def test_no_more_at_once_than_allowed(outbox: Broken) -> None:
    running = most = 0

    async def count(event: HookEvent) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    hooks = Recorder(react=count)
    for number in range(30):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    async with delivering_to(outbox, hooks, concurrency=3):
        await reached(lambda: len(hooks.got) == 30)
    assert most == 3


@pytest.mark.parametrize("failure", [StorageFailure("disk"), ZeroDivisionError("a mistake")])
async def test_storage_that_fails_is_tried_again(
    outbox: Broken, failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivering, "RETRY", 0.001)
    outbox.broken = {"claim": failure, "tidy": failure}
    await outbox.confirm(event("a"), ["hooks"])
    hooks = Recorder()
    async with delivering_to(outbox, hooks) as delivery:
        delivery._lanes[0]._retry = 0.001
        await reached(lambda: outbox.failures >= 4)
        outbox.broken = {"settle": failure}
        await reached(lambda: outbox.failures >= 8)
        outbox.broken = {}
        await reached(lambda: settled(outbox))
    assert len(hooks.got) == 1, "what was delivered is remembered until it could be written down"
    assert {record.getMessage() for record in caplog.records} == {"the outbox failed", "the outbox could not be tidied"}
    assert all(bool(record.exc_info) is not isinstance(failure, StorageFailure) for record in caplog.records)


async def test_closing_lets_end_what_is_under_way(outbox: Broken) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait(event: HookEvent) -> None:
        begun.set()
        await may_end.wait()

    hooks = Recorder(react=wait)
    for upload_id in "ab":
        await outbox.confirm(event(upload_id), ["hooks"])
    delivery = Delivery(outbox, [hooks], concurrency=1)
    delivery.start()
    await begun.wait()
    closing = asyncio.create_task(delivery.close(grace=60))
    await asyncio.sleep(0.01)
    assert not closing.done()
    may_end.set()
    await closing
    await delivery.close()
    assert hooks.ids == ["a"], "nothing more is begun"
    assert [stored.state for stored in settled(outbox)] == [EventState.DELIVERED]


async def test_what_takes_too_long_is_for_the_next_start(outbox: Broken) -> None:
    async def hang(event: HookEvent) -> None:
        await asyncio.sleep(1e6)

    first, second = Recorder(react=hang), Recorder()
    await outbox.confirm(event("a"), ["hooks"])
    delivery = Delivery(outbox, [first], max_attempts=1)
    delivery.start()
    await reached(lambda: first.tried)
    await delivery.close(grace=0)
    async with delivering_to(outbox, second):
        await reached(lambda: second.got)
    assert [one.id for one in first.tried] == [one.id for one in second.got]
    assert [stored.attempts for stored in settled(outbox)] == [1], "being cut off is not an attempt that failed"


async def test_a_consumer_that_cannot_be_stopped_does_not_keep_the_server(
    outbox: Broken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivering, "STUBBORN", 0.01)
    may_end = asyncio.Event()

    async def stubborn(event: HookEvent) -> None:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue

    hooks = Recorder(react=stubborn)
    await outbox.confirm(event("a"), ["hooks"])
    delivery = Delivery(outbox, [hooks])
    delivery.start()
    await reached(lambda: hooks.tried)
    await delivery.close(grace=0)
    assert "deliveries go on although they were ended" in caplog.text
    may_end.set()
    await reached(lambda: hooks.got)


async def test_a_consumer_that_cancels_itself_has_failed(outbox: Broken) -> None:
    async def odd(event: HookEvent) -> None:
        if len(hooks.tried) == 1:
            raise asyncio.CancelledError

    hooks = Recorder(react=odd)
    await outbox.confirm(event("a"), ["hooks"])
    async with delivering_to(outbox, hooks):
        await reached(lambda: hooks.got)
    assert [stored.attempts for stored in settled(outbox)] == [2]


async def test_what_was_delivered_as_storage_failed_at_the_end_is_told_of(
    outbox: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Recorder()
    outbox.broken = {"settle": StorageFailure("disk")}
    await outbox.confirm(event("a"), ["hooks"])
    async with delivering_to(outbox, hooks):
        await reached(lambda: hooks.got)
    assert "what was delivered could not be written down" in caplog.text


async def test_pending() -> None:
    clock = Time()
    outbox = MemoryOutbox(clock=clock)
    await outbox.confirm(event("a"), ["hooks"])
    clock.now += 5
    await outbox.confirm(event("b"), ["hooks"])
    delivery = Delivery(outbox, [Recorder(), Recorder("other")], clock)
    assert await delivery.pending() == [Pending("hooks", 2, 5.0), Pending("other", 0, 0.0)]
    assert repr(delivery) == "<Delivery to hooks, other>"


async def test_without_consumers_nothing_runs(outbox: Broken) -> None:
    async with delivering_to(outbox) as delivery:
        delivery.notify()
        assert not delivery._tasks
