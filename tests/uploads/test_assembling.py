"""Finals: promised, put together, read meanwhile, failing, tried again, found after a restart; and no wake-up is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.uploads.support import POLICY_DAY, World, append, assembling, cancelling, create, nothing, quiet, read, send, until
from tusd_py.ports.failures import OutOfSpace, RecordDamaged
from tusd_py.protocol.refusals import (
    InvalidConcat,
    MaxSizeExceeded,
    ModifyFinal,
    NotReady,
    PartialInUse,
    UploadFailed,
    UploadGone,
    UploadMissing,
)
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.upload import Upload
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Durability, Uploads
from tusd_py.uploads import assembling as assembling_module
from tusd_py.uploads import creating as creating_module


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for that does not end by itself in these tests: a POST waits until its final is put together."""
    monkeypatch.setattr(creating_module, "ASSEMBLY_WAIT", 30.0)


async def part(world: World, upload_id: str, data: bytes = b"", length: int | None = -1) -> str:
    return (await world.put(upload_id, data, length=len(data) if length == -1 else length, is_partial=True)).id


async def concatenate(uploads: Uploads, *partials: str) -> Upload:
    return await uploads.create(create(None, partials=partials, concat="final;..."), ScriptedBody())


@pytest.fixture
async def parts(world: World) -> tuple[str, str]:
    """`a` is finished, `b` has two of its four bytes."""
    return await part(world, "a", b"0123"), await part(world, "b", b"45", 8 - 4)


async def is_together(world: World, upload_id: str, data: bytes) -> bool:
    record = await world.record(upload_id)
    return record.finished and world.bytes_of(upload_id) == data and not await world.records.waiting_finals()


# Put together at once


async def test_a_final_of_finished_partials(world: World) -> None:
    await part(world, "a", b"0123")
    await part(world, "b", b"45")
    final = await concatenate(world.open(), "b", "a", "b")
    assert final.finished and final.length == 8 and final.partials == ("b", "a", "b") and final.concat == "final;..."
    assert await is_together(world, final.id, b"45012345")
    assert world.bytes_of("a") == b"0123", "partials stay"
    assert world.unlocked


@pytest.mark.parametrize("durability", Durability)
async def test_what_is_synced(world: World, durability: Durability) -> None:
    await part(world, "a", b"0123")
    await concatenate(world.open(durability=durability), "a")
    calls = world.probe.calls
    synced = [name for name in calls if "sync" in name]
    of_the_record = "info.sync"  # of the final, before its bytes can be seen
    assert (of_the_record in calls) is (durability is not Durability.NONE)
    if synced:
        assert calls.index(of_the_record) < calls.index("data.concatenate") < calls.index("info.commit_offset")


async def test_a_final_of_nothing_is_finished_at_once(world: World) -> None:
    await part(world, "empty", b"")
    final = await concatenate(world.open(), "empty", "empty")
    assert final.finished and world.bytes_of(final.id) == b""
    assert "info.expect" not in world.probe.calls


async def test_finals_are_made_of_partials(world: World) -> None:
    await world.put("whole", b"x")
    for partials, refusal in ((("whole",), InvalidConcat), (("none",), UploadMissing)):
        with pytest.raises(refusal):
            await concatenate(world.open(), *partials)
    assert await world.ids() == ["whole"]


async def test_a_final_beyond_the_maximum(world: World, parts: tuple[str, str]) -> None:
    with pytest.raises(MaxSizeExceeded):
        await concatenate(world.open(policy=Policy(max_size=7)), *parts)


# Promised


async def test_a_final_of_unfinished_partials_is_promised(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)
    assert not final.finished and final.length == 8
    with pytest.raises(NotReady) as refused:
        await uploads.open_content(final.id)
    assert refused.value.headers == {"Retry-After": "1"}
    assert (await uploads.describe(final.id, takeover=True)) == final
    await send(uploads, "b", 2, b"67")
    await quiet()
    assert await is_together(world, final.id, b"01234567")
    assert await read(uploads, final.id) == b"01234567"


