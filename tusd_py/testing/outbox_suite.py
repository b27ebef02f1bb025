"""The promises of `tusd_py.ports.events`, a test each. Time is a number that the tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from tusd_py.ports.events import EventState, Outbox, StoredEvent
from tusd_py.protocol.exchange import NO_REQUEST, HttpRequest
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.metadata import parse_metadata
from tusd_py.protocol.upload import Upload

__all__ = ["OutboxSuite", "Time", "event", "tried"]

CREATE, RECEIVE, FINISH, TERMINATE = (
    HookType.POST_CREATE,
    HookType.POST_RECEIVE,
    HookType.POST_FINISH,
    HookType.POST_TERMINATE,
)
HOOKS = ("hooks",)
REQUEST = HttpRequest(
    method="POST", uri="/files/?a=b", remote_addr="[::1]:5", headers={"Host": ("h",), "X-Two": ("1", "\xfcber"), "Empty": ("",)}
)


@dataclass
class Time:
    """A clock that stands still unless it is turned."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def event(upload_id: str, kind: HookType = CREATE, *, offset: int = 0, request: HttpRequest = REQUEST) -> HookEvent:
    """Something that happened to an upload."""
    return HookEvent(type=kind, upload=Upload(id=upload_id, length=9, offset=offset), request=request)


def tried(stored: StoredEvent, due_at: float, *, dead: bool = False) -> StoredEvent:
    """An event after an attempt that failed."""
    state = EventState.DEAD if dead else EventState.DUE
    return replace(stored, attempts=stored.attempts + 1, due_at=due_at, error="no", state=state)


def kinds(found: Sequence[StoredEvent]) -> list[tuple[str, HookType]]:
    return [(stored.event.upload.id, stored.event.type) for stored in found]


