"""Hooks that may refuse or amend: when they are asked, what comes of it, and that nothing looks finished meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.uploads.support import World, append, create, quiet, read, send, until
from tusd_py.ports.call import NoCall
from tusd_py.ports.failures import UploadExists
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import (
    FinishRejected,
    HookFailed,
    InvalidConcat,
    NotAccepted,
    Refusal,
    TerminationRejected,
    UploadFailed,
    UploadInterrupted,
    UploadMissing,
    UploadRejected,
)
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Uploads
from tusd_py.uploads.gates import Gates

Say = Callable[[HookEvent], HookAnswer | Exception]


class Scripted:
    """Hooks that answer what a function says, and remember what they were asked."""

    def __init__(self, *types: HookType, say: Say = lambda _: HookAnswer()) -> None:
        self.types = frozenset(types)
        self.say = say
        self.asked: list[HookEvent] = []
        self.open = asyncio.Event()
        self.open.set()

    async def invoke(self, event: HookEvent) -> HookAnswer:
        self.asked.append(event)
        await self.open.wait()
        answer = self.say(event)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing is held."""


class Asking(NoCall):
    """A call whose answer can be looked at."""

    __slots__ = ("response",)

    def __init__(self) -> None:
        self.response: HttpResponse | None = None


def gated(world: World, hooks: Scripted, **options: Any) -> Uploads:
    return world.open(gates=Gates(hooks), **options)


def saying(status: int, body: str = "no") -> HookAnswer:
    return HookAnswer(response=HttpResponse(status=status, body=body))


# pre-create


async def test_before_creation_nothing_is_there(world: World) -> None:
    hooks = Scripted(HookType.PRE_CREATE)
    upload = await gated(world, hooks).create(create(5, metadata=Metadata({"a": b"b"}, "a Yg==")), ScriptedBody())
    (event,) = hooks.asked
    assert event.type is HookType.PRE_CREATE and event.id == ""
    assert event.upload.id == "" and event.upload.storage == {} and event.upload.length == 5
    assert event.upload.metadata == upload.metadata and not upload.held


async def test_a_rejected_creation_leaves_nothing(world: World) -> None:
    answer = HookAnswer(reject_upload=True, response=HttpResponse(status=402, body="pay"))
    hooks = Scripted(HookType.PRE_CREATE, say=lambda _: answer)
    with pytest.raises(UploadRejected) as refused:
        await gated(world, hooks).create(create(5, body=5), body := ScriptedBody(b"hello"))
    assert (refused.value.status, refused.value.body) == (402, "pay")
    assert await world.is_empty() and not body.pumped


async def test_a_rejection_without_a_response_is_tusds(world: World) -> None:
    hooks = Scripted(HookType.PRE_CREATE, say=lambda _: HookAnswer(reject_upload=True))
    with pytest.raises(UploadRejected) as refused:
        await gated(world, hooks).create(create(5), ScriptedBody())
    assert (refused.value.status, refused.value.body) == (
        400,
        "ERR_UPLOAD_REJECTED: upload creation has been rejected by server\n",
    )


async def test_changes_before_creation(world: World) -> None:
    changes = FileInfoChanges(id="proj/x-1", metadata={"k": b"\xffv"})
    call = Asking()
    hooks = Scripted(
        HookType.PRE_CREATE, say=lambda _: HookAnswer(changes=changes, response=HttpResponse(headers={"X-A": "b"}))
    )
    upload = await gated(world, hooks).create(create(5, metadata=Metadata({"a": b"b"}, "a Yg==")), ScriptedBody(), call)
    assert upload.id == "proj/x-1" and upload.metadata == Metadata({"k": b"\xffv"}, "k /3Y=")
    assert await world.record("proj/x-1") == upload
    assert call.response == HttpResponse(headers={"X-A": "b"})


async def test_metadata_can_be_erased(world: World) -> None:
    hooks = Scripted(HookType.PRE_CREATE, say=lambda _: HookAnswer(changes=FileInfoChanges(metadata={})))
    upload = await gated(world, hooks).create(create(5, metadata=Metadata({"a": b"b"}, "a Yg==")), ScriptedBody())
    assert upload.metadata == Metadata()


