"""Asking, reading and removing; and what expires."""

from __future__ import annotations

import asyncio

import pytest

from tests.uploads.support import POLICY_DAY, World, append, cancelling, create, quiet, read, send, until
from tusd_py.ports.failures import RecordDamaged, StorageFailure, UploadNotFound
from tusd_py.protocol.refusals import UploadDamaged, UploadGone, UploadInterrupted, UploadMissing
from tusd_py.testing.bodies import ScriptedBody

DAY = 86400.0


# Asking and reading


async def test_who_resumes_holds_the_lock_for_a_moment(world: World) -> None:
    await world.put("a", b"01", length=4)
    assert (await world.open().describe("a", takeover=True)).offset == 2
    assert world.probe.calls == ["info.load", "locks.acquire", "info.load"]
    assert world.unlocked


async def test_no_lock_for_who_only_looks_or_for_what_is_finished(world: World) -> None:
    uploads = world.open()
    await world.put("a", b"01", length=4)
    await world.put("b", b"01")
    await uploads.describe("a", takeover=False)
    await uploads.describe("b", takeover=True)
    await read(uploads, "a")
    assert not [name for name in world.probe.calls if name.startswith("locks")]


async def test_an_upload_that_goes_while_it_is_waited_for(world: World) -> None:
    await world.put("a", b"01", length=4)
    lease = await world.locks.try_acquire("a")
    assert lease is not None
    uploads = world.open()
    asking = asyncio.create_task(uploads.describe("a", takeover=True))
    await until(lambda: "1 waiting" in repr(world.locks))
    await world.records.remove("a")
    await lease.release()
    with pytest.raises(UploadMissing):
        await asking
    assert world.unlocked


async def test_reading(world: World) -> None:
    await world.put("a", b"0123456789")
    upload, content = await world.open().open_content("a")
    assert upload.finished and content.size == 10
    assert await content.read(2, 3) == b"234"
    await content.close()


async def test_a_record_without_bytes_is_missing(world: World) -> None:
    await world.store.remove(await world.put("a", b"01"))
    with pytest.raises(UploadMissing):
        await world.open().open_content("a")


async def test_a_failing_store_is_a_failure(world: World) -> None:
    await world.put("a", b"01")
    world.probe.fail("data.open_content", StorageFailure("disk"))
    with pytest.raises(StorageFailure, match="disk"):
        await world.open().open_content("a")


@pytest.mark.parametrize("tombstone", [True, False])
async def test_gone_or_never_there(world: World, tombstone: bool) -> None:
    await world.put("a", b"01")
    await world.records.remove("a", tombstone=tombstone)
    uploads = world.open()
    refusal = UploadGone if tombstone else UploadMissing
    for asking in (
        uploads.describe("a", takeover=True),
        uploads.describe("a", takeover=False),
        uploads.open_content("a"),
        uploads.terminate("a"),
    ):
        with pytest.raises(refusal):
            await asking
    assert world.unlocked


async def test_a_damaged_record_is_said_to_be_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.probe.fail("info.load", RecordDamaged("no JSON"))
    with pytest.raises(UploadDamaged):
        await world.open().describe("a", takeover=False)
    assert "no JSON" in caplog.text


# Removing


async def test_terminating(world: World) -> None:
    await world.put("a", b"01")
    uploads = world.open()
    await uploads.terminate("a")
    assert await world.is_empty() and world.unlocked
    assert world.probe.calls.index("data.remove") < world.probe.calls.index("info.remove")
    with pytest.raises(UploadMissing):
        await uploads.terminate("a")


async def test_terminating_stops_who_is_sending(world: World) -> None:
    await world.put("a", b"01", length=4)
    uploads = world.open()
    body = ScriptedBody(b"2", asyncio.Event())
    sending = asyncio.create_task(uploads.append(append("a", 2, 2), body))
    await until(lambda: body.pumped)
    await uploads.terminate("a")
    with pytest.raises(UploadInterrupted):
        await sending
    assert await world.is_empty()


@pytest.mark.parametrize("step", ["data.remove", "info.remove"])
async def test_an_upload_that_cannot_be_removed_can_be_tried_again(world: World, step: str) -> None:
    await world.put("a", b"01")
    uploads = world.open()
    world.probe.fail(step, StorageFailure("disk"))
    with pytest.raises(StorageFailure):
        await uploads.terminate("a")
    assert await world.ids() == ["a"] and world.unlocked
    world.probe.mend()
    await uploads.terminate("a")
    assert await world.is_empty()


@pytest.mark.parametrize("step", ["locks.acquire", "info.load", "data.remove", "info.remove"])
async def test_a_cancelled_removal_can_be_tried_again(world: World, step: str) -> None:
    await world.put("a", b"01")
    uploads = world.open()
    world.probe.before(cancelling(step))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(uploads.terminate("a"))
    assert await world.ids() == ["a"] and world.unlocked
    await uploads.terminate("a")
    assert await world.is_empty()