class OutboxSuite:
    """Override `outbox` with a fixture that gives an empty one, which goes by `clock`, and closes it."""

    @pytest.fixture
    def clock(self) -> Time:
        return Time()

    @pytest.fixture
    async def outbox(self, clock: Time) -> Outbox:
        raise NotImplementedError("an adapter's test class overrides this fixture")

    async def prepared(self, outbox: Outbox, before: float = 1e12) -> list[StoredEvent]:
        return [stored async for stored in outbox.prepared(before)]

    async def deliver_all(self, outbox: Outbox, consumer: str = "hooks") -> list[StoredEvent]:
        """Take everything that is due, in turn."""
        found: list[StoredEvent] = []
        while claimed := await outbox.claim(consumer, 10):
            await outbox.settle(claimed, ())
            found += claimed
        return found

    # Prepare, confirm, withdraw

    async def test_there_is_nothing_at_first(self, outbox: Outbox) -> None:
        assert not await self.prepared(outbox)
        assert not await outbox.claim("hooks", 10)
        assert await outbox.next_due("hooks") is None
        assert (await outbox.backlog("hooks")).count == 0

    async def test_what_is_only_prepared_is_not_due(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a"), event("a", FINISH)], HOOKS)
        assert kinds(await self.prepared(outbox)) == [("a", CREATE), ("a", FINISH)]
        assert not await outbox.claim("hooks", 10)
        assert await outbox.next_due("hooks") is None

    async def test_what_is_confirmed_is_due(self, outbox: Outbox, clock: Time) -> None:
        await outbox.prepare([event("a"), event("a", FINISH)], HOOKS)
        clock.now += 10
        await outbox.confirm(event("a"), HOOKS)
        assert kinds(await self.prepared(outbox)) == [("a", FINISH)]
        assert await outbox.next_due("hooks") == clock.now
        (stored,) = await outbox.claim("hooks", 10)
        assert (stored.state, stored.consumer, stored.attempts, stored.error) == (EventState.DUE, "hooks", 0, None)
        assert (stored.created_at, stored.due_at) == (clock.now - 10, clock.now)

    async def test_it_is_told_as_it_was_confirmed(self, outbox: Outbox) -> None:
        metadata = parse_metadata("binary gIGC/wA=,name YS50eHQ=,empty")
        upload = Upload(
            id="project/1",
            length=9,
            metadata=metadata,
            partials=("x", "y"),
            concat="final;/x /y",
            owner="me",
            storage={"Path": "p"},
        )
        told = HookEvent(type=FINISH, upload=upload.evolve(offset=9, active_at=12.5), request=REQUEST)
        await outbox.prepare([HookEvent(type=FINISH, upload=upload, request=REQUEST)], HOOKS)
        await outbox.confirm(told, HOOKS)
        (stored,) = await outbox.claim("hooks", 10)
        assert replace(stored.event, id="") == told

    async def test_the_id_is_that_of_the_preparation(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a"), event("a", FINISH)], HOOKS)
        first, second = [stored.event.id for stored in await self.prepared(outbox)]
        assert first and second and first != second
        await outbox.confirm(event("a"), HOOKS)
        await outbox.confirm(event("a", FINISH), HOOKS)
        assert [stored.event.id for stored in await self.deliver_all(outbox)] == [first, second]

    async def test_what_was_not_prepared_is_added(self, outbox: Outbox) -> None:
        await outbox.confirm(event("a", RECEIVE), HOOKS)
        (stored,) = await outbox.claim("hooks", 10)
        assert stored.event.id

    async def test_but_not_if_only_the_prepared_counts(self, outbox: Outbox) -> None:
        await outbox.confirm(event("a"), HOOKS, only_prepared=True)
        await outbox.prepare([event("b")], HOOKS)
        await outbox.confirm(event("b"), (*HOOKS, "other"), only_prepared=True)
        assert kinds(await self.deliver_all(outbox)) == [("b", CREATE)]
        assert not await self.deliver_all(outbox, "other")

    async def test_without_a_request_the_prepared_one_stays(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a", FINISH)], HOOKS)
        await outbox.confirm(event("a", FINISH, offset=9, request=NO_REQUEST), HOOKS)
        (stored,) = await outbox.claim("hooks", 10)
        assert stored.event.request == REQUEST
        assert stored.event.upload.offset == 9

    async def test_there_may_be_no_request_at_all(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a", FINISH, request=NO_REQUEST)], HOOKS)
        await outbox.confirm(event("a", FINISH, request=NO_REQUEST), HOOKS)
        await outbox.confirm(event("b", FINISH, request=NO_REQUEST), HOOKS)
        assert [stored.event.request for stored in await outbox.claim("hooks", 10)] == [NO_REQUEST, NO_REQUEST]

    async def test_preparing_again_replaces_and_keeps_the_id(self, outbox: Outbox, clock: Time) -> None:
        await outbox.prepare([event("a", FINISH)], HOOKS)
        (first,) = await self.prepared(outbox)
        clock.now += 1
        await outbox.prepare([event("a", FINISH, offset=5)], (*HOOKS, "more"))
        found = await self.prepared(outbox)
        assert [stored.event.id for stored in found] == 2 * [first.event.id]
        assert [stored.event.upload.offset for stored in found] == [5, 5]
        assert not await self.prepared(outbox, before=clock.now), "its age counts from now"

    async def test_preparing_again_without_a_request_keeps_the_one_that_was_known(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a", FINISH)], HOOKS)
        await outbox.prepare([event("a", FINISH, offset=3, request=NO_REQUEST)], HOOKS)
        await outbox.confirm(event("a", FINISH, offset=9, request=NO_REQUEST), HOOKS)
        (stored,) = await outbox.claim("hooks", 10)
        assert stored.event.request == REQUEST and stored.event.upload.offset == 9

    async def test_confirming_twice_is_confirming_once(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a")], HOOKS)
        await outbox.confirm(event("a"), HOOKS)
        await outbox.confirm(event("a"), HOOKS)
        assert len(await self.deliver_all(outbox)) == 1
        await outbox.confirm(event("a"), HOOKS)
        assert not await self.deliver_all(outbox)

    async def test_an_id_that_is_used_again_is_another_upload(self, outbox: Outbox) -> None:
        for _ in range(2):
            await outbox.prepare([event("a"), event("a", TERMINATE)], HOOKS)
            await outbox.confirm(event("a"), HOOKS)
            await outbox.confirm(event("a", TERMINATE), HOOKS)
        found = await self.deliver_all(outbox)
        assert kinds(found) == 2 * [("a", CREATE), ("a", TERMINATE)]
        assert len({stored.event.id for stored in found}) == 4

    async def test_what_is_withdrawn_was_not(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a"), event("a", FINISH), event("b", FINISH)], HOOKS)
        await outbox.confirm(event("a"), HOOKS)
        await outbox.withdraw("a", (CREATE, FINISH))
        await outbox.withdraw("never", (CREATE,))
        assert kinds(await self.prepared(outbox)) == [("b", FINISH)]
        assert kinds(await self.deliver_all(outbox)) == [("a", CREATE)], "it was confirmed"

    async def test_prepared_events_are_listed_by_age(self, outbox: Outbox, clock: Time) -> None:
        for number in range(450):
            clock.now += number % 2
            await outbox.prepare([event(f"{number}")], HOOKS)
        found = await self.prepared(outbox, before=clock.now)
        assert [stored.event.upload.id for stored in found] == [str(number) for number in range(449)]
        assert all(stored.state is EventState.PREPARED for stored in found)

    async def test_deciding_while_listing(self, outbox: Outbox) -> None:
        for number in range(450):
            await outbox.prepare([event(f"{number}")], HOOKS)
        seen = 0
        async for stored in outbox.prepared(1e12):
            seen += 1
            if seen % 2:
                await outbox.confirm(stored.event, HOOKS, only_prepared=True)
            else:
                await outbox.withdraw(stored.event.upload.id, (stored.event.type,))
        assert seen == 450
        assert not await self.prepared(outbox)
        assert len(await self.deliver_all(outbox)) == 225

    # Consumers

    async def test_each_consumer_gets_its_own(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a")], ("one", "two"))
        await outbox.confirm(event("a"), ("one", "two", "three"))
        (one,) = await outbox.claim("one", 10)
        await outbox.settle([one], ())
        (two,) = await outbox.claim("two", 10)
        (three,) = await outbox.claim("three", 10)
        assert one.event == two.event == three.event, "also by id"
        assert not await outbox.claim("four", 10)

    async def test_one_that_is_no_longer_named_was_promised(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a")], ("gone",))
        await outbox.confirm(event("a"), ("new",))
        assert len(await self.deliver_all(outbox, "gone")) == len(await self.deliver_all(outbox, "new")) == 1
        assert not await self.prepared(outbox)

    # Order

    async def test_one_of_an_upload_at_a_time(self, outbox: Outbox, clock: Time) -> None:
        for kind in (CREATE, RECEIVE, FINISH, TERMINATE):
            clock.now -= 5  # a clock that is set back does not change the order
            await outbox.confirm(event("a", kind), HOOKS)
            await outbox.confirm(event("b", kind), HOOKS)
        clock.now += 20
        for kind in (CREATE, RECEIVE, FINISH, TERMINATE):
            claimed = await outbox.claim("hooks", 10)
            assert sorted(kinds(claimed)) == [("a", kind), ("b", kind)]
            assert not await outbox.claim("hooks", 10)
            clock.now += 10
            await outbox.settle(claimed, ())

    async def test_order_is_that_of_confirmation(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a", FINISH), event("a", CREATE)], HOOKS)
        await outbox.confirm(event("a", CREATE), HOOKS)
        await outbox.confirm(event("a", FINISH), HOOKS)
        assert kinds(await self.deliver_all(outbox)) == [("a", CREATE), ("a", FINISH)]

    @pytest.mark.parametrize("kind", [RECEIVE, FINISH])
    async def test_a_creation_that_nobody_has_confirmed_comes_first(self, outbox: Outbox, kind: HookType) -> None:
        await outbox.prepare([event("a"), event("a", FINISH)], HOOKS)
        (creation, *_) = await self.prepared(outbox)
        await outbox.confirm(event("a", kind), HOOKS)
        found = await self.deliver_all(outbox)
        assert kinds(found) == [("a", CREATE), ("a", kind)]
        assert found[0].event == creation.event
        await outbox.confirm(event("a"), HOOKS, only_prepared=True)
        assert not await self.deliver_all(outbox)

    async def test_a_creation_under_an_id_that_is_taken_does_not(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a"), event("a", FINISH)], HOOKS)
        await outbox.confirm(event("a"), HOOKS)
        await outbox.prepare([event("a")], HOOKS)
        await outbox.confirm(event("a", FINISH), HOOKS)
        assert kinds(await self.deliver_all(outbox)) == [("a", CREATE), ("a", FINISH)]
        assert kinds(await self.prepared(outbox)) == [("a", CREATE)]

    async def test_a_removal_tells_nothing_of_a_creation(self, outbox: Outbox) -> None:
        await outbox.prepare([event("a")], HOOKS)
        await outbox.confirm(event("a", TERMINATE), HOOKS)
        assert kinds(await self.deliver_all(outbox)) == [("a", TERMINATE)]

    async def test_one_that_is_to_be_tried_later_holds_up_its_own_upload_only(self, outbox: Outbox, clock: Time) -> None:
        for upload_id in "ab":
            await outbox.confirm(event(upload_id, CREATE), HOOKS)
            await outbox.confirm(event(upload_id, FINISH), HOOKS)
        first, second = await outbox.claim("hooks", 10)
        await outbox.settle([second], [tried(first, clock.now + 60)])
        assert kinds(await self.deliver_all(outbox)) == [(second.event.upload.id, FINISH)]
        assert (await outbox.next_due("hooks") or 0) >= clock.now + 60
        clock.now += 60
        (again, last) = await self.deliver_all(outbox)
        assert (again.event, again.attempts, again.error) == (first.event, 1, "no")
        assert last.event.type is FINISH

    async def test_a_dead_one_holds_up_nobody(self, outbox: Outbox, clock: Time) -> None:
        await outbox.confirm(event("a", CREATE), HOOKS)
        await outbox.confirm(event("a", FINISH), HOOKS)
        (first,) = await outbox.claim("hooks", 10)
        await outbox.settle((), [tried(first, clock.now, dead=True)])
        assert kinds(await self.deliver_all(outbox)) == [("a", FINISH)]
        clock.now += 1e6
        assert not await outbox.claim("hooks", 10)

    # Claims

    async def test_nobody_gets_what_is_claimed(self, outbox: Outbox, clock: Time) -> None:
        for number in range(10):
            await outbox.confirm(event(f"{number}"), HOOKS)
        claimed = [stored for _ in range(5) for stored in await outbox.claim("hooks", 3)]
        assert len({stored.event.id for stored in claimed}) == len(claimed) == 10
        clock.now += 1e6
        assert not await outbox.claim("hooks", 3)
        assert await outbox.next_due("hooks") is None

    async def test_many_claim_at_once(self, outbox: Outbox) -> None:
        for number in range(40):
            await outbox.confirm(event(f"{number}"), HOOKS)
        found = await asyncio.gather(*(outbox.claim("hooks", 3) for _ in range(20)))
        ids = [stored.event.id for claimed in found for stored in claimed]
        assert len(set(ids)) == len(ids) == 40

    async def test_the_longest_due_comes_first(self, outbox: Outbox, clock: Time) -> None:
        for upload_id in "abc":
            await outbox.confirm(event(upload_id), HOOKS)
            clock.now += 1
        assert [stored.event.upload.id for stored in await outbox.claim("hooks", 2)] == ["a", "b"]

    async def test_settling_what_was_settled_changes_nothing(self, outbox: Outbox, clock: Time) -> None:
        await outbox.confirm(event("a"), HOOKS)
        claimed = await outbox.claim("hooks", 1)
        await outbox.settle(claimed, ())
        await outbox.settle((), [tried(claimed[0], clock.now)])
        assert not await outbox.claim("hooks", 1)

    # Progress

    async def test_newer_progress_takes_the_place_of_older(self, outbox: Outbox) -> None:
        await outbox.confirm(event("a"), HOOKS)
        for offset in range(1, 5):
            await outbox.confirm(event("a", RECEIVE, offset=offset), HOOKS)
        await outbox.confirm(event("b", RECEIVE, offset=1), HOOKS)
        await outbox.confirm(event("a", FINISH, offset=9), HOOKS)
        found = [stored.event for stored in await self.deliver_all(outbox) if stored.event.upload.id == "a"]
        assert [(one.type, one.upload.offset) for one in found] == [(CREATE, 0), (RECEIVE, 4), (FINISH, 9)]

    async def test_progress_that_is_being_told_is_left_alone(self, outbox: Outbox, clock: Time) -> None:
        await outbox.confirm(event("a", RECEIVE, offset=1), HOOKS)
        (first,) = await outbox.claim("hooks", 10)
        for offset in (2, 3):
            await outbox.confirm(event("a", RECEIVE, offset=offset), HOOKS)
        assert not await outbox.claim("hooks", 10)
        await outbox.settle([first], ())
        (second,) = await self.deliver_all(outbox)
        assert (first.event.upload.offset, second.event.upload.offset) == (1, 3)
        assert first.event.id != second.event.id

    async def test_progress_does_not_hurry_what_is_to_be_tried_later(self, outbox: Outbox, clock: Time) -> None:
        await outbox.confirm(event("a", RECEIVE, offset=1), HOOKS)
        (first,) = await outbox.claim("hooks", 10)
        await outbox.settle((), [tried(first, clock.now + 60)])
        await outbox.confirm(event("a", RECEIVE, offset=2), HOOKS)
        assert not await outbox.claim("hooks", 10)
        clock.now += 60
        (again,) = await outbox.claim("hooks", 10)
        assert (again.event.upload.offset, again.attempts) == (2, 1)

    async def test_one_with_an_id_of_its_own_happens_once_for_each(self, outbox: Outbox) -> None:
        for event_id in ("1", "1", "2"):
            await outbox.confirm(replace(event("a", HookType.POST_INGEST), id=event_id), HOOKS)
        assert [stored.event.id for stored in await self.deliver_all(outbox)] == ["1", "2"]

    async def test_what_others_have_still_to_get(self, outbox: Outbox, clock: Time) -> None:
        async def count() -> tuple[int, int]:
            return await outbox.undelivered("a", besides="hooks"), await outbox.undelivered("a", besides="other")

        await outbox.prepare([event("a"), event("a", TERMINATE), event("b")], ("hooks", "other"))
        assert await count() == (1, 1), "a removal is still to come"
        await outbox.confirm(event("a"), ("hooks", "other"))
        (stored,) = await outbox.claim("hooks", 1)
        assert await count() == (1, 1)
        await outbox.settle([stored], ())
        assert await count() == (1, 0)
        (stored,) = await outbox.claim("other", 1)
        await outbox.settle((), [tried(stored, clock.now + 60)])
        assert await count() == (1, 0)
        clock.now += 60
        await self.deliver_all(outbox, "other")
        assert await count() == (0, 0)

    # Keeping house

    async def test_backlog(self, outbox: Outbox, clock: Time) -> None:
        start = clock.now
        for number in range(5):
            await outbox.prepare([event(f"{number}")], HOOKS)
            await outbox.confirm(event(f"{number}"), HOOKS)
            clock.now += 10
        backlog = await outbox.backlog("hooks")
        assert (backlog.count, backlog.oldest) == (5, start)
        claimed = await outbox.claim("hooks", 2)
        assert (await outbox.backlog("hooks")).count == 5
        await outbox.settle(claimed, ())
        backlog = await outbox.backlog("hooks")
        assert (backlog.count, backlog.oldest) == (3, start + 20)
        assert (await outbox.backlog("other")).count == 0

    async def test_tidying_takes_nothing_that_is_not_settled(self, outbox: Outbox, clock: Time) -> None:
        await outbox.prepare([event("a"), event("b")], HOOKS)
        await outbox.confirm(event("b"), HOOKS)
        clock.now += 1e9
        await outbox.tidy()
        assert len(await self.prepared(outbox)) == 1
        assert len(await self.deliver_all(outbox)) == 1

    async def test_closing_may_be_repeated(self, outbox: Outbox) -> None:
        await outbox.confirm(event("a"), HOOKS)
        await outbox.close()
        await outbox.close()