@pytest.mark.parametrize("chosen", ["../esc", "a/../b", "x.info", ".tusd-py/x", "a b", "é"])
async def test_an_id_that_can_not_be_is_the_hooks_failure(world: World, chosen: str) -> None:
    hooks = Scripted(HookType.PRE_CREATE, say=lambda _: HookAnswer(changes=FileInfoChanges(id=chosen)))
    with pytest.raises(HookFailed, match="upload id"):
        await gated(world, hooks).create(create(5), ScriptedBody())
    assert await world.is_empty()


async def test_an_id_that_is_taken_leaves_its_upload_alone(world: World) -> None:
    await world.put("taken", b"theirs")
    hooks = Scripted(HookType.PRE_CREATE, say=lambda _: HookAnswer(changes=FileInfoChanges(id="taken")))
    with pytest.raises(UploadExists):
        await gated(world, hooks).create(create(5), ScriptedBody())
    assert world.bytes_of("taken") == b"theirs"


async def test_a_failing_hook_is_told_to_the_client(world: World) -> None:
    hooks = Scripted(HookType.PRE_CREATE, say=lambda _: HookFailure("unexpected return code 3 from hook endpoint: oh"))
    with pytest.raises(HookFailed) as refused:
        await gated(world, hooks).create(create(5), ScriptedBody())
    assert refused.value.body == "ERR_INTERNAL_SERVER_ERROR: unexpected return code 3 from hook endpoint: oh\n"
    assert refused.value.status == 500 and await world.is_empty()


# pre-finish


async def test_a_finish_is_asked_for_once_everything_is_here(world: World) -> None:
    hooks, call = Scripted(HookType.PRE_FINISH, say=lambda _: saying(0, "fine")), Asking()
    hooks.say = lambda _: HookAnswer(response=HttpResponse(body="fine"))
    uploads = gated(world, hooks)
    upload = await uploads.create(create(5), ScriptedBody())
    assert upload.held
    await send(uploads, upload.id, 0, b"he")
    assert not hooks.asked
    done = await uploads.append(append(upload.id, 2, 3), ScriptedBody(b"llo"), call)
    (event,) = hooks.asked
    assert event.upload.offset == 5 and event.upload.finished
    assert done.finished and not (await world.record(upload.id)).held
    assert call.response == HttpResponse(body="fine")
    assert await read(uploads, upload.id) == b"hello"


@pytest.mark.parametrize("how", ["creation", "empty", "declaration", "concatenation"])
async def test_every_way_of_finishing_is_asked_for(world: World, how: str) -> None:
    hooks = Scripted(HookType.PRE_FINISH)
    uploads = gated(world, hooks)
    if how == "creation":
        upload = await uploads.create(create(2, body=2), ScriptedBody(b"ab"))
    elif how == "empty":
        upload = await uploads.create(create(0), ScriptedBody())
    elif how == "declaration":
        upload = await uploads.create(create(None), ScriptedBody())
        await send(uploads, upload.id, 0, b"ab")
        upload = await send(uploads, upload.id, 2, length=2)
    else:
        part = await uploads.create(create(2, body=2, is_partial=True, concat="partial"), ScriptedBody(b"ab"))
        assert [event.upload.is_partial for event in hooks.asked] == [True]
        upload = await uploads.create(create(None, partials=(part.id, part.id)), ScriptedBody())
        assert upload.is_final and len(hooks.asked) == 2
    assert upload.finished and hooks.asked[-1].upload.id == upload.id
    assert (await world.record(upload.id)).finished


REFUSALS = [
    pytest.param(saying(422, "bad"), 422, id="error status"),
    pytest.param(HookAnswer(reject_upload=True), 400, id="reject"),
    pytest.param(HookAnswer(reject_upload=True, response=HttpResponse(status=200)), 400, id="reject and well"),
]


