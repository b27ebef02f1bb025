"""Events: written down before the fact, confirmed after it, in order; and what is decided about them after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.uploads.support import World, append, create, quiet, send, until
from tests.uploads.test_gates import Scripted
from tusd_py.outbox.memory import MemoryOutbox
from tusd_py.ports.body import BodyEnd
from tusd_py.ports.call import NO_CALL
from tusd_py.ports.events import EventState, StoredEvent
from tusd_py.ports.failures import OutOfSpace, StorageFailure, UploadExists
from tusd_py.protocol.checksum import Claim
from tusd_py.protocol.commands import Create, Payload
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import EVENTS, FileInfoChanges, HookAnswer, HookEvent, HookType
from tusd_py.protocol.refusals import ChecksumMismatch, SizeExceeded, UnexpectedEof, UploadMissing, UploadStopped
from tusd_py.protocol.rules import Policy
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Uploads
from tusd_py.uploads.announcing import CREATION_TIME, Announcer
from tusd_py.uploads.gates import Gates
from tusd_py.uploads.ticking import Ticker


class Listener:
    """A consumer that is never called: these tests look into the outbox."""

    def __init__(self, *types: HookType) -> None:
        self.name, self.types = "hooks", frozenset(types) or EVENTS

    async def deliver(self, event: HookEvent) -> None:
        raise AssertionError(event)


class Told:
    """Uploads with an outbox, which outlives them as a database outlives processes."""

    def __init__(self, world: World, *types: HookType) -> None:
        self.world, self.listener = world, Listener(*types)
        self.outbox = MemoryOutbox(clock=lambda: world.now)
        self.notified = 0
        self.heard: list[str] = []

    def open(self, **options: Any) -> Uploads:
        return self.world.open(announcer=self.announcer(), **options)

    def announcer(self) -> Announcer:
        return Announcer(self.outbox, [self.listener], self._notify, [lambda upload: self.heard.append(upload.id)])

    def _notify(self) -> None:
        self.notified += 1

    async def due(self) -> list[StoredEvent]:
        """Everything that is due, taken, in order for each upload."""
        found: list[StoredEvent] = []
        while batch := await self.outbox.claim("hooks", 100):
            found += batch
            await self.outbox.settle(batch, [])
        return found

    async def names(self) -> list[str]:
        return [f"{one.event.type}:{one.event.upload.id}:{one.event.upload.offset}" for one in await self.due()]

    async def prepared(self) -> list[str]:
        return sorted([one.event.type async for one in self.outbox.prepared(self.world.now + 1)])


@pytest.fixture
def told(world: World) -> Told:
    return Told(world)


async def test_a_life(told: Told) -> None:
    uploads = told.open()
    upload = await uploads.create(create(5), ScriptedBody())
    assert await told.prepared() == ["post-finish"]
    await send(uploads, upload.id, 0, b"he")
    await send(uploads, upload.id, 2, b"llo")
    assert await told.prepared() == []
    await uploads.terminate(upload.id)
    assert await told.names() == [
        "post-create:id1:0",
        "post-receive:id1:5",  # of progress that nobody has heard of, the last counts
        "post-finish:id1:5",
        "post-terminate:id1:5",
    ]
    assert await told.prepared() == [] and told.notified >= 4


async def test_a_creation_with_upload(told: Told) -> None:
    await told.open().create(create(5, body=5), ScriptedBody(b"hello"))
    assert await told.names() == ["post-create:id1:0", "post-receive:id1:5", "post-finish:id1:5"]


async def test_an_empty_upload(told: Told) -> None:
    await told.open().create(create(0), ScriptedBody())
    assert await told.names() == ["post-create:id1:0", "post-finish:id1:0"]


async def test_a_declared_length(told: Told) -> None:
    uploads = told.open()
    upload = await uploads.create(create(None), ScriptedBody())
    await send(uploads, upload.id, 0, b"ab")
    await send(uploads, upload.id, 2, length=2)
    assert (await told.names())[-1] == "post-finish:id1:2"


async def test_a_concatenation(told: Told) -> None:
    uploads = told.open()
    part = await uploads.create(create(2, body=2, is_partial=True, concat="partial"), ScriptedBody(b"ab"))
    await uploads.create(create(None, partials=(part.id, part.id)), ScriptedBody())
    assert [name for name in await told.names() if "id2" in name] == ["post-create:id2:0", "post-finish:id2:4"]


async def test_an_unfinished_concatenation_is_told_of_when_it_is_there(told: Told) -> None:
    uploads = told.open()
    part = await uploads.create(create(2, is_partial=True, concat="partial"), ScriptedBody())
    final = await uploads.create(create(None, partials=(part.id,)), ScriptedBody())
    assert not final.finished and "post-finish:id2:2" not in await told.names()
    await send(uploads, part.id, 0, b"ab")
    names: list[str] = []
    async with asyncio.timeout(30):
        while "post-finish:id2:2" not in names:
            names += await told.names()
            await asyncio.sleep(0)
    assert told.world.bytes_of("id2") == b"ab", "whoever is told finds the bytes"


async def test_nobody_is_told_of_what_nobody_wants(world: World) -> None:
    told = Told(world, HookType.POST_FINISH)
    uploads = told.open()
    upload = await uploads.create(create(2), ScriptedBody())
    await send(uploads, upload.id, 0, b"ab")
    await uploads.terminate(upload.id)
    assert await told.names() == ["post-finish:id1:2"]


async def test_who_listens_is_told_of_what_is_finished_and_nothing_is_written_down_for_it(world: World) -> None:
    told = Told(world, HookType.POST_TERMINATE)
    uploads = told.open()
    begun = await uploads.create(create(3), ScriptedBody())
    finished = await uploads.create(create(0), ScriptedBody())
    assert told.heard == [finished.id]
    await send(uploads, begun.id, 0, b"abc")
    assert told.heard == [finished.id, begun.id]
    await uploads.decide_events()
    assert told.heard == [finished.id, begun.id] and not await told.prepared() and not await told.due()


async def test_who_listens_is_told_behind_consumers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(world)
    uploads, seen = told.open(), list[str]()
    confirm = told.outbox.confirm

    async def watch(event: HookEvent, consumers: Any, **options: Any) -> None:
        seen.append(f"{event.type} {told.heard}")
        await confirm(event, consumers, **options)

    monkeypatch.setattr(told.outbox, "confirm", watch)
    await uploads.create(create(0), ScriptedBody())
    assert seen == ["post-create []", "post-finish []"] and told.heard == ["id1"]


async def test_who_listens_is_told_though_nobody_waits_for_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may cancel a request whose client has gone away, also while consumers are told."""
    told = Told(world, HookType.POST_FINISH)
    uploads = told.open()

    async def cancelled(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    upload = await uploads.create(create(2), ScriptedBody())
    monkeypatch.setattr(told.outbox, "confirm", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await send(uploads, upload.id, 0, b"ab")
    assert told.heard == [upload.id] and (await uploads.look(upload.id)).finished


async def test_a_refused_creation_is_not_told_of(told: Told) -> None:
    told.world.probe.fail("info.create", OutOfSpace("full"))
    with pytest.raises(OutOfSpace):
        await told.open().create(create(2), ScriptedBody())
    assert await told.names() == [] and await told.prepared() == []


async def test_an_outbox_that_can_not_be_written_refuses_the_creation(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise OutOfSpace("full")

    monkeypatch.setattr(told.outbox, "prepare", full)
    with pytest.raises(OutOfSpace):
        await told.open().create(create(2), ScriptedBody())
    assert await told.world.is_empty()


REFUSED = [
    pytest.param(Payload(2, Claim("sha1", b"x" * 20)), (b"ab",), ChecksumMismatch, id="checksum"),
    pytest.param(Payload(None), (b"abc",), SizeExceeded, id="excess"),
]


@pytest.mark.parametrize(("payload", "steps", "refusal"), REFUSED)
async def test_who_was_told_of_a_creation_is_told_when_it_comes_to_nothing(
    told: Told, payload: Payload, steps: Sequence[bytes], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        await told.open().create(Create(length=2, payload=payload), ScriptedBody(*steps))
    names = [name.split(":")[0] for name in await told.names()]
    assert names[0] == "post-create" and names[-1] == "post-terminate"
    assert await told.prepared() == [] and await told.world.is_empty()


async def test_a_broken_creation_that_is_kept_stays_to_be_finished(told: Told) -> None:
    uploads = told.open()
    with pytest.raises(UnexpectedEof):
        await uploads.create(create(4, body=4), ScriptedBody(b"ab", BodyEnd.CUT, length=4))
    assert await told.names() == ["post-create:id1:0", "post-receive:id1:2"]
    await send(uploads, "id1", 2, b"cd")
    assert await told.names() == ["post-receive:id1:4", "post-finish:id1:4"]


async def test_an_upload_from_before_is_written_down_before_its_bytes(told: Told) -> None:
    upload = await told.world.open().create(create(2), ScriptedBody())
    uploads = told.open()
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(await told.prepared())

    await uploads.append(append(upload.id, 0, 2), ScriptedBody(look, b"ab"))
    assert seen == [["post-finish"]]
    assert await told.names() == ["post-receive:id1:2", "post-finish:id1:2"]


async def test_expiry_is_told_of(told: Told) -> None:
    uploads = told.open(policy=Policy(expiry=10.0))
    await uploads.create(create(2), ScriptedBody())
    told.world.now += 11
    assert await uploads.sweep() == 1
    assert await told.names() == ["post-create:id1:0", "post-terminate:id1:0"] and await told.prepared() == []


# After a crash: the outbox and the stores are as the last process left them


async def crashed(told: Told) -> Uploads:
    """A new process, which decides about what the old one has left."""
    told.world.now += 1
    uploads = told.open()
    await uploads.decide_events()
    return uploads


async def test_killed_between_preparation_and_record(told: Told) -> None:
    upload = (await told.world.open().create(create(2), ScriptedBody())).evolve(id="lost")
    await told.announcer().before_creation(upload, NO_CALL)
    uploads = await crashed(told)
    assert await told.prepared() == ["post-create", "post-finish"], "another process may be about to make the record"
    told.world.now += CREATION_TIME + 1
    await uploads.decide_events()
    assert await told.prepared() == [] and await told.names() == []


async def test_killed_between_record_and_confirmation(told: Told) -> None:
    upload = await told.world.open().create(create(2), ScriptedBody())
    await told.announcer().before_creation(upload, NO_CALL)
    await crashed(told)
    assert await told.names() == ["post-create:id1:0"] and await told.prepared() == ["post-finish"]


async def test_killed_between_the_last_byte_and_confirmation(told: Told) -> None:
    upload = await told.world.put("id9", b"ab")
    await told.announcer().before_bytes(upload, NO_CALL)
    uploads = await crashed(told)
    assert await told.names() == ["post-finish:id9:2"]
    await uploads.decide_events()
    assert await told.names() == [], "once is enough"


async def test_what_is_held_or_in_progress_stays_open(told: Told) -> None:
    for upload in (await told.world.put("half", b"a", length=2), await told.world.put("rejected", b"ab", failure="no")):
        await told.announcer().before_bytes(upload, NO_CALL)
    await crashed(told)
    assert [one.event.upload.id async for one in told.outbox.prepared(told.world.now + 1)] == ["half"]
    assert await told.names() == []


async def test_who_is_at_work_on_an_upload_confirms_by_itself(told: Told) -> None:
    upload = await told.world.put("id9", b"ab")
    await told.announcer().before_bytes(upload, NO_CALL)
    lease = await told.world.locks.try_acquire("id9")
    assert lease is not None
    uploads = await crashed(told)
    assert await told.names() == []
    await lease.release()
    await uploads.decide_events()
    assert await told.names() == ["post-finish:id9:2"]


@pytest.mark.parametrize("gone", [True, False])
async def test_killed_during_a_termination(told: Told, gone: bool) -> None:
    upload = await told.world.put("id9", b"ab")
    await told.announcer().before_removal(upload, NO_CALL)
    if gone:
        await told.world.records.remove("id9")
    await crashed(told)
    assert await told.names() == (["post-terminate:id9:2"] if gone else []) and await told.prepared() == []


async def test_what_nobody_prepares_is_left_alone_and_spoils_nothing(told: Told) -> None:
    upload = await told.world.put("id9", b"ab")
    await told.outbox.prepare([HookEvent(type=HookType.POST_INGEST, upload=upload)], ["hooks"])
    await told.announcer().before_bytes(upload, NO_CALL)
    await crashed(told)
    assert await told.names() == ["post-finish:id9:2"]
    assert await told.prepared() == ["post-ingest"]


async def test_a_finish_that_nobody_confirmed_comes_before_the_termination(told: Told) -> None:
    upload = await told.world.put("id9", b"ab")
    await told.announcer().before_bytes(upload, NO_CALL)
    await told.open().terminate("id9")
    assert await told.names() == ["post-finish:id9:2", "post-terminate:id9:2"]


async def test_a_confirmation_that_fails_is_made_up_for(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = told.open()
    upload = await uploads.create(create(2), ScriptedBody())

    async def broken(*_: object, **__: object) -> None:
        raise StorageFailure("broken")

    with monkeypatch.context() as patched:
        patched.setattr(told.outbox, "confirm", broken)
        assert (await send(uploads, upload.id, 0, b"ab")).finished, "the client has done its part"
    assert "waits to be confirmed" in caplog.text
    told.world.now += 1
    await uploads.decide_events()
    assert (await told.names())[-1] == "post-finish:id1:2"


async def test_what_could_not_be_confirmed_is_confirmed_in_order_once_it_can_be(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    announcer = told.announcer()
    first, second = await told.world.put("id8", b"ab"), await told.world.put("id9", b"ab")
    working = [False]
    confirm = told.outbox.confirm

    async def sometimes(event: HookEvent, *facts: Any, **more: Any) -> None:
        if not working[0]:
            raise StorageFailure("full")
        await confirm(event, *facts, **more)

    monkeypatch.setattr(told.outbox, "confirm", sometimes)
    await announcer.finished(first, NO_CALL)
    await announcer.removed(second, NO_CALL)
    await announcer.confirm_again()
    assert await told.names() == []
    working[0] = True
    await announcer.confirm_again()
    assert await told.names() == ["post-finish:id8:2", "post-terminate:id9:2"]
    await announcer.confirm_again()
    assert await told.names() == []


# While a body comes in


async def test_progress_is_told_and_an_upload_can_be_stopped(told: Told) -> None:
    uploads, announcer = told.open(), told.announcer()
    upload = await uploads.create(create(8), ScriptedBody())
    await told.names()
    more = asyncio.Event()
    sending = asyncio.create_task(uploads.append(append(upload.id, 0, 8), ScriptedBody(b"ab", more, b"cdefgh")))
    await until(lambda: any(one.position == 2 for one in uploads.running()))
    ticking = asyncio.create_task(Ticker(uploads.holds, announcer, None, interval=0.001, min_rate=0).run())
    names: list[str] = []
    async with asyncio.timeout(30):
        while not names:
            names = await told.names()
            await asyncio.sleep(0)
    assert names == ["post-receive:id1:2"]
    uploads.stop("another", HttpResponse())
    uploads.stop(upload.id, HttpResponse(status=422, body="enough"))
    with pytest.raises(UploadStopped) as stopped:
        await sending
    ticking.cancel()
    assert (stopped.value.status, stopped.value.body) == (422, "enough")
    with pytest.raises(UploadMissing):
        await uploads.describe(upload.id, takeover=False)
    assert (await told.names())[-1] == "post-terminate:id1:2" and await told.prepared() == []
    assert await told.world.is_empty() and told.world.unlocked


async def test_a_creation_that_nobody_confirmed_comes_before_the_termination(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise OutOfSpace("full")

    uploads = told.open()
    with monkeypatch.context() as patch:
        patch.setattr(told.outbox, "confirm", full)
        upload = await uploads.create(create(2), ScriptedBody())
    await uploads.terminate(upload.id)
    assert await told.names() == ["post-create:id1:0", "post-terminate:id1:0"] and await told.prepared() == []


async def test_a_full_disk_can_be_freed(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise OutOfSpace("full")

    uploads = told.open()
    upload = await uploads.create(create(2), ScriptedBody())
    monkeypatch.setattr(told.outbox, "prepare", full)
    await uploads.terminate(upload.id)
    assert await told.world.is_empty()
    assert (await told.names())[-1] == "post-terminate:id1:0"


async def test_a_record_that_can_not_be_read_keeps_nobody_else_waiting(told: Told) -> None:
    uploads = told.open()
    first = await uploads.create(create(2), ScriptedBody())
    second = await uploads.create(create(2), ScriptedBody())
    await told.names()
    for upload in (first, second):  # by a process that died before it could confirm
        await told.world.records.replace(upload.evolve(offset=2))
    told.world.probe.fail_once("info.load", StorageFailure("the disk is broken here"))
    await crashed(told)
    assert await told.names() == ["post-finish:id2:2"] and await told.prepared() == ["post-finish"]
    await crashed(told)
    assert await told.names() == ["post-finish:id1:2"]


@pytest.mark.parametrize("gate", [True, False])
async def test_a_final_from_before_is_written_down_before_it_is_finished(told: Told, gate: bool) -> None:
    before = told.world.open(gates=Gates(Scripted(HookType.PRE_FINISH))) if gate else told.world.open()
    part = await before.create(create(2, is_partial=True, concat="partial"), ScriptedBody())
    final = await before.create(create(None, partials=(part.id,)), ScriptedBody())
    await before.close()
    seen: list[list[str]] = []

    async def look(_: int, called: str) -> None:
        if called == "info.commit_offset":
            seen.append(sorted([one.event.upload.id async for one in told.outbox.prepared(told.world.now + 1)]))

    told.world.probe.before(look)
    uploads = told.open(gates=Gates(Scripted(HookType.PRE_FINISH)) if gate else Gates())
    await send(uploads, part.id, 0, b"ab")
    await quiet()
    assert seen == [[part.id], [final.id]]
    assert f"post-finish:{final.id}:2" in await told.names()


async def test_a_held_upload_from_before_is_written_down_before_it_is_accepted(told: Told) -> None:
    upload = await told.world.put("old", b"ab", held=True)
    seen: list[list[str]] = []

    async def look(_: int, called: str) -> None:
        if called == "info.replace":
            seen.append(await told.prepared())

    told.world.probe.before(look)
    await told.open(gates=Gates(Scripted(HookType.PRE_FINISH))).describe(upload.id, takeover=True)
    assert seen == [["post-finish"]] and await told.names() == ["post-finish:old:2"]


@pytest.mark.parametrize(
    "command", [create(2), create(2, body=2), create(None, partials=("part",))], ids=["empty", "body", "final"]
)
async def test_two_creations_under_an_id_that_a_hook_chose(
    told: Told, command: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told.world.put("part", b"ab", is_partial=True)
    answer = HookAnswer(changes=FileInfoChanges(id="x"))
    gates = Gates(Scripted(HookType.PRE_CREATE, say=lambda _: answer))
    one, two = told.open(gates=gates), told.open(gates=gates)

    def body() -> ScriptedBody:
        return ScriptedBody(b"ab") if command.payload is not None else ScriptedBody()

    prepare, racing = told.outbox.prepare, list[asyncio.Task[Any]]()

    async def overtaken(*args: Any) -> None:
        if not racing:
            racing.append(asyncio.create_task(two.create(command, body())))
            for _ in range(100):
                await asyncio.sleep(0)
        await prepare(*args)

    monkeypatch.setattr(told.outbox, "prepare", overtaken)
    made = await asyncio.gather(one.create(command, body()), return_exceptions=True)
    made += await asyncio.gather(*racing, return_exceptions=True)
    assert sorted(isinstance(each, UploadExists) for each in made) == [False, True]
    await quiet()
    await crashed(told)
    names = [name.split(":")[0] for name in await told.names()]
    assert names.count("post-create") == 1 and names.count("post-finish") <= 1
    assert told.world.unlocked


async def test_progress_is_not_told_once_all_bytes_are_here(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = told.open()
    upload = await uploads.create(create(2), ScriptedBody())
    running: list[int] = []
    confirm = told.outbox.confirm

    async def watched(event: HookEvent, *args: Any, **options: Any) -> None:
        if event.type is HookType.POST_FINISH:  # what a ticker told now would come after it
            running.append(len(list(uploads.running())))
        await confirm(event, *args, **options)

    monkeypatch.setattr(told.outbox, "confirm", watched)
    await send(uploads, upload.id, 0, b"ab")
    assert running == [0]


async def test_a_final_learns_that_its_partial_was_stopped(told: Told) -> None:
    uploads = told.open()
    part = await uploads.create(create(4, is_partial=True, concat="partial"), ScriptedBody())
    final = await uploads.create(create(None, partials=(part.id,)), ScriptedBody())
    more = asyncio.Event()
    sending = asyncio.create_task(uploads.append(append(part.id, 0, 4), ScriptedBody(b"ab", more, b"cd")))
    await until(lambda: list(uploads.running()))
    uploads.stop(part.id, HttpResponse())
    with pytest.raises(UploadStopped):
        await sending
    await quiet()
    assert "gone" in ((await told.world.record(final.id)).failure or "")


async def test_delivered_events_are_what_consumers_get(told: Told) -> None:
    await told.open().create(create(0), ScriptedBody())
    found = await told.due()
    assert len({one.event.id for one in found}) == len(found) == 2 and all(one.event.id for one in found)
    assert all(one.state is EventState.DUE for one in found)
