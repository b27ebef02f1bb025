"""What extensions get done: looking, giving bytes into other care, publishing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.uploads.support import World, create, send
from tests.uploads.test_announcing import Told
from tusd_py.ports.call import NO_CALL
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.refusals import UploadMissing
from tusd_py.protocol.upload import Upload
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Durability

AWAY = {"Type": "elsewhere"}


class Release:
    """Notes what it was called with; raises where told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.seen: list[Upload] = []
        self.failure = failure

    async def __call__(self, upload: Upload) -> None:
        self.seen.append(upload)
        if self.failure is not None:
            raise self.failure


# Looking


async def test_only_what_is_finished_is_seen(world: World) -> None:
    await world.put("finished", b"abc")
    await world.put("unfinished", b"ab", length=3)
    await world.put("failed", b"abc", failure="it has been rejected")
    host = world.open().host
    assert [(await host.look(name)) is not None for name in ("finished", "unfinished", "failed", "missing")] == [
        True,
        False,
        False,
        False,
    ]
    assert sorted([upload_id async for upload_id in host.ids()]) == ["failed", "finished", "unfinished"]


# Relocating


@pytest.mark.parametrize("durability", Durability)
async def test_the_record_says_it_before_the_bytes_are_let_go(world: World, durability: Durability) -> None:
    await world.put("a", b"abc")
    host, release = world.open(durability=durability).host, Release()
    assert await host.relocate("a", AWAY, release)
    assert release.seen[0].relocated and (await world.record("a")).storage["Type"] == "elsewhere"
    assert ("info.sync" in world.probe.calls) is (durability is not Durability.NONE)
    assert world.unlocked


async def test_it_may_be_done_again(world: World) -> None:
    await world.put("a", b"abc")
    host = world.open().host
    with pytest.raises(StorageFailure):
        await host.relocate("a", AWAY, Release(StorageFailure("no")))
    assert world.unlocked
    replaced = world.probe.calls.count("info.replace")
    assert await host.relocate("a", AWAY, again := Release())
    assert len(again.seen) == 1 and world.probe.calls.count("info.replace") == replaced


async def test_done_again_it_is_durable_before_the_bytes_are_let_go(world: World) -> None:
    """Who wrote the record may have been killed before it was synced; a power cut would then bring back the one from before."""
    await world.put("a", b"abc")
    host = world.open(durability=Durability.FINAL).host
    world.probe.fail_once("info.sync", StorageFailure("killed"))
    with pytest.raises(StorageFailure):
        await host.relocate("a", AWAY, release := Release())
    assert (await world.record("a")).relocated and not release.seen
    world.probe.calls.clear()
    assert await host.relocate("a", AWAY, release)
    assert "info.sync" in world.probe.calls and len(release.seen) == 1
    world.probe.calls.clear()
    assert await host.relocate("a", {}, release)
    assert "info.sync" not in world.probe.calls, "nothing is said of where the bytes are"


async def test_a_record_that_can_not_be_written_keeps_the_bytes(world: World) -> None:
    await world.put("a", b"abc")
    world.probe.fail("info.replace", StorageFailure("full"))
    with pytest.raises(StorageFailure):
        await world.open().host.relocate("a", AWAY, release := Release())
    assert not release.seen and not (await world.record("a")).relocated


@pytest.mark.parametrize("fields", [{"length": 9}, {"failure": "no"}, {"held": True}])
async def test_what_is_not_finished_stays(world: World, fields: Mapping[str, Any]) -> None:
    await world.put("a", b"abc", **fields)
    gates = world.open().host
    if "held" in fields:  # without a hook that could hold it, it is finished
        assert await gates.relocate("a", AWAY, Release())
    else:
        assert not await gates.relocate("a", AWAY, release := Release())
        assert not release.seen
    assert not await gates.relocate("missing", AWAY, Release())


async def test_nothing_is_done_while_somebody_has_the_lock(world: World) -> None:
    await world.put("a", b"abc")
    lease = await world.locks.try_acquire("a")
    assert lease is not None
    host, release = world.open().host, Release()
    assert not await host.relocate("a", AWAY, release)
    assert not release.seen
    await lease.release()
    assert await host.relocate("a", AWAY, release)


