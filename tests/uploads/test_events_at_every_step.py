"""A process that dies at any call of any adapter: what is told afterwards is what has happened, once and in order.

Each scenario is run again and again, killed one call later each time; then another process starts over what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from tests.uploads.support import Probed, World, append, create, nothing, quiet, send
from tests.uploads.test_announcing import Told
from tests.uploads.test_gates import Scripted, saying
from tusd_py.ports.body import BodyEnd
from tusd_py.ports.failures import UploadNotFound
from tusd_py.protocol.checksum import Claim
from tusd_py.protocol.commands import Create, Payload
from tusd_py.protocol.hooks import HookAnswer, HookType
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.rules import Policy
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Durability, Uploads
from tusd_py.uploads.announcing import CREATION_TIME, Announcer
from tusd_py.uploads.gates import Gates

Scenario = Callable[[Uploads, World], Awaitable[None]]

ORDER = ["post-create", "post-receive", "post-finish", "post-terminate"]
MOST_CALLS = 300
"""More than any scenario makes."""


class Killed(BaseException):
    """The process is gone: nothing that it still tries has any effect."""


async def life(uploads: Uploads, _: World) -> None:
    upload = await uploads.create(create(5), ScriptedBody())
    await send(uploads, upload.id, 0, b"he")
    await send(uploads, upload.id, 2, b"llo")
    await uploads.terminate(upload.id)


async def unfinished_life(uploads: Uploads, _: World) -> None:
    upload = await uploads.create(create(5), ScriptedBody())
    await send(uploads, upload.id, 0, b"he")
    await uploads.terminate(upload.id)


async def with_upload(uploads: Uploads, _: World) -> None:
    await uploads.create(create(5, body=5), ScriptedBody(b"hello"))


async def empty(uploads: Uploads, _: World) -> None:
    await uploads.create(create(0), ScriptedBody())


async def declared(uploads: Uploads, _: World) -> None:
    upload = await uploads.create(create(None), ScriptedBody())
    await send(uploads, upload.id, 0, b"ab")
    await send(uploads, upload.id, 2, length=2)


async def checksum(uploads: Uploads, _: World) -> None:
    with contextlib.suppress(Refusal):
        await uploads.create(Create(length=2, payload=Payload(2, Claim("sha1", b"x" * 20))), ScriptedBody(b"ab"))


async def broken_off(uploads: Uploads, _: World) -> None:
    with contextlib.suppress(Refusal):
        await uploads.create(create(4, body=4), ScriptedBody(b"ab", BodyEnd.CUT, length=4))
    await send(uploads, "id1", 2, b"cd")


async def concatenated(uploads: Uploads, _: World) -> None:
    part = await uploads.create(create(2, body=2, is_partial=True, concat="partial"), ScriptedBody(b"ab"))
    await uploads.create(create(None, partials=(part.id, part.id)), ScriptedBody())
    await quiet()
    await uploads.terminate(part.id)


async def concatenated_early(uploads: Uploads, _: World) -> None:
    part = await uploads.create(create(2, is_partial=True, concat="partial"), ScriptedBody())
    await uploads.create(create(None, partials=(part.id,)), ScriptedBody())
    await send(uploads, part.id, 0, b"ab")
    await quiet()


async def expired(uploads: Uploads, world: World) -> None:
    await uploads.create(create(2), ScriptedBody())
    world.now += 11 * CREATION_TIME
    await uploads.sweep()


SCENARIOS: list[Scenario] = [
    life, unfinished_life, with_upload, empty, declared, checksum, broken_off, concatenated, concatenated_early, expired,
]  # fmt: skip

GATED = [None, HookAnswer(), saying(422)]


class Crash:
    """A scenario, and the process that is there afterwards."""

    def __init__(self, durability: Durability, answer: HookAnswer | None) -> None:
        self.world = World()
        self.told = Told(self.world)
        self.durability = durability
        self.hooks = None if answer is None else Scripted(HookType.PRE_FINISH, say=lambda _: answer)

    def open(self) -> Uploads:
        outbox = Probed(self.told.outbox, self.world.probe, "outbox")
        return self.world.open(
            announcer=Announcer(outbox, [self.told.listener], lambda: None),
            gates=Gates(self.hooks),
            durability=self.durability,
            policy=Policy(expiry=10 * CREATION_TIME),
        )

    async def run(self, scenario: Scenario, last: int) -> bool:
        """Whether the process died at call `last`, before the end of the scenario."""
        died = False

        async def die(number: int, _: str) -> None:
            nonlocal died
            if number >= last:
                died = True
                raise Killed

        self.world.probe.before(die)
        uploads = self.open()
        with contextlib.suppress(Killed, Refusal):
            await scenario(uploads, self.world)
        for task in [task for task in asyncio.all_tasks() if task.get_name().startswith("settle ")]:
            with contextlib.suppress(BaseException):
                await task
        self.world.probe.before(nothing)
        await self.world.close()
        self.world.locks._slots.clear()  # they end with the process
        return died

    async def restart(self) -> Uploads:
        self.world.now += 1
        uploads = self.open()
        await uploads.recover()
        await uploads.decide_events()
        await quiet()
        self.world.now += CREATION_TIME + 1
        await uploads.decide_events()
        return uploads

    async def judge(self) -> None:
        """Compare what was told with what is there."""
        told: dict[str, list[str]] = {}
        for stored in await self.told.due():
            told.setdefault(stored.event.upload.id, []).append(stored.event.type.value)
        there = await self.world.ids()
        for upload_id in {*told, *there}:
            names = told.get(upload_id, [])
            assert names == sorted(names, key=ORDER.index), names
            assert all(names.count(once) < 2 for once in ORDER if once != "post-receive"), names
            assert not names or names[0] == "post-create", names
            try:
                upload = await self.world.record(upload_id)
            except UploadNotFound:
                assert not names or names[-1] == "post-terminate", (upload_id, names)
                continue
            assert "post-create" in names and "post-terminate" not in names, (upload_id, names)
            assert ("post-finish" in names) is upload.finished, (upload, names)
        open_ones = {(one.event.upload.id, one.event.type) async for one in self.told.outbox.prepared(self.world.now + 1)}
        waiting = [await self.world.record(upload_id) for upload_id in there]
        assert open_ones <= {(one.id, HookType.POST_FINISH) for one in waiting if not one.finished and one.failure is None}


@pytest.mark.parametrize("answer", GATED, ids=["no gate", "accepting", "refusing"])
@pytest.mark.parametrize("durability", [Durability.NONE, Durability.EVERY_PATCH])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_killed_at_every_call(scenario: Scenario, durability: Durability, answer: HookAnswer | None) -> None:
    for last in range(MOST_CALLS):
        crash = Crash(durability, answer)
        died = await crash.run(scenario, last)
        try:
            await crash.restart()
            await crash.judge()
        except Exception as failure:
            failure.add_note(f"killed at call {last}: {crash.world.probe.calls}")
            raise
        finally:
            await crash.world.close()
        if not died:
            return
    raise AssertionError(f"more than {MOST_CALLS} calls")


async def test_a_killed_upload_is_resumed_and_told_of_once() -> None:
    for last in range(MOST_CALLS):
        crash = Crash(Durability.FINAL, HookAnswer())
        died = await crash.run(with_upload_in_two, last)
        uploads = await crash.restart()
        for upload_id in await crash.world.ids():
            if crash.world.bytes_of(upload_id) is None:
                continue  # there was no place for them yet, and nobody knows the id
            upload = await uploads.describe(upload_id, takeover=True)
            if not upload.finished:
                rest = b"hello"[upload.offset :]
                await uploads.append(append(upload_id, upload.offset, len(rest)), ScriptedBody(rest))
            assert (await crash.world.record(upload_id)).finished
        await crash.judge()
        await crash.world.close()
        if not died:
            return


async def with_upload_in_two(uploads: Uploads, _: World) -> None:
    with contextlib.suppress(Refusal):
        await uploads.create(create(5, body=5), ScriptedBody(b"he", BodyEnd.CUT, length=5))
    await send(uploads, "id1", 2, b"llo")
