"""The queue of what has still to be taken in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from tusd_py_cas.serving import queue as queue_module
from tusd_py_cas.serving.queue import AT_ONCE, LIMIT, IntakeQueue

from tests.cas.serving.support import until
from tusd_py.ports.failures import StorageFailure


class Takes:
    """What the queue calls; waits while it is told to, fails where it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, upload_id: str) -> None:
        self.begun.append(upload_id)
        await self.gates.get(upload_id, self.go).wait()
        if failures := self.failures.get(upload_id):
            raise failures.pop()


@pytest.fixture
def takes() -> Takes:
    return Takes()


@pytest.fixture
async def queue(takes: Takes) -> AsyncIterator[IntakeQueue]:
    queue = IntakeQueue(takes)
    running = asyncio.create_task(queue.run())
    yield queue
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_oldest_come_first_and_so_many_at_once(queue: IntakeQueue, takes: Takes) -> None:
    takes.go.clear()
    names = [f"{number:02}" for number in range(3 * AT_ONCE)]
    for name in [*names, *names]:
        queue.add(name)
    await until(lambda: len(takes.begun) == AT_ONCE)
    await asyncio.sleep(0.01)
    assert takes.begun == names[:AT_ONCE] and queue.depth == len(names) and queue.age > 0
    takes.go.set()
    await until(lambda: not queue.depth)
    assert takes.begun == names and not queue.age