# Expiry


async def test_what_has_expired_is_swept(world: World) -> None:
    await world.put("old", b"01", length=4)
    await world.put("done", b"0123")
    uploads = world.open(policy=POLICY_DAY)
    world.now += DAY - 1
    await world.put("new", b"01", length=4)
    assert await uploads.sweep() == 0
    world.now += 1
    with pytest.raises(UploadGone):
        await uploads.describe("old", takeover=False)
    assert await uploads.sweep() == 1
    assert await world.ids() == ["done", "new"] and world.bytes_of("old") is None
    with pytest.raises(UploadGone):
        await uploads.describe("old", takeover=False)
    assert world.unlocked


async def test_nothing_expires_without_a_policy(world: World) -> None:
    await world.put("old", b"01", length=4)
    world.now += 1000 * DAY
    assert await world.open().sweep() == 0


async def test_every_byte_begins_the_time_anew(world: World) -> None:
    await world.put("a", b"01", length=4)
    uploads = world.open(policy=POLICY_DAY)
    world.now += DAY - 1
    await send(uploads, "a", 2, b"2")
    world.now += DAY - 1
    assert await uploads.sweep() == 0
    world.now += 1
    assert await uploads.sweep() == 1


async def test_what_somebody_holds_is_spared(world: World) -> None:
    await world.put("a", b"01", length=4)
    asked = asyncio.Event()
    lease = await world.locks.acquire("a", asked.set, 1)
    world.now += DAY
    uploads = world.open(policy=POLICY_DAY)
    assert await uploads.sweep() == 0
    await asyncio.sleep(0)
    assert not asked.is_set()
    await lease.release()
    assert await uploads.sweep() == 1


async def test_bytes_that_come_between_the_look_and_the_lock_count(world: World) -> None:
    await world.put("a", b"01", length=4)
    world.now += DAY
    uploads = world.open(policy=POLICY_DAY)

    async def arrive(_: int, name: str) -> None:
        if name == "locks.try_acquire":
            await world.records.replace(await world.record("a"))

    world.probe.before(arrive)
    assert await uploads.sweep() == 0
    assert await world.ids() == ["a"]


async def test_records_that_go_or_are_damaged_are_passed_over(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.put(name, b"01", length=4)
    world.now += DAY
    world.probe.fail("info.load", UploadNotFound("gone"))
    assert await world.open(policy=POLICY_DAY).sweep() == 0
    world.probe.mend()
    world.probe.fail("info.load", RecordDamaged("no JSON"))
    assert await world.open(policy=POLICY_DAY).sweep() == 0
    world.probe.mend()
    assert await world.open(policy=POLICY_DAY).sweep() == 3


async def test_what_cannot_be_removed_does_not_keep_the_rest(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        await world.put(name, b"01", length=4)
    world.now += DAY
    world.probe.fail("data.remove", StorageFailure("stuck"))
    uploads = world.open(policy=POLICY_DAY)
    assert await uploads.sweep() == 0
    assert caplog.text.count("an expired upload could not be removed") == 3
    world.probe.mend()
    assert await uploads.sweep() == 3 and world.unlocked


async def test_a_final_loses_a_partial_that_expires(world: World) -> None:
    await world.put("p", b"01", length=4, is_partial=True)
    uploads = world.open(policy=POLICY_DAY)
    final = await uploads.create(create(None, partials=("p",)), ScriptedBody())
    await quiet()
    world.now += DAY / 2
    await send(uploads, "p", 2, b"2")
    world.now += DAY / 2
    assert await uploads.sweep() == 0, "a final lives as long as its partials are fed"
    await quiet()
    assert (await uploads.describe(final.id, takeover=False)).length == 4
    world.now += DAY / 2
    assert await uploads.sweep() >= 1
    await quiet()
    assert "p" not in await world.ids()
    world.now += DAY
    await uploads.sweep()
    assert await world.is_empty() and world.unlocked


async def test_the_sweeper_keeps_a_final_that_is_finished_but_not_together(world: World) -> None:
    await world.put("p", b"01", length=4, is_partial=True)
    first = world.open(policy=POLICY_DAY)
    final = await first.create(create(None, partials=("p",)), ScriptedBody())
    await quiet()
    writer = await world.store.open_writer(await world.record("p"))
    writer.write(b"23")
    await world.records.commit_offset((await world.record("p")).evolve(offset=4))  # and a crash
    world.now += DAY
    assert await world.open(policy=POLICY_DAY).sweep() == 0
    await quiet()
    assert world.bytes_of(final.id) == b"0123", "and sees to it"


async def test_tidying_is_the_stores(world: World) -> None:
    await world.open().recover()
    assert world.probe.calls[0] == "info.tidy"