@pytest.mark.parametrize("durability", Durability)
async def test_of_a_relocated_upload_the_record_goes_first(
    world: World, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a record that is back says that the bytes are there."""
    await world.put("a", b"abc")
    uploads = world.open(durability=durability)
    await uploads.host.relocate("a", AWAY, Release())
    real, how = world.records.remove, list[bool]()

    async def remove(upload_id: str, *, tombstone: bool = False, durable: bool = False) -> None:
        how.append(durable)
        await real(upload_id, tombstone=tombstone, durable=durable)

    monkeypatch.setattr(world.records, "remove", remove)
    await uploads.terminate("a")
    with pytest.raises(UploadMissing):
        await uploads.look("a")
    calls = world.probe.calls
    assert calls.index("info.remove") < calls.index("data.remove") and how == [durability is not Durability.NONE]


async def test_what_can_not_be_removed_of_it_is_left_to_who_has_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.put("a", b"abc")
    uploads = world.open()
    await uploads.host.relocate("a", AWAY, Release())
    world.probe.fail("data.remove", StorageFailure("full"))
    await uploads.terminate("a")
    assert "stay for now" in caplog.text and list(await uploads.host.without_record(["a"])) == ["a"]


# Clearing away


async def test_what_is_left_of_an_upload_is_cleared_away_where_there_is_no_record(world: World) -> None:
    await world.put("a", b"abc")
    host, cleared = world.open().host, list[str]()

    async def remove() -> None:
        cleared.append("now")
        assert not world.unlocked

    assert not await host.clear_away("a", remove) and not cleared
    assert list(await host.without_record(["a", "b"])) == ["b"]
    lease = await world.locks.try_acquire("b")
    assert lease is not None and not await host.clear_away("b", remove) and not cleared
    await lease.release()
    assert await host.clear_away("b", remove) and cleared and world.unlocked
    world.probe.fail("info.without_record", StorageFailure("who knows"))
    with pytest.raises(StorageFailure):
        await host.clear_away("b", remove)
    assert len(cleared) == 1 and world.unlocked


# Publishing


async def test_published_events_are_told_once_for_each_id(world: World) -> None:
    told = Told(world)
    host = told.open().host
    upload = await world.put("a", b"abc")
    for event_id in ("1", "1", "2"):
        await host.publish(HookEvent(type=HookType.POST_INGEST, upload=upload, id=event_id))
    assert [stored.event.id for stored in await told.due()] == ["1", "2"]
    assert told.notified == 3


class Killed(BaseException):
    """Where a process is to end."""


async def test_a_finish_that_nobody_could_tell_of_is_told_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash, whoever publishes may be faster than whoever decides."""
    told = Told(world)
    uploads = told.open()
    upload = await uploads.create(create(3), ScriptedBody())

    async def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(told.outbox, "confirm", die)
        with pytest.raises(Killed):
            await send(uploads, upload.id, 0, b"abc")
    await told.due()
    uploads = told.open()
    finished = await uploads.host.look(upload.id)
    assert finished is not None
    ingested = finished.evolve(storage={**finished.storage, "Object": "a"})
    await uploads.host.publish(HookEvent(type=HookType.POST_INGEST, upload=ingested, id="1"))
    await uploads.decide_events()
    events = [stored.event for stored in await told.due()]
    assert [event.type for event in events] == ["post-finish", "post-ingest"]
    assert "Object" not in events[0].upload.storage and events[0].upload.offset == 3


async def test_a_finish_that_waits_to_be_confirmed_goes_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(world)
    announcer = told.announcer()
    uploads = world.open(announcer=announcer)
    upload = await uploads.create(create(3), ScriptedBody())

    async def fail(*_: object, **__: object) -> None:
        raise StorageFailure("full")

    with monkeypatch.context() as patch:
        patch.setattr(told.outbox, "confirm", fail)
        await send(uploads, upload.id, 0, b"abc")
    event = HookEvent(type=HookType.POST_INGEST, upload=upload.evolve(offset=3), id="1")
    with pytest.raises(StorageFailure, match="earlier"):
        await uploads.host.publish(event)
    await announcer.confirm_again()
    await uploads.host.publish(event)
    assert [stored.event.type for stored in await told.due()][-2:] == ["post-finish", "post-ingest"]


async def test_who_wants_none_is_told_none(world: World) -> None:
    told = Told(world, HookType.POST_FINISH)
    upload = await world.put("a", b"abc")
    await told.open().host.publish(HookEvent(type=HookType.POST_INGEST, upload=upload, id="1"))
    assert not await told.due()
    await world.open().host.publish(HookEvent(type=HookType.POST_INGEST, upload=upload, id="1"))


async def test_what_others_have_still_to_get(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(world)
    uploads = told.open()
    upload = await uploads.create(create(0), ScriptedBody())
    assert await uploads.host.undelivered(upload.id, besides="cas") == 2
    assert await uploads.host.undelivered(upload.id, besides="hooks") == 0
    await told.due()
    assert await uploads.host.undelivered(upload.id, besides="cas") == 0
    with pytest.raises(StorageFailure, match="nobody is told"):
        await world.open().host.undelivered(upload.id, besides="cas")


async def test_an_event_that_waits_to_be_confirmed_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(world)
    uploads = told.open()
    upload = await uploads.create(create(3), ScriptedBody())
    await told.due()

    async def fail(*_: object, **__: object) -> None:
        raise StorageFailure("full")

    with monkeypatch.context() as patch:
        patch.setattr(told.outbox, "confirm", fail)
        announcer = told.announcer()
        await announcer.finished(upload.evolve(offset=3), NO_CALL)
    assert await announcer.undelivered(upload.id, besides="cas") >= 1


# Finals that somebody else puts together


async def test_a_final_is_where_the_store_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.put("a", b"0123", is_partial=True)
    joined: list[Sequence[Upload]] = []

    async def concatenate(final: Upload, partials: Sequence[Upload], *, durable: bool = True) -> Mapping[str, str]:
        joined.append(partials)
        return {**final.storage, **AWAY}

    monkeypatch.setattr(world.store, "concatenate", concatenate)
    uploads = world.open(durability=Durability.FINAL)
    final = await uploads.create(create(None, partials=("a", "a"), concat="final;..."), ScriptedBody())
    assert final.finished and len(joined[0]) == 2
    record = await world.record(final.id)
    assert record.finished and record.relocated
    calls = world.probe.calls
    assert calls.index("data.concatenate") < len(calls) - 1 - calls[::-1].index("info.sync"), "synced behind it"