async def test_the_age_is_that_of_the_oldest_wherever_it_waits(
    queue: IntakeQueue, takes: Takes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(queue_module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(queue_module, "AT_ONCE", 1)
    takes.gates = {name: asyncio.Event() for name in ("a1", "a2", "b", "c")}
    for name, series in (("a1", 1), ("a2", 1), ("b", None), ("c", None)):
        queue.add(name, series)
        now += 10
    await until(lambda: takes.begun == ["a1"])
    assert (queue.age, queue.depth) == (40, 4)
    takes.gates["a1"].set()
    await until(lambda: takes.begun == ["a1", "b"])
    assert (queue.age, queue.depth) == (30, 3), "the one that had to wait for it"
    takes.failures["b"] = [StorageFailure("full")]
    takes.gates["b"].set()
    await until(lambda: takes.begun == ["a1", "b", "c"])
    assert (queue.age, queue.depth) == (30, 3), "it comes behind those that did not"
    for name in ("c", "a2"):
        takes.gates[name].set()
    await until(lambda: takes.begun[-1] == "a2" and not queue._running)
    assert (queue.age, queue.depth) == (20, 1), "one that is to be tried again"
    now += 1000
    queue._wake.set()
    await until(lambda: not queue.depth)
    assert not queue.age


async def test_nothing_stays_counted_that_was_there_twice(
    queue: IntakeQueue, takes: Takes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has failed, and was added again before it was tried again."""
    monkeypatch.setattr(queue_module, "AT_ONCE", 1)
    takes.failures["a"] = [StorageFailure("full")]
    queue.add("a")
    await until(lambda: queue._failed)
    takes.go.clear()
    for name in ("x", "a"):
        queue.add(name)
    await until(lambda: takes.begun == ["a", "x"])
    assert queue.depth == 3
    queue._failed[0].due = 0.0
    queue._wake.set()
    await until(lambda: not queue._failed)
    assert queue.depth == 2
    takes.go.set()
    await until(lambda: not queue.depth)
    assert not queue.age and not queue._waiting


async def test_one_that_is_being_taken_in_may_have_to_be_taken_in_again(queue: IntakeQueue, takes: Takes) -> None:
    """Its id may have been used again since."""
    takes.go.clear()
    queue.add("a")
    await until(lambda: takes.begun)
    queue.add("a")
    takes.go.set()
    await until(lambda: not queue.depth)
    assert takes.begun == ["a", "a"]


async def test_a_failure_is_tried_again_and_holds_nobody_up(
    queue: IntakeQueue, takes: Takes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue_module, "RETRY", 0.01)
    takes.failures["a"] = [StorageFailure("full"), ValueError("a mistake")]
    queue.add("a")
    queue.add("b")
    await until(lambda: not queue.depth)
    assert sorted(takes.begun) == ["a", "a", "a", "b"] and takes.begun[-1] == "a"
    assert caplog.text.count("could not be taken in") == 3, "the mistake with its traceback besides"


async def test_what_fails_for_long_is_left_for_later(
    queue: IntakeQueue, takes: Takes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue_module, "RETRY", 0.0)
    takes.failures["a"] = [StorageFailure("full") for _ in range(100)]
    queue.add("a")
    await until(lambda: "is left for the next look" in caplog.text)
    assert len(takes.begun) == queue_module.ATTEMPTS and not queue.depth


async def test_pauses_grow(queue: IntakeQueue, takes: Takes, caplog: pytest.LogCaptureFixture) -> None:
    takes.failures["a"] = [StorageFailure("full") for _ in range(100)]
    queue.add("a")
    pauses = []
    for attempt in range(queue_module.ATTEMPTS - 1):
        await until(lambda: queue._failed)
        (waiting,) = queue._failed
        assert waiting.attempts == attempt + 1 and queue.depth == 1
        pauses.append(caplog.records[-1].fields["retry"])  # type: ignore[attr-defined]
        waiting.due = 0.0
        queue._wake.set()
        await until(lambda: len(takes.begun) == attempt + 2)  # noqa: B023
    for number, pause in enumerate(pauses):
        longest = min(queue_module.RETRY * 2**number, queue_module.LONGEST_RETRY)
        assert longest / 2 <= pause <= longest


async def test_no_more_are_remembered_than_there_is_room_for(takes: Takes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "LIMIT", 3)
    queue = IntakeQueue(takes)
    assert queue.missed and LIMIT > 1000
    queue.missed = False
    for name in "aabc":
        queue.add(name)
    assert not queue.missed
    queue.add("d")
    assert queue.missed and queue.depth == 3


async def test_who_brings_many_waits_for_room(queue: IntakeQueue, takes: Takes) -> None:
    takes.go.clear()

    async def bring() -> None:
        for number in range(200):
            await queue.put(f"{number}")

    bringing = asyncio.create_task(bring())
    await until(lambda: len(takes.begun) == AT_ONCE and len(queue._waiting) == queue_module.ROOM)
    await asyncio.sleep(0.01)
    assert queue.depth == AT_ONCE + queue_module.ROOM and not bringing.done()
    takes.go.set()
    await asyncio.wait_for(bringing, 10)
    await until(lambda: not queue.depth)
    assert len(takes.begun) == 200


async def test_and_for_failures_to_come_to_an_end(queue: IntakeQueue, takes: Takes, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk everything fails. What there was no room for would have to be looked for again, and at once."""
    monkeypatch.setattr(queue_module, "FAILED", 3)
    monkeypatch.setattr(queue_module, "ROOM", 1)
    queue.missed = False
    for number in range(50):
        takes.failures[f"{number}"] = [StorageFailure("full") for _ in range(100)]

    async def bring() -> None:
        for number in range(50):
            await queue.put(f"{number}")

    bringing = asyncio.create_task(bring())
    await until(lambda: len(queue._failed) >= 3)
    await asyncio.sleep(0.1)
    assert not bringing.done() and len(set(takes.begun)) <= 3 + AT_ONCE + 1 and not queue.missed
    takes.failures.clear()
    while not bringing.done():
        for waiting in queue._failed:
            waiting.due = 0.0
        queue._wake.set()
        await asyncio.sleep(0.001)
    await until(lambda: len(set(takes.begun)) == 50)


async def test_what_is_going_to_be_tried_again_is_not_added_again(queue: IntakeQueue, takes: Takes) -> None:
    takes.failures["a"] = [StorageFailure("full")]
    queue.add("a")
    await until(lambda: queue._failed)
    await queue.put("a")
    queue.add_again("a")
    assert queue.depth == 1
    queue.add("a")
    assert queue.depth == 2, "its id may have been used again"


async def test_what_is_given_up_waits_again(takes: Takes) -> None:
    takes.go.clear()
    queue = IntakeQueue(takes)
    queue.add("a")
    for attempt in range(2):
        running = asyncio.create_task(queue.run())
        await until(lambda: len(takes.begun) == attempt + 1)  # noqa: B023
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert queue.depth == 1 and not queue._running


async def test_versions_of_one_object_come_one_after_the_other(queue: IntakeQueue, takes: Takes) -> None:
    takes.go.clear()
    for name in ("a1", "a2", "b1", "a3", "b2"):
        queue.add(name, series=ord(name[0]))
    queue.add("other")
    await until(lambda: len(takes.begun) == 3)
    await asyncio.sleep(0.01)
    assert takes.begun == ["a1", "b1", "other"] and queue.depth == 6
    takes.go.set()
    await until(lambda: not queue.depth)
    assert [name for name in takes.begun if name[0] == "a"] == ["a1", "a2", "a3"]
    assert [name for name in takes.begun if name[0] == "b"] == ["b1", "b2"]
    queue.add("a4", series=ord("a"))
    await until(lambda: takes.begun[-1] == "a4")


async def test_a_failure_holds_the_others_of_its_series_up_no_longer(
    queue: IntakeQueue, takes: Takes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "RETRY", 0.01)
    takes.failures["a1"] = [StorageFailure("full")]
    for name in ("a1", "a2", "a3"):
        queue.add(name, series=1)
    await until(lambda: not queue.depth)
    assert sorted(takes.begun) == ["a1", "a1", "a2", "a3"] and not queue._series


async def test_a_series_whose_next_upload_waits_already(queue: IntakeQueue, takes: Takes) -> None:
    """Found by a look at all uploads meanwhile."""
    takes.go.clear()
    queue.add("a1", series=1)
    for number in range(AT_ONCE):
        queue.add(f"{number}")
    queue.add("a2", series=1)
    queue.add("a2")
    queue.add("a3", series=1)
    await until(lambda: len(takes.begun) == AT_ONCE)
    takes.go.set()
    await until(lambda: not queue.depth)
    assert sorted(takes.begun[AT_ONCE + 1 :]) in (["a2", "a2", "a3"], ["a2", "a3"]) and not queue._series


async def test_a_series_that_is_given_up_goes_on_where_it_was(takes: Takes) -> None:
    takes.go.clear()
    queue = IntakeQueue(takes)
    for name in ("a1", "a2"):
        queue.add(name, series=1)
    running = asyncio.create_task(queue.run())
    await until(lambda: takes.begun)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert queue.depth == 2
    takes.go.set()
    running = asyncio.create_task(queue.run())
    await until(lambda: not queue.depth)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert takes.begun == ["a1", "a1", "a2"] and not queue._series


class Rush:
    """Clients in a hurry, until somebody says otherwise."""

    def __init__(self) -> None:
        self.is_on, self.asked = True, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.is_on


async def test_in_a_rush_only_what_is_urgent_is_taken_in(takes: Takes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "LOOK", 0.01)
    rush = Rush()
    queue = IntakeQueue(takes, rush)
    running = asyncio.create_task(queue.run())
    for name in ("a", "b"):
        queue.add(name)
    queue.add("partial", urgent=True)
    await until(lambda: takes.begun and rush.asked > 5)
    assert takes.begun == ["partial"] and queue.depth == 2
    rush.is_on = False
    await until(lambda: not queue.depth)
    assert takes.begun == ["partial", "a", "b"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_rush_that_does_not_end_is_none(takes: Takes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else more and more would wait."""
    monkeypatch.setattr(queue_module, "LOOK", 0.01)
    monkeypatch.setattr(queue_module, "PATIENCE", 0.2)
    rush = Rush()
    queue = IntakeQueue(takes, rush)
    running = asyncio.create_task(queue.run())
    queue.add("a")
    await until(lambda: rush.asked > 3)
    assert not takes.begun
    await until(lambda: takes.begun == ["a"])
    for name in "bcd":
        queue.add(name)
    await until(lambda: not queue.depth)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
