"""The promises of `tusd_py.ports.locker`, a test each. Every wait is for a condition; time only bounds what must not happen."""

from __future__ import annotations

import asyncio

import pytest

from tusd_py.ports.failures import LockTimeout
from tusd_py.ports.locker import Lease, Locker

__all__ = ["LockerSuite"]

AGES = 30.0
"""Seconds that no test waits for, unless something is broken."""

MOMENT = 0.01
"""Seconds that a wait lasts which is meant to end in vain."""


def nobody() -> None:
    """For holders that are not to be asked."""


class LockerSuite:
    """Override `locker` with a fixture that gives a locker and closes it."""

    @pytest.fixture
    async def locker(self) -> Locker:
        raise NotImplementedError("an adapter's test class overrides this fixture")

    async def test_a_lock_is_exclusive(self, locker: Locker) -> None:
        inside = 0
        entries = []

        async def enter(number: int) -> None:
            nonlocal inside
            lease = await locker.acquire("upload", nobody, AGES)
            inside += 1
            entries.append((number, inside))
            await asyncio.sleep(0)
            inside -= 1
            await lease.release()

        await asyncio.gather(*map(enter, range(20)))
        assert entries == [(number, 1) for number in range(20)], "one at a time, in their order"

    async def test_uploads_are_independent(self, locker: Locker) -> None:
        leases = [await locker.acquire(upload_id, nobody, AGES) for upload_id in ("a", "b", "a/b")]
        for lease in leases:
            await lease.release()

    async def test_a_released_lock_can_be_taken_again(self, locker: Locker) -> None:
        for _ in range(3):
            await (await locker.acquire("upload", nobody, AGES)).release()

    async def test_the_holder_is_asked_to_let_go(self, locker: Locker) -> None:
        asked = asyncio.Event()
        lease = await locker.acquire("upload", asked.set, AGES)
        waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        async with asyncio.timeout(AGES):
            await asked.wait()
        assert not waiting.done()
        await lease.release()
        await (await waiting).release()

    async def test_nobody_is_asked_for_nothing(self, locker: Locker) -> None:
        asked = asyncio.Event()
        lease = await locker.acquire("upload", asked.set, AGES)
        await (await locker.acquire("other", nobody, AGES)).release()
        assert await locker.try_acquire("upload") is None
        await asyncio.sleep(MOMENT)
        assert not asked.is_set()
        await lease.release()

    async def test_each_holder_is_asked_when_somebody_waits_already(self, locker: Locker) -> None:
        taken = []

        async def hold(number: int) -> None:
            asked = asyncio.Event()
            lease = await locker.acquire("upload", asked.set, AGES)
            taken.append(number)
            if number < 4:
                await asked.wait()  # for each but the last, others are in the queue when it gets its turn
            await lease.release()

        async with asyncio.timeout(AGES):
            await asyncio.gather(*map(hold, range(5)))
        assert taken == [0, 1, 2, 3, 4]

    async def test_who_has_let_go_is_not_asked(self, locker: Locker) -> None:
        first_asked, second_asked = asyncio.Event(), asyncio.Event()
        lease = await locker.acquire("upload", first_asked.set, AGES)
        second = asyncio.create_task(locker.acquire("upload", second_asked.set, AGES))
        await first_asked.wait()
        first_asked.clear()
        await lease.release()
        held = await second
        with pytest.raises(LockTimeout):
            await locker.acquire("upload", nobody, MOMENT)
        async with asyncio.timeout(AGES):
            await second_asked.wait()
        assert not first_asked.is_set()
        await held.release()

    async def test_waiting_ends(self, locker: Locker) -> None:
        lease = await locker.acquire("upload", nobody, AGES)
        with pytest.raises(LockTimeout):
            await locker.acquire("upload", nobody, MOMENT)
        with pytest.raises(LockTimeout):
            await locker.acquire("upload", nobody, 0)
        await lease.release()
        await (await locker.acquire("upload", nobody, AGES)).release()

    async def test_a_cancelled_waiter_leaves_nothing_behind(self, locker: Locker) -> None:
        asked = asyncio.Event()
        lease = await locker.acquire("upload", asked.set, AGES)
        cancelled = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        await asked.wait()
        patient = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        await asyncio.sleep(MOMENT)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await lease.release()
        async with asyncio.timeout(AGES):
            await (await patient).release()
        last = await locker.try_acquire("upload")
        assert last is not None
        await last.release()

    async def test_a_waiter_cancelled_as_it_gets_the_lock_hands_it_on(self, locker: Locker) -> None:
        for _ in range(10):
            asked = asyncio.Event()
            lease = await locker.acquire("upload", asked.set, AGES)
            unlucky = asyncio.create_task(locker.acquire("upload", nobody, AGES))
            await asked.wait()
            patient = asyncio.create_task(locker.acquire("upload", nobody, AGES))
            await asyncio.sleep(0)
            await lease.release()
            unlucky.cancel()
            with pytest.raises(asyncio.CancelledError):
                await unlucky
            async with asyncio.timeout(AGES):
                await (await patient).release()

    async def test_release_is_idempotent(self, locker: Locker) -> None:
        first = await locker.acquire("upload", nobody, AGES)
        await first.release()
        second = await locker.acquire("upload", nobody, AGES)
        await first.release()
        assert await locker.try_acquire("upload") is None, "the second is still held"
        await second.release()

    async def test_release_does_its_work_in_a_cancelled_task(self, locker: Locker) -> None:
        held = asyncio.Event()

        async def hold() -> None:
            lease = await locker.acquire("upload", nobody, AGES)
            try:
                held.set()
                await asyncio.sleep(AGES)
            finally:
                task.cancel()  # once more, while it is cleaning up
                await lease.release()

        task = asyncio.create_task(hold())
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await (await locker.acquire("upload", nobody, AGES)).release()

    async def test_trying_takes_a_free_lock(self, locker: Locker) -> None:
        lease: Lease | None = await locker.try_acquire("upload")
        assert lease is not None
        assert await locker.try_acquire("upload") is None
        await lease.release()

    async def test_who_tried_successfully_is_asked_as_well(self, locker: Locker) -> None:
        asked = asyncio.Event()
        lease = await locker.try_acquire("upload", asked.set)
        assert lease is not None
        waiting = asyncio.create_task(locker.acquire("upload", nobody, AGES))
        async with asyncio.timeout(AGES):
            await asked.wait()
        await lease.release()
        await (await waiting).release()

    async def test_leases_outlive_closing(self, locker: Locker) -> None:
        lease = await locker.acquire("upload", nobody, AGES)
        await locker.close()
        assert await locker.try_acquire("upload") is None
        await lease.release()