@pytest.mark.parametrize(("answer", "status"), REFUSALS)
async def test_a_refused_finish_lasts(world: World, answer: HookAnswer, status: int) -> None:
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: answer)
    uploads = gated(world, hooks)
    upload = await uploads.create(create(2), ScriptedBody())
    with pytest.raises(FinishRejected) as refused:
        await send(uploads, upload.id, 0, b"ab")
    assert refused.value.status == status
    for again in (
        lambda: uploads.describe(upload.id, takeover=True),
        lambda: uploads.describe(upload.id, takeover=False),
        lambda: uploads.open_content(upload.id),
        lambda: send(uploads, upload.id, 2),
    ):
        with pytest.raises(UploadFailed, match="rejected"):
            await again()
    assert len(hooks.asked) == 1 and world.unlocked
    await uploads.terminate(upload.id)
    assert await world.is_empty()


@pytest.mark.parametrize("answer", [HookFailure("away"), saying(503, "later")], ids=["failure", "later"])
async def test_a_hook_that_can_not_tell_is_asked_again_by_who_resumes(world: World, answer: HookAnswer | Exception) -> None:
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: answer)
    uploads = gated(world, hooks)
    upload = await uploads.create(create(2), ScriptedBody())
    with pytest.raises(Refusal) as refused:
        await send(uploads, upload.id, 0, b"ab")
    assert refused.value.status >= 500
    with pytest.raises(NotAccepted):
        await uploads.describe(upload.id, takeover=False)
    with pytest.raises(NotAccepted):
        await uploads.open_content(upload.id)
    with pytest.raises(Refusal):
        await uploads.describe(upload.id, takeover=True)
    hooks.say = lambda _: HookAnswer()
    assert (await uploads.describe(upload.id, takeover=True)).finished
    assert (await uploads.describe(upload.id, takeover=True)).finished
    assert len(hooks.asked) == 3, "an accepted upload is not asked about again"
    assert await read(uploads, upload.id) == b"ab"


async def test_an_empty_append_asks_again_too(world: World) -> None:
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: HookFailure("away"))
    uploads = gated(world, hooks)
    upload = await uploads.create(create(2), ScriptedBody())
    with pytest.raises(HookFailed):
        await send(uploads, upload.id, 0, b"ab")
    hooks.say = lambda _: HookAnswer()
    assert (await send(uploads, upload.id, 2)).finished


async def test_who_resumes_waits_for_the_answer_of_the_hook(world: World) -> None:
    hooks = Scripted(HookType.PRE_FINISH)
    uploads, others = gated(world, hooks), gated(world, hooks)
    upload = await uploads.create(create(2), ScriptedBody())
    hooks.open.clear()
    sending = asyncio.create_task(send(uploads, upload.id, 0, b"ab"))
    await until(lambda: hooks.asked)
    resuming = asyncio.create_task(others.describe(upload.id, takeover=True))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not resuming.done()
    hooks.open.set()
    assert (await sending).finished and (await resuming).finished
    assert len(hooks.asked) == 1


async def test_a_refused_creation_with_upload_leaves_nothing(world: World) -> None:
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: saying(400))
    with pytest.raises(FinishRejected):
        await gated(world, hooks).create(create(2, body=2), ScriptedBody(b"ab"))
    assert await world.is_empty()


async def test_a_refused_concatenation_leaves_its_partials_only(world: World) -> None:
    part = await world.put("part", b"ab", is_partial=True)
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: saying(400))
    with pytest.raises(FinishRejected):
        await gated(world, hooks).create(create(None, partials=(part.id,)), ScriptedBody())
    assert await world.ids() == ["part"] and world.unlocked


async def test_an_upload_from_before_the_hook_is_held_from_its_next_append(world: World) -> None:
    upload = await world.open().create(create(2), ScriptedBody())
    assert not upload.held
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: HookFailure("away"))
    uploads = gated(world, hooks)
    await send(uploads, upload.id, 0, b"a")
    assert (await world.record(upload.id)).held
    with pytest.raises(HookFailed):
        await send(uploads, upload.id, 1, b"b")
    with pytest.raises(NotAccepted):
        await uploads.describe(upload.id, takeover=False)