async def test_its_length_is_known_once_the_last_partial_tells_its_own(world: World) -> None:
    await part(world, "a", b"0123")
    await part(world, "b", b"45", None)
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    assert final.length is None
    await send(uploads, "b", 2, b"6", length=4)
    assert (await uploads.describe(final.id, takeover=False)).length == 8
    await quiet()
    assert (await world.record(final.id)).length == 8
    await send(uploads, "b", 3, b"7")
    await quiet()
    assert await is_together(world, final.id, b"01234567")


async def test_a_partial_may_be_finished_by_a_declaration(world: World) -> None:
    await part(world, "b", b"45", None)
    uploads = world.open()
    final = await concatenate(uploads, "b")
    await send(uploads, "b", 2, length=2)
    await quiet()
    assert await is_together(world, final.id, b"45")


async def test_several_finals_may_wait_for_a_partial(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    finals = [await concatenate(uploads, *partials) for partials in (("a", "b"), ("b", "a"), ("b",))]
    await send(uploads, "b", 2, b"67")
    await quiet()
    for final, data in zip(finals, (b"01234567", b"45670123", b"4567"), strict=True):
        assert await is_together(world, final.id, data)


# While it is put together


class Gate:
    """Holds back `data.concatenate`."""

    def __init__(self, world: World) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        world.probe.before(self._pass)

    async def _pass(self, _: int, name: str) -> None:
        if name == "data.concatenate":
            self.reached.set()
            await self.open.wait()


@pytest.fixture
async def slow(world: World, monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(creating_module, "ASSEMBLY_WAIT", 0.0)
    await part(world, "a", b"0123")
    await part(world, "b", b"45")
    return Gate(world)


async def test_nobody_waits_for_a_copy(world: World, slow: Gate) -> None:
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    assert final.finished and final.offset == 6, "as good as finished"
    assert world.bytes_of(final.id) == b""
    assert await read(uploads, final.id) == b"012345"
    assert await read(world.open(), final.id) == b"012345", "in another process, too"
    slow.open.set()
    await quiet()
    assert await is_together(world, final.id, b"012345")
    assert await read(uploads, final.id) == b"012345"


async def test_partials_stay_until_it_is_together(world: World, slow: Gate) -> None:
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    with pytest.raises(PartialInUse) as refused:
        await uploads.terminate("a")
    assert refused.value.headers == {"Retry-After": "1"}
    slow.open.set()
    await quiet()
    await uploads.terminate("a")
    assert await world.ids() == ["b", final.id]
    assert await read(uploads, final.id) == b"012345"


async def test_a_final_may_be_deleted_meanwhile(world: World, slow: Gate) -> None:
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    await until(slow.reached.is_set)
    await uploads.terminate(final.id)
    assert not assembling() and not await world.records.waiting_finals()
    assert await world.ids() == ["a", "b"] and world.bytes_of(final.id) is None
    await uploads.terminate("a")


async def test_its_bytes_are_missing_when_a_partials_are(world: World, slow: Gate) -> None:
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    await world.store.remove(await world.record("b"))
    with pytest.raises(UploadMissing):
        await uploads.open_content(final.id)
    assert world.probe.calls.count("content.close") == 2, "the final's own and a's"


async def test_closing_leaves_it_to_the_next_start(world: World, slow: Gate) -> None:
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    await until(slow.reached.is_set)
    await uploads.close()
    assert not assembling() and world.unlocked
    slow.open.set()
    await world.open().recover()
    await quiet()
    assert await is_together(world, final.id, b"012345")


async def test_a_second_process_leaves_it_to_the_first(world: World, slow: Gate) -> None:
    final = await concatenate(world.open(), "a", "b")
    await until(slow.reached.is_set)
    await world.open().recover()
    await until(lambda: len(assembling()) == 1)
    assert world.probe.calls.count("data.concatenate") == 1
    slow.open.set()
    await quiet()
    assert await is_together(world, final.id, b"012345")


async def test_a_final_seen_unfinished_whose_partial_goes_once_it_is_together(world: World, slow: Gate) -> None:
    """Who has read the record before does not take the missing partial for a failure."""
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    done = False

    async def finish(_: int, name: str) -> None:
        nonlocal done
        if name == "info.load" and world.probe.calls.count(name) > 1 and not done:
            done = True
            await uploads.close()  # what it has begun; another process is faster
            other = world.open()
            await other.recover()
            await until(lambda: len(world.bytes_of(final.id) or b"") == 6)
            await quiet()
            await other.terminate("a")

    looking = world.open()
    world.probe.before(finish)
    described = await looking.describe(final.id, takeover=False)
    assert done and described.finished
    assert await read(looking, final.id) == b"012345"


async def test_a_final_that_is_being_opened_when_a_partial_goes_once_it_is_together(world: World, slow: Gate) -> None:
    uploads = world.open()
    final = await concatenate(uploads, "a", "b")
    done = False

    async def finish(_: int, name: str) -> None:
        nonlocal done
        if name == "content.close" and not done:  # of the final's own, which is empty
            done = True
            slow.open.set()
            await quiet()
            await uploads.terminate("a")

    world.probe.before(finish)
    assert await read(uploads, final.id) == b"012345"
    assert done


# Failing for good


async def test_a_partial_that_is_deleted(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)
    await uploads.terminate("b")
    await quiet()
    assert (await world.record(final.id)).failure == "one of its partial uploads is gone"
    with pytest.raises(UploadFailed, match="can't be finished: one of its partial uploads is gone"):
        await uploads.describe(final.id, takeover=False)
    with pytest.raises(UploadFailed):
        await uploads.open_content(final.id)
    assert not await world.records.waiting_finals()
    await uploads.terminate(final.id)


async def test_a_failure_is_seen_before_it_is_recorded(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)
    await quiet()
    await world.records.remove("b")
    lease = await world.locks.try_acquire(final.id)
    assert lease is not None
    with pytest.raises(UploadFailed):
        await uploads.describe(final.id, takeover=False)
    assert (await world.record(final.id)).failure is None
    await lease.release()


async def test_a_partial_that_expires(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open(policy=POLICY_DAY)
    final = await concatenate(uploads, *parts)
    world.now += 86400
    with pytest.raises((UploadFailed, UploadGone)):
        await uploads.describe(final.id, takeover=False)
    await quiet()
    assert (await world.record(final.id)).failure == "one of its partial uploads has expired"


async def test_partials_that_turn_out_too_large(world: World) -> None:
    await part(world, "a", b"0123")
    await part(world, "b", b"45", None)
    uploads = world.open(policy=Policy(max_size=7))
    final = await concatenate(uploads, "a", "b")
    await send(uploads, "b", 2, b"67", length=4)
    await quiet()
    assert (await world.record(final.id)).failure == "its partial uploads exceed the maximum size"


async def test_a_partial_whose_record_is_damaged(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)
    real = world.records.load

    async def load(upload_id: str) -> Upload:
        if upload_id == "b":
            raise RecordDamaged("no JSON")
        return await real(upload_id)

    world.records.load = load  # type: ignore[method-assign]
    await world.open().recover()
    await quiet()
    assert (await world.record(final.id)).failure == "one of its partial uploads is gone"


# Failing for now


async def test_a_post_that_fails_in_time_leaves_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await part(world, "a", b"0123")
    world.probe.fail("data.concatenate", OutOfSpace("full"))
    with pytest.raises(OutOfSpace):
        await concatenate(world.open(), "a")
    assert await world.ids() == ["a"] and not await world.records.waiting_finals()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "a final upload could not be finished")
    ]


@pytest.mark.parametrize(
    "step", ["data.create", "info.create", "info.expect", "info.sync", "info.commit_offset", "info.unexpect"]
)
async def test_a_post_that_fails_at_any_step(world: World, step: str) -> None:
    await part(world, "a", b"0123")
    world.probe.fail(step, OutOfSpace("full"))
    with pytest.raises(OutOfSpace):
        await concatenate(world.open(durability=Durability.FINAL), "a")
    await quiet()
    assert await world.ids() == ["a"] and world.bytes_of("id1") is None and world.unlocked


async def test_a_failure_in_the_background_is_tried_again_in_time(
    world: World, parts: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)
    world.probe.fail("data.concatenate", OutOfSpace("full"))
    assert (await send(uploads, "b", 2, b"67")).finished, "which is not the partial's failure"
    await quiet()
    assert "could not be finished" in caplog.text
    assert (await uploads.describe(final.id, takeover=False)).finished, "promised"
    assert await read(uploads, final.id) == b"01234567"
    assert world.probe.calls.count("data.concatenate") == 1, "a full disk is not asked again at once"
    world.now += assembling_module.RETRY
    await uploads.describe(final.id, takeover=False)
    await quiet()
    assert world.probe.calls.count("data.concatenate") == 2
    world.probe.mend()
    world.now += assembling_module.RETRY - 1
    await uploads.describe(final.id, takeover=False)
    await quiet()
    assert world.probe.calls.count("data.concatenate") == 2
    world.now += 1
    await uploads.describe(final.id, takeover=False)
    await quiet()
    assert await is_together(world, final.id, b"01234567")


async def test_a_final_whose_record_cannot_be_read(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)
    await quiet()
    world.probe.fail("info.load", RecordDamaged("no JSON"))
    await world.open().recover()
    await quiet()
    world.probe.mend()
    await uploads.terminate("b")
    await quiet()
    assert (await world.record(final.id)).failure is not None


async def test_a_damaged_final_does_not_keep_a_partial(world: World, parts: tuple[str, str]) -> None:
    uploads = world.open()
    await concatenate(uploads, *parts)
    world.records._records["id1"] = Upload(id="id1", length=8, partials=("a", "b"), failure="gone")
    await uploads.terminate("a")
    await world.records.remove("id1")
    await uploads.terminate("b")
    await quiet()
    assert await world.ids() == []


# Noticing


async def test_a_partial_that_finished_just_before_a_crash(world: World, parts: tuple[str, str]) -> None:
    final = await concatenate(world.open(), *parts)
    writer = await world.store.open_writer(await world.record("b"))
    writer.write(b"67")
    await world.records.commit_offset((await world.record("b")).evolve(offset=4))  # and then nobody was told
    restarted = world.open()
    await restarted.recover()
    await quiet()
    assert await is_together(world, final.id, b"01234567")
    assert "info.tidy" in world.probe.calls


async def test_whoever_asks_for_a_final_keeps_it_going(world: World, parts: tuple[str, str]) -> None:
    final = await concatenate(world.open(), *parts)
    await world.records.remove("b")
    await part(world, "c", b"")
    world.records._records["b"] = Upload(id="b", length=2, offset=2, is_partial=True)
    uploads = world.open()
    assert (await uploads.describe(final.id, takeover=False)).finished
    await quiet()
    assert await is_together(world, final.id, b"012345")


async def test_recovery_forgets_finals_that_are_gone_or_done(world: World) -> None:
    await world.records.expect(Upload(id="gone", length=4, partials=("a",)))
    done = await world.put("done", b"xy", partials=("b",))
    await world.records.expect(done)
    await world.open().recover()
    await quiet()
    assert await world.records.waiting_finals() == ("gone",)
    assert world.unlocked


Round = Callable[[World, Uploads, Uploads, int], Awaitable[bool]]


async def everywhere(round_: Round, *, same_process: bool) -> None:
    """Do `round_` with every number of a call that it reaches, each time in a new world."""
    number, reached = 0, True
    while reached:
        world = World()
        await part(world, "a", b"01", 4)
        await part(world, "b", b"45", 4)
        one = world.open()
        reached = await round_(world, one, one if same_process else world.open(), number)
        await world.close()
        number += 1
    assert number > 3, "no call was reached"


async def interleave(
    world: World, number: int, first: Callable[[], Awaitable[Any]], then: Callable[[], Awaitable[Any]]
) -> bool:
    """Do `first` and, in the middle of it, before call `number` of any adapter, all of `then`. Whether there was one."""
    reached = False
    inner: asyncio.Task[Any] | None = None

    async def act(count: int, _: str) -> None:
        nonlocal reached, inner
        if count == number and inner is None:
            reached = True
            inner = asyncio.ensure_future(then())
            await asyncio.wait({inner}, timeout=30)

    world.probe.before(act)
    await first()
    await quiet()
    world.probe.before(nothing)
    if inner is None:
        await then()
    else:
        await inner
    await quiet()
    return reached


@pytest.mark.parametrize("same_process", [True, False])
async def test_no_wake_up_is_lost_between_two_partials(same_process: bool) -> None:
    """The last two partials finish at the same time, however interleaved: the final is put together, nobody has to ask."""

    async def finish_both(world: World, one: Uploads, other: Uploads, number: int) -> bool:
        final = await concatenate(one, "a", "b")
        reached = await interleave(world, number, lambda: send(one, "b", 2, b"67"), lambda: send(other, "a", 2, b"23"))
        assert await is_together(world, final.id, b"01234567"), f"finished before call {number}"
        return reached

    await everywhere(finish_both, same_process=same_process)


@pytest.mark.parametrize("same_process", [True, False])
async def test_no_wake_up_is_lost_while_the_final_is_created(same_process: bool) -> None:
    async def finish_during_creation(world: World, one: Uploads, other: Uploads, number: int) -> bool:
        await send(one, "a", 2, b"23")
        reached = await interleave(world, number, lambda: concatenate(one, "a", "b"), lambda: send(other, "b", 2, b"67"))
        assert await is_together(world, "id1", b"01234567"), f"finished before call {number}"
        return reached

    await everywhere(finish_during_creation, same_process=same_process)


@pytest.mark.parametrize("same_process", [True, False])
async def test_no_wake_up_is_lost_to_a_refused_append_to_the_final(same_process: bool) -> None:
    """Who asks for the final's lock in vain relies on its holder, whoever that is."""

    async def finish_during_refusal(world: World, one: Uploads, other: Uploads, number: int) -> bool:
        await send(one, "a", 2, b"23")
        final = await concatenate(one, "a", "b")
        await quiet()

        async def refused() -> None:
            with pytest.raises(ModifyFinal):
                await send(one, final.id, 0, b"x")

        reached = await interleave(world, number, refused, lambda: send(other, "b", 2, b"67"))
        assert await is_together(world, final.id, b"01234567"), f"finished before call {number}"
        return reached

    await everywhere(finish_during_refusal, same_process=same_process)


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_final_deleted_at_any_moment_is_gone(same_process: bool) -> None:
    async def delete(world: World, one: Uploads, other: Uploads, number: int) -> bool:
        await send(one, "a", 2, b"23")
        final = await concatenate(one, "a", "b")
        await quiet()
        reached = await interleave(world, number, lambda: send(one, "b", 2, b"67"), lambda: other.terminate(final.id))
        assert await world.ids() == ["a", "b"] and world.bytes_of(final.id) is None, f"deleted before call {number}"
        assert not await world.records.waiting_finals() and world.unlocked
        return reached

    await everywhere(delete, same_process=same_process)


@pytest.mark.parametrize("step", ["info.load", "info.expect", "data.concatenate", "info.commit_offset", "info.unexpect"])
async def test_work_that_is_cancelled_is_taken_up_again(world: World, parts: tuple[str, str], step: str) -> None:
    uploads = world.open()
    final = await concatenate(uploads, *parts)

    async def in_background(number: int, name: str) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name().startswith("settle "):
            await cancel(number, name)

    cancel = cancelling(step)
    world.probe.before(in_background)
    await uploads.append(append("b", 2, 2), ScriptedBody(b"67"))
    await quiet()
    assert world.unlocked
    await world.open().recover()
    await quiet()
    assert await is_together(world, final.id, b"01234567")


async def test_a_partial_is_removed_while_its_final_becomes_due(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The last partial is finished between the look at the finals and the removal: nobody may begin to use what is going."""
    uploads = world.open()
    await part(world, "a", b"0123")
    await world.put("b", length=2, is_partial=True)
    final = await concatenate(uploads, "a", "b")

    async def finish_the_other(_: int, name: str) -> None:
        if name == "data.remove" and not (await world.record("b")).finished:
            await send(world.open(), "b", 0, b"45")
            await quiet()

    world.probe.before(finish_the_other)
    await uploads.terminate("a")
    await quiet()
    assert (await world.record(final.id)).failure is not None
    assert "could not be finished" not in caplog.text
    assert world.bytes_of(final.id) == b""
