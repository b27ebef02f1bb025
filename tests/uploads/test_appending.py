"""Appending: order, ends of bodies, failures at every step, takeover, deferred lengths, verified bodies."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest

from tests.uploads.support import POLICY_DAY, World, append, cancelling, read, send, until
from tusd_py.ports.body import BodyEnd
from tusd_py.ports.failures import OutOfSpace, RecordDamaged, StorageFailure
from tusd_py.ports.locker import ignore
from tusd_py.protocol.checksum import Claim
from tusd_py.protocol.commands import Payload
from tusd_py.protocol.refusals import (
    ChecksumMismatch,
    InvalidChecksum,
    InvalidUploadLength,
    LockTimedOut,
    MalformedBody,
    MismatchedOffset,
    ModifyFinal,
    ReadTimeout,
    Refusal,
    ServerShutdown,
    SizeExceeded,
    UnexpectedEof,
    UploadDamaged,
    UploadGone,
    UploadInterrupted,
    UploadMissing,
)
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.upload import Upload
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Durability, Uploads


@pytest.fixture
async def ten(world: World) -> str:
    """An upload of ten bytes, four of which are there."""
    return (await world.put("ten", b"0123", length=10)).id


async def stored(world: World, upload_id: str = "ten") -> tuple[int, bytes | None]:
    """The offset in the record, and the bytes."""
    return (await world.record(upload_id)).offset, world.bytes_of(upload_id)


async def test_an_append(world: World, ten: str) -> None:
    upload = await send(world.open(), ten, 4, b"45", b"6")
    assert upload.offset == 7 and not upload.finished
    assert await stored(world) == (7, b"0123456")
    assert world.unlocked


async def test_the_last_append(world: World, ten: str) -> None:
    world.now += 5
    upload = await send(world.open(), ten, 4, b"456789")
    assert upload.finished and upload.active_at == world.now


async def test_an_empty_append_changes_nothing(world: World, ten: str) -> None:
    upload = await send(world.open(), ten, 4)
    assert upload.offset == 4
    assert "info.commit_offset" not in world.probe.calls


async def test_bytes_then_record_then_durability_then_answer(world: World, ten: str) -> None:
    await send(world.open(durability=Durability.FINAL), ten, 4, b"456789")
    assert world.probe.calls == [
        "locks.try_acquire",
        "info.load",
        "data.open_writer",
        "writer.write",
        "writer.commit",
        "info.commit_offset",
        "writer.sync",
        "info.sync",
        "writer.close",
    ]


async def test_bytes_beyond_the_record_are_cut(world: World, ten: str) -> None:
    writer = await world.store.open_writer(await world.record(ten))
    writer.write(b"garbage left by a crash")
    await send(world.open(), ten, 4, b"4")
    assert await stored(world) == (5, b"01234")


# Refusals before a byte is read


async def test_an_unknown_upload(world: World) -> None:
    body = ScriptedBody(b"x")
    with pytest.raises(UploadMissing):
        await world.open().append(append("none", 0, 1), body)
    assert not body.pumped and world.unlocked


async def test_an_upload_that_has_expired_and_is_swept(world: World, ten: str) -> None:
    await world.records.remove(ten, tombstone=True)
    with pytest.raises(UploadGone):
        await send(world.open(), ten, 4, b"x")


async def test_an_upload_that_has_expired_and_is_still_there(world: World, ten: str) -> None:
    world.now += 86400
    with pytest.raises(UploadGone):
        await send(world.open(policy=POLICY_DAY), ten, 4, b"x")


async def test_a_damaged_record(world: World, ten: str, caplog: pytest.LogCaptureFixture) -> None:
    world.probe.fail("info.load", RecordDamaged("no JSON"))
    with pytest.raises(UploadDamaged):
        await send(world.open(), ten, 4, b"x")
    assert "no JSON" in caplog.text


REFUSED: list[tuple[int, int | None, int | None, type[Refusal]]] = [
    (3, 1, None, MismatchedOffset),
    (5, 1, None, MismatchedOffset),
    (4, 7, None, SizeExceeded),
    (4, 1, 11, InvalidUploadLength),
]


@pytest.mark.parametrize(("offset", "body_length", "length", "refusal"), REFUSED)
async def test_a_refusal_by_rule_reads_nothing(
    world: World, ten: str, offset: int, body_length: int | None, length: int | None, refusal: type[Refusal]
) -> None:
    body = ScriptedBody(b"1234567")
    with pytest.raises(refusal):
        await world.open().append(append(ten, offset, body_length, length), body)
    assert not body.pumped and world.unlocked
    assert await stored(world) == (4, b"0123")


async def test_finals_are_not_modified(world: World) -> None:
    await world.put("final", b"ab", partials=("a", "b"))
    with pytest.raises(ModifyFinal):
        await send(world.open(), "final", 2, b"x")


async def test_who_works_on_a_final_is_not_disturbed(world: World) -> None:
    await world.put("final", b"ab", partials=("a", "b"))
    asked = asyncio.Event()
    lease = await world.locks.acquire("final", asked.set, 1)
    with pytest.raises(ModifyFinal):
        await send(world.open(), "final", 2, b"x")
    await asyncio.sleep(0)
    assert not asked.is_set()
    await lease.release()


# Ends of bodies: what came is kept

ENDS: list[tuple[BodyEnd, type[Refusal]]] = [
    (BodyEnd.CUT, UnexpectedEof),
    (BodyEnd.STALLED, ReadTimeout),
    (BodyEnd.MALFORMED, MalformedBody),
    (BodyEnd.EXCESS, SizeExceeded),
    (BodyEnd.STOPPED, UnexpectedEof),  # by nobody we know of
]


@pytest.mark.parametrize(("end", "refusal"), ENDS)
async def test_what_came_is_kept(world: World, ten: str, end: BodyEnd, refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        await send(world.open(), ten, 4, b"45", end, b"6")
    assert await stored(world) == (6, b"012345")
    assert world.unlocked
    assert (await send(world.open(), ten, 6, b"6789")).finished


def test_every_end_has_been_tried() -> None:
    assert {end for end, _ in ENDS} | {BodyEnd.COMPLETE} == set(BodyEnd)


async def test_a_chunked_body_beyond_the_length(world: World, ten: str) -> None:
    with pytest.raises(SizeExceeded):
        await world.open().append(append(ten, 4, None), ScriptedBody(b"456789AB", length=None))
    assert await stored(world) == (10, b"0123456789")


# Failures


@pytest.mark.parametrize("failure", [OutOfSpace("full"), StorageFailure("broken")])
async def test_a_disk_that_fills_up_keeps_what_it_took(world: World, ten: str, failure: StorageFailure) -> None:
    world.probe.fail("writer.write", failure, skip=2)
    with pytest.raises(StorageFailure, match=str(failure)):
        await send(world.open(), ten, 4, b"4", b"5", b"6", b"7")
    assert await stored(world) == (6, b"012345")
    assert world.unlocked


@pytest.mark.parametrize("step", ["data.open_writer", "writer.commit", "info.commit_offset"])
async def test_a_failure_leaves_the_record_as_it_was(world: World, ten: str, step: str) -> None:
    world.probe.fail(step, OutOfSpace("full"))
    with pytest.raises(OutOfSpace):
        await send(world.open(), ten, 4, b"456789")
    assert (await world.record(ten)).offset == 4
    assert world.unlocked and world.probe.calls[-1] in ("writer.close", "data.open_writer")
    world.probe.mend()
    assert (await send(world.open(), ten, 4, b"456789")).finished
    assert world.bytes_of(ten) == b"0123456789"


@pytest.mark.parametrize("step", ["writer.sync", "info.sync"])
async def test_a_failing_sync_acknowledges_nothing(world: World, ten: str, step: str) -> None:
    world.probe.fail(step, StorageFailure("disk"))
    uploads = world.open(durability=Durability.FINAL)
    with pytest.raises(StorageFailure):
        await send(uploads, ten, 4, b"456789")
    assert await stored(world) == (4, b"0123")
    assert (await uploads.describe(ten, takeover=True)).offset == 4


async def test_a_failing_lock_is_a_failure(world: World, ten: str) -> None:
    world.probe.fail("locks.try_acquire", StorageFailure("no lock"))
    body = ScriptedBody(b"x")
    uploads = world.open()
    with pytest.raises(StorageFailure):
        await uploads.append(append(ten, 4, 1), body)
    assert not body.pumped and "receiving=0" in repr(uploads)


STEPS = [
    "locks.try_acquire",
    "info.load",
    "data.open_writer",
    "writer.commit",
    "info.commit_offset",
    "writer.sync",
    "info.sync",
    "writer.close",
]


@pytest.mark.parametrize("step", STEPS)
async def test_cancellation_at_any_call_leaves_a_sound_upload(world: World, ten: str, step: str) -> None:
    uploads = world.open(durability=Durability.FINAL)
    world.probe.before(cancelling(step))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(send(uploads, ten, 4, b"456789"))
    assert world.unlocked and "receiving=0" in repr(uploads)
    offset, data = await stored(world)
    assert data is not None and data[:offset] == b"0123456789"[:offset] and len(data) >= offset
    assert (await send(world.open(), ten, offset, b"0123456789"[offset:])).finished


async def test_cancellation_while_the_body_comes_keeps_what_came(world: World, ten: str) -> None:
    body = ScriptedBody(b"45", asyncio.Event())
    appending = asyncio.create_task(world.open().append(append(ten, 4, 6), body))
    await until(lambda: body.pumped)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    assert await stored(world) == (6, b"012345") and world.unlocked


# Takeover: the newest request wins


async def begin(uploads: Uploads, world: World, *, ending: bytes = b"") -> tuple[asyncio.Task[Upload], ScriptedBody]:
    """A request that has sent two bytes and waits for ever."""
    body = ScriptedBody(b"45", asyncio.Event(), ending)
    task = asyncio.create_task(uploads.append(append("ten", 4, 6), body))
    await until(lambda: body.pumped)
    return task, body


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_second_append_stops_the_first(world: World, ten: str, same_process: bool) -> None:
    first = world.open()
    holding, body = await begin(first, world)
    second = first if same_process else world.open()
    with pytest.raises(MismatchedOffset) as refused:
        await send(second, ten, 4, b"456789")
    assert refused.value.headers == {"Upload-Offset": "6"}
    with pytest.raises(UploadInterrupted):
        await holding
    assert body.stopped
    assert (await send(second, ten, 6, b"6789")).finished
    assert world.bytes_of(ten) == b"0123456789"


async def test_who_is_about_to_resume_sees_an_offset_that_stays(world: World, ten: str) -> None:
    uploads = world.open()
    holding, _ = await begin(uploads, world)
    assert (await uploads.describe(ten, takeover=True)).offset == 6
    with pytest.raises(UploadInterrupted):
        await holding


async def test_who_only_looks_disturbs_nobody(world: World, ten: str) -> None:
    uploads = world.open()
    holding, body = await begin(uploads, world)
    assert (await uploads.describe(ten, takeover=False)).offset == 4
    await asyncio.sleep(0)
    assert not body.stopped
    uploads.begin_shutdown()
    with pytest.raises(ServerShutdown):
        await holding


async def test_an_unknown_upload_is_unknown_though_it_is_locked(world: World) -> None:
    asked = asyncio.Event()
    lease = await world.locks.acquire("none", asked.set, 1)
    with pytest.raises(UploadMissing):
        await send(world.open(), "none", 0, b"x")
    assert not asked.is_set()
    await lease.release()


async def test_who_does_not_let_go_is_not_waited_for_for_ever(world: World, ten: str) -> None:
    lease = await world.locks.acquire(ten, ignore, 1)
    uploads = world.open(lock_timeout=0.01)
    for asking in (send(uploads, ten, 4, b"x"), uploads.describe(ten, takeover=True), uploads.terminate(ten)):
        with pytest.raises(LockTimedOut):
            await asking
    await lease.release()
    assert await stored(world) == (4, b"0123") and world.unlocked


async def test_who_is_interrupted_before_it_reads_reads_nothing(world: World, ten: str) -> None:
    uploads, body = world.open(), ScriptedBody(b"456789")
    other: list[asyncio.Task[Upload]] = []

    async def interrupt(_: int, name: str) -> None:
        if name == "info.load" and not other:
            other.append(asyncio.create_task(uploads.describe(ten, takeover=True)))
            await until(lambda: body.stopped)

    world.probe.before(interrupt)
    with pytest.raises(UploadInterrupted):
        await uploads.append(append(ten, 4, 6), body)
    assert not body.pumped
    assert (await other[0]).offset == 4


async def test_a_request_that_waits_for_the_lock_is_stopped_by_a_third(world: World, ten: str) -> None:
    uploads = world.open()
    gate = asyncio.Event()
    body = ScriptedBody(b"45", gate.wait)  # does not heed being stopped until the gate opens
    first = asyncio.create_task(uploads.append(append(ten, 4, 2), body))
    await until(lambda: body.pumped)
    second = asyncio.create_task(send(uploads, ten, 4, b"45"))
    await until(lambda: "1 waiting" in repr(world.locks))
    third = asyncio.create_task(send(uploads, ten, 6, b"67"))
    await until(lambda: "2 waiting" in repr(world.locks))
    gate.set()
    with pytest.raises(UploadInterrupted):
        await first
    with pytest.raises((UploadInterrupted, MismatchedOffset)):
        await second
    assert (await third).offset == 8


async def test_shutdown_stops_every_body_and_keeps_what_came(world: World, ten: str) -> None:
    uploads = world.open()
    holding, _ = await begin(uploads, world)
    uploads.begin_shutdown()
    uploads.begin_shutdown()
    with pytest.raises(ServerShutdown):
        await holding
    assert await stored(world) == (6, b"012345")
    with pytest.raises(ServerShutdown):
        await send(uploads, ten, 6, b"6")
    assert (await uploads.describe(ten, takeover=True)).offset == 6, "whoever only asks is still answered"


async def test_the_first_reason_to_stop_counts(world: World, ten: str) -> None:
    uploads = world.open()
    gate = asyncio.Event()
    body = ScriptedBody(b"45", gate.wait)
    holding = asyncio.create_task(uploads.append(append(ten, 4, 6), body))
    await until(lambda: body.pumped)
    asking = asyncio.create_task(uploads.describe(ten, takeover=True))
    await until(lambda: body.stopped)
    uploads.begin_shutdown()
    gate.set()
    with pytest.raises(UploadInterrupted):
        await holding
    await asking


# Deferred lengths


@pytest.fixture
async def deferred(world: World) -> str:
    return (await world.put("deferred", b"0123", length=None)).id


async def test_a_length_may_be_declared_with_the_bytes(world: World, deferred: str) -> None:
    uploads = world.open()
    assert (await send(uploads, deferred, 4, b"4")).length is None
    assert (await send(uploads, deferred, 5, b"5", length=8)).length == 8
    assert (await send(uploads, deferred, 6, b"67", length=8)).finished
    assert await world.record(deferred) == Upload(id=deferred, length=8, offset=8, active_at=world.now)


async def test_the_declared_length_limits_that_very_body(world: World, deferred: str) -> None:
    with pytest.raises(SizeExceeded):
        await world.open().append(append(deferred, 4, None, 6), ScriptedBody(b"4567", length=None))
    assert await stored(world, deferred) == (6, b"012345")


@pytest.mark.parametrize("durability", Durability)
async def test_a_length_may_be_declared_when_all_is_there(world: World, deferred: str, durability: Durability) -> None:
    body = ScriptedBody()
    upload = await world.open(durability=durability).append(append(deferred, 4, 0, 4), body)
    assert upload.finished and await world.record(deferred) == upload
    synced = [name for name in world.probe.calls if "sync" in name]
    assert synced == ([] if durability is Durability.NONE else ["data.sync", "info.sync"])


@pytest.mark.parametrize("step", ["data.sync", "info.sync"])
async def test_a_declaration_that_cannot_be_made_durable_is_taken_back(world: World, deferred: str, step: str) -> None:
    world.probe.fail(step, StorageFailure("disk"))
    with pytest.raises(StorageFailure):
        await send(world.open(durability=Durability.FINAL), deferred, 4, length=4)
    assert (await world.record(deferred)).length is None


async def test_a_declaration_that_cannot_be_recorded(world: World, deferred: str) -> None:
    world.probe.fail("info.replace", OutOfSpace("full"))
    body = ScriptedBody(b"4")
    with pytest.raises(OutOfSpace):
        await world.open().append(append(deferred, 4, 1, 8), body)
    assert not body.pumped and (await world.record(deferred)).length is None


async def test_the_maximum_holds_without_a_length(world: World, deferred: str) -> None:
    with pytest.raises(SizeExceeded):
        await world.open(policy=Policy(max_size=6)).append(append(deferred, 4, None), ScriptedBody(b"4567", length=None))
    assert (await world.record(deferred)).offset == 6


# Verified bodies


def claim(data: bytes, algorithm: str = "sha1") -> Claim:
    return Claim(algorithm, hashlib.new(algorithm, data).digest())


def trailer(data: bytes, algorithm: str = "sha1") -> dict[bytes, bytes]:
    digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    return {b"upload-checksum": f"{algorithm} {digest}".encode()}


TRAILED = Payload(None, trailer_claim=True)


async def test_a_true_digest(world: World, ten: str) -> None:
    upload = await world.open().append(append(ten, 4, Payload(6, claim(b"456789"))), ScriptedBody(b"456", b"789"))
    assert upload.finished and await stored(world) == (10, b"0123456789")


async def test_a_false_digest(world: World, ten: str) -> None:
    with pytest.raises(ChecksumMismatch):
        await world.open().append(append(ten, 4, Payload(6, claim(b"other"))), ScriptedBody(b"456789"))
    assert await stored(world) == (4, b"0123") and world.unlocked


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256", "sha512"])
async def test_a_digest_in_the_trailer(world: World, ten: str, algorithm: str) -> None:
    body = ScriptedBody(b"456", b"789", length=None, trailers=trailer(b"456789", algorithm))
    assert (await world.open().append(append(ten, 4, TRAILED), body)).finished
    assert await stored(world) == (10, b"0123456789")


BAD_TRAILERS: list[tuple[dict[bytes, bytes], type[Refusal]]] = [
    ({}, InvalidChecksum),
    ({b"upload-checksum": b"sha1"}, InvalidChecksum),
    ({b"upload-checksum": b"what !"}, InvalidChecksum),
    (trailer(b"other"), ChecksumMismatch),
]


@pytest.mark.parametrize(("trailers", "refusal"), BAD_TRAILERS)
async def test_a_bad_trailer(world: World, ten: str, trailers: dict[bytes, bytes], refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        await world.open().append(append(ten, 4, TRAILED), ScriptedBody(b"45", length=None, trailers=trailers))
    assert await stored(world) == (4, b"0123")


@pytest.mark.parametrize(("end", "refusal"), ENDS)
async def test_nothing_of_a_verified_body_is_kept_before_its_end(
    world: World, ten: str, end: BodyEnd, refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        await world.open().append(append(ten, 4, Payload(6, claim(b"456789"))), ScriptedBody(b"456", end))
    assert await stored(world) == (4, b"0123") and world.unlocked


@pytest.mark.parametrize("step", ["data.open_writer", "writer.write", "writer.commit", "info.commit_offset"])
async def test_a_failure_under_a_verified_body(world: World, ten: str, step: str) -> None:
    world.probe.fail(step, OutOfSpace("full"))
    with pytest.raises(OutOfSpace):
        await world.open().append(append(ten, 4, Payload(6, claim(b"456789"))), ScriptedBody(b"456789"))
    assert (await world.record(ten)).offset == 4 and world.unlocked


async def test_a_verified_body_cancelled(world: World, ten: str) -> None:
    body = ScriptedBody(b"456", asyncio.Event(), b"789")
    appending = asyncio.create_task(world.open().append(append(ten, 4, Payload(6, claim(b"456789"))), body))
    await until(lambda: body.pumped)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    assert await stored(world) == (4, b"0123") and world.unlocked


async def test_the_bytes_can_be_read_from_the_front(world: World, ten: str) -> None:
    uploads = world.open()
    assert await read(uploads, ten) == b"0123"
    await send(uploads, ten, 4, b"456789")
    assert await read(uploads, ten) == b"0123456789"
