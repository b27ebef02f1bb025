"""Creation: what there is afterwards, in which order it comes about, and that a refused creation leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.uploads.support import POLICY_DAY, World, append, cancelling, create, send, until
from tusd_py.ports.body import BodyEnd
from tusd_py.ports.failures import OutOfSpace, StorageFailure, UploadExists
from tusd_py.protocol.checksum import ALGORITHMS, Claim
from tusd_py.protocol.commands import Create, Payload
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import (
    ChecksumMismatch,
    MalformedBody,
    MaxSizeExceeded,
    ReadTimeout,
    Refusal,
    ServerShutdown,
    SizeExceeded,
    UnexpectedEof,
    UploadInterrupted,
    UploadMissing,
)
from tusd_py.protocol.rules import Policy
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Durability
from tusd_py.uploads.creating import random_id


def claim(data: bytes) -> Claim:
    hasher = ALGORITHMS["sha1"].start()
    hasher.update(data)
    return Claim("sha1", hasher.digest())


async def test_an_empty_creation(world: World) -> None:
    metadata, body = Metadata({"a": b"b"}, "a Yg=="), ScriptedBody()
    upload = await world.open().create(create(10, metadata=metadata), body)
    assert (upload.id, upload.length, upload.offset, upload.metadata) == ("id1", 10, 0, metadata)
    assert upload.active_at == world.now and upload.storage == {"Type": "memory"}
    assert await world.record("id1") == upload
    assert world.bytes_of("id1") == b""
    assert not body.pumped, "nobody asked for a body that is not ours"


async def test_ids_are_random_and_tusds(world: World) -> None:
    uploads = world.open(new_id=random_id)
    first, second = await uploads.create(create(1), ScriptedBody()), await uploads.create(create(1), ScriptedBody())
    assert first.id != second.id
    assert len(first.id) == 32 and set(first.id) <= set("0123456789abcdef")


@pytest.mark.parametrize("ready", [False, True])
async def test_a_creation_with_upload(world: World, ready: bool) -> None:
    upload = await world.open().create(create(10, body=5), ScriptedBody(b"hel", b"lo", ready=ready))
    assert upload.offset == 5
    assert await world.record("id1") == upload
    assert world.bytes_of("id1") == b"hello"
    assert world.unlocked


async def test_the_announced_body_may_be_empty(world: World) -> None:
    body = ScriptedBody()
    upload = await world.open().create(create(10, body=0), body)
    assert upload.offset == 0 and not body.pumped


@pytest.mark.parametrize("ready", [False, True])
async def test_bytes_then_record_then_answer(world: World, ready: bool) -> None:
    uploads = world.open(durability=Durability.FINAL)
    await uploads.create(create(5, body=5), ScriptedBody(b"hello", ready=ready))
    assert world.probe.calls == [
        *([] if ready else ["locks.acquire"]),  # a body that is all there is nobody's to interrupt
        "info.create",
        "data.create",
        "writer.write",
        "writer.commit",
        "info.commit_offset",
        "writer.sync",
        "info.sync",
        "writer.close",
    ]


async def test_a_refusal_by_rule_touches_nothing(world: World) -> None:
    body = ScriptedBody(b"hello")
    with pytest.raises(MaxSizeExceeded):
        await world.open(policy=Policy(max_size=9)).create(create(10, body=5), body)
    assert not body.pumped and not world.probe.calls


ENDS: list[tuple[BodyEnd, type[Refusal], bool]] = [  # and whether the upload stays: its client may resume it
    (BodyEnd.CUT, UnexpectedEof, True),
    (BodyEnd.STALLED, ReadTimeout, True),
    (BodyEnd.STOPPED, UnexpectedEof, True),
    (BodyEnd.EXCESS, SizeExceeded, False),
    (BodyEnd.MALFORMED, MalformedBody, False),
]


@pytest.mark.parametrize(("end", "refusal", "kept"), ENDS)
async def test_what_is_left_of_a_broken_creation(world: World, end: BodyEnd, refusal: type[Refusal], kept: bool) -> None:
    with pytest.raises(refusal):
        await world.open().create(create(10, body=None), ScriptedBody(b"hel", end, length=None))
    if kept:
        assert (await world.record("id1")).offset == 3
        assert world.bytes_of("id1") == b"hel"
    else:
        assert await world.is_empty()
    assert world.unlocked


@pytest.mark.parametrize(("end", "refusal", "kept"), ENDS)
async def test_nothing_is_left_of_a_broken_verified_creation(
    world: World, end: BodyEnd, refusal: type[Refusal], kept: bool
) -> None:
    command = Create(length=10, payload=Payload(None, claim(b"hello")))
    with pytest.raises(refusal):
        await world.open().create(command, ScriptedBody(b"hel", end, length=None))
    assert await world.is_empty()


async def test_more_than_the_length(world: World) -> None:
    with pytest.raises(SizeExceeded):
        await world.open().create(create(3, body=None), ScriptedBody(b"hello", length=None))
    assert await world.is_empty()


async def test_a_verified_creation(world: World) -> None:
    upload = await world.open().create(Create(length=5, payload=Payload(5, claim(b"hello"))), ScriptedBody(b"hello"))
    assert upload.finished and world.bytes_of("id1") == b"hello"


async def test_a_false_digest(world: World) -> None:
    with pytest.raises(ChecksumMismatch):
        await world.open().create(Create(length=5, payload=Payload(5, claim(b"other"))), ScriptedBody(b"hello"))
    assert await world.is_empty()


STEPS = ["data.create", "info.create", "writer.write", "writer.commit", "info.commit_offset", "writer.sync", "info.sync"]


@pytest.mark.parametrize("failure", [OutOfSpace, StorageFailure])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("verified", [True, False])
async def test_a_failure_at_any_step_leaves_nothing(
    world: World, step: str, failure: type[StorageFailure], verified: bool
) -> None:
    world.probe.fail(step, failure("disk"))
    command = Create(length=5, payload=Payload(5, None if verified else claim(b"hello")))
    with pytest.raises(failure, match="disk"):
        await world.open(durability=Durability.EVERY_PATCH).create(command, ScriptedBody(b"hello"))
    assert await world.is_empty()
    assert world.unlocked


@pytest.mark.parametrize("step", ["data.create", "info.create", "writer.sync", "info.sync"])
async def test_a_failure_at_any_step_of_an_empty_creation(world: World, step: str) -> None:
    world.probe.fail(step, OutOfSpace("disk"))
    with pytest.raises(OutOfSpace):
        await world.open(durability=Durability.EVERY_PATCH).create(create(5), ScriptedBody())
    assert await world.is_empty()
    assert step in ("data.create", "info.create") or "writer.close" in world.probe.calls


@pytest.mark.parametrize("step", ["info.remove", "data.remove"])
async def test_what_cannot_be_removed_is_logged(world: World, step: str, caplog: pytest.LogCaptureFixture) -> None:
    world.probe.fail(step, StorageFailure("stuck"))
    with pytest.raises(SizeExceeded):  # the client is told its own mistake all the same
        await world.open().create(create(3, body=None), ScriptedBody(b"hello", length=None))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "could not be removed" in caplog.text and "stuck" in caplog.text
    assert {"info.remove", "data.remove"} <= set(world.probe.calls), "the one is removed even if the other can't be"


async def test_an_id_that_is_taken_is_left_alone(world: World) -> None:
    await world.put("id1", b"theirs")
    with pytest.raises(UploadExists):
        await world.open().create(create(5, body=5), ScriptedBody(b"mine!"))
    assert world.bytes_of("id1") == b"theirs"
    assert (await world.record("id1")).length == 6


async def test_a_record_that_is_there_is_left_alone(world: World) -> None:
    theirs = await world.put("id1", b"theirs")
    await world.store.remove(theirs)
    with pytest.raises(UploadExists):
        await world.open().create(create(5, body=5), ScriptedBody(b"mine!"))
    assert (await world.record("id1")).length == 6
    assert world.bytes_of("id1") is None


AWAITED = [step for step in STEPS if step != "writer.write"]


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("step", ["locks.acquire", *AWAITED])
async def test_cancellation_at_any_call_leaves_nothing(world: World, step: str, ready: bool) -> None:
    if ready and step == "locks.acquire":
        return
    uploads = world.open(durability=Durability.FINAL)
    world.probe.before(cancelling(step))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(uploads.create(create(5, body=5), ScriptedBody(b"hello", ready=ready)))
    assert await world.is_empty() and world.unlocked
    assert repr(uploads) == "<Uploads receiving=0 durability=final>"


@pytest.mark.parametrize("step", ["data.create", "info.create", "writer.sync", "info.sync"])
async def test_cancellation_of_an_empty_creation_leaves_nothing(world: World, step: str) -> None:
    world.probe.before(cancelling(step))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(world.open(durability=Durability.EVERY_PATCH).create(create(5), ScriptedBody()))
    assert await world.is_empty()


async def test_cancellation_while_the_body_comes_leaves_nothing(world: World) -> None:
    body = ScriptedBody(b"he", asyncio.Event(), b"llo")
    creating = asyncio.create_task(world.open().create(create(5, body=5), body))
    await until(lambda: body.pumped)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert await world.is_empty() and world.unlocked


async def test_shutdown_keeps_what_has_come(world: World) -> None:
    uploads = world.open()
    body = ScriptedBody(b"he", asyncio.Event(), b"llo")
    creating = asyncio.create_task(uploads.create(create(5, body=5), body))
    await until(lambda: body.pumped)
    assert "receiving=1" in repr(uploads)
    uploads.begin_shutdown()
    with pytest.raises(ServerShutdown):
        await creating
    assert (await world.record("id1")).offset == 2
    with pytest.raises(ServerShutdown):
        await uploads.create(create(5, body=5), ScriptedBody(b"hello"))


async def test_who_appends_to_an_upload_being_created_interrupts_it(world: World) -> None:
    """Nobody can have been told its URL, so it goes away as any refused creation."""
    uploads = world.open()
    body = ScriptedBody(b"he", asyncio.Event(), b"llo")
    creating = asyncio.create_task(uploads.create(create(5, body=5), body))
    await until(lambda: body.pumped)
    with pytest.raises(UploadMissing):
        await send(uploads, "id1", 0, b"x")
    with pytest.raises(UploadInterrupted):
        await creating
    assert await world.is_empty()


async def test_the_sweeper_spares_a_slow_creation(world: World) -> None:
    uploads, more = world.open(policy=POLICY_DAY), asyncio.Event()
    body = ScriptedBody(b"he", more, b"llo")
    creating = asyncio.create_task(uploads.create(create(6, body=5), body))
    await until(lambda: body.pumped)
    world.now += 2 * 86400
    assert await uploads.sweep() == 0
    more.set()
    upload = await creating
    assert upload.active_at == world.now, "and then its time begins anew"
    await uploads.append(append("id1", 5, 1), ScriptedBody(b"!"))
    assert world.bytes_of("id1") == b"hello!"