async def test_a_final_from_before_the_hook_is_held_while_its_partials_come(world: World) -> None:
    before = world.open()
    part = await before.create(create(2, is_partial=True, concat="partial"), ScriptedBody())
    final = await before.create(create(None, partials=(part.id,)), ScriptedBody())
    await before.close()
    answer = HookAnswer()
    hooks = Scripted(HookType.PRE_FINISH, say=lambda event: answer if event.upload.is_partial else saying(400))
    uploads = gated(world, hooks)
    await uploads.recover()
    await quiet()
    await send(uploads, part.id, 0, b"ab")
    await quiet()
    assert [event.upload.id for event in hooks.asked] == [part.id, final.id]
    with pytest.raises(UploadFailed, match="rejected"):
        await uploads.describe(final.id, takeover=True)


async def test_a_final_of_a_rejected_partial_can_not_be_finished(world: World) -> None:
    uploads = gated(world, Scripted(HookType.PRE_FINISH, say=lambda _: saying(400)))
    part = await uploads.create(create(2, is_partial=True, concat="partial"), ScriptedBody())
    final = await uploads.create(create(None, partials=(part.id,)), ScriptedBody())
    with pytest.raises(FinishRejected):
        await send(uploads, part.id, 0, b"ab")
    await quiet()
    assert (await world.record(final.id)).failure == "one of its partial uploads can't be finished"
    assert not await world.records.waiting_finals()
    with pytest.raises(InvalidConcat, match="can't be finished"):
        await uploads.create(create(None, partials=(part.id,)), ScriptedBody())


async def test_finished_uploads_from_before_the_hook_stay_finished(world: World) -> None:
    await world.put("old", b"ab")
    hooks = Scripted(HookType.PRE_FINISH, say=lambda _: saying(400))
    assert (await gated(world, hooks).describe("old", takeover=True)).finished
    assert not hooks.asked


async def test_without_the_hook_nothing_is_held(world: World) -> None:
    await world.put("held", b"ab", held=True)
    assert (await world.open().describe("held", takeover=True)).finished
    assert await read(world.open(), "held") == b"ab"


async def test_an_interruption_does_not_disturb_the_hook(world: World) -> None:
    """The body is complete: there is nothing left to stop, and the answer is not thrown away."""
    hooks = Scripted(HookType.PRE_FINISH)
    uploads = gated(world, hooks)
    upload = await uploads.create(create(2), ScriptedBody())
    hooks.open.clear()
    sending = asyncio.create_task(send(uploads, upload.id, 0, b"ab"))
    await until(lambda: hooks.asked)
    uploads.begin_shutdown()
    hooks.open.set()
    assert (await sending).finished
    assert not isinstance(sending.exception(), UploadInterrupted)


# pre-terminate


async def test_a_termination_can_be_vetoed(world: World) -> None:
    answer = HookAnswer(reject_termination=True, response=HttpResponse(status=409, body="keep"))
    hooks = Scripted(HookType.PRE_TERMINATE, say=lambda _: answer)
    uploads = gated(world, hooks)
    upload = await uploads.create(create(2), ScriptedBody())
    with pytest.raises(TerminationRejected) as refused:
        await uploads.terminate(upload.id)
    assert (refused.value.status, refused.value.body) == (409, "keep")
    assert await world.ids() == [upload.id]
    hooks.say = lambda _: HookAnswer()
    await uploads.terminate(upload.id)
    assert await world.is_empty()


async def test_a_vetoed_termination_disturbs_nobody(world: World) -> None:
    hooks = Scripted(HookType.PRE_TERMINATE, say=lambda _: HookAnswer(reject_termination=True))
    uploads = gated(world, hooks)
    upload = await uploads.create(create(4), ScriptedBody())
    more = asyncio.Event()
    sending = asyncio.create_task(uploads.append(append(upload.id, 0, 4), ScriptedBody(b"ab", more, b"cd")))
    await until(lambda: list(uploads.running()))
    with pytest.raises(TerminationRejected):
        await uploads.terminate(upload.id)
    more.set()
    assert (await sending).finished


async def test_what_is_not_there_is_not_asked_about(world: World) -> None:
    hooks = Scripted(HookType.PRE_TERMINATE)
    with pytest.raises(UploadMissing):
        await gated(world, hooks).terminate("missing")
    assert not hooks.asked
