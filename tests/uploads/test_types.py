"""Files that may not be uploaded: whichever way the bytes come, nothing of them looks finished, and nothing stays."""

from __future__ import annotations

import pytest

from tests.uploads.support import World, create, quiet, send
from tests.uploads.test_sniffing import RULES, FirstByte
from tusd_py.protocol.refusals import NotAccepted, TypeNotAllowed, UploadMissing
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Uploads
from tusd_py.uploads.sniffing import TypeGate


@pytest.fixture
def uploads(world: World) -> Uploads:
    return world.open(types=TypeGate(RULES, FirstByte()))


async def test_what_is_allowed_gets_through(world: World, uploads: Uploads) -> None:
    upload = await uploads.create(create(2), ScriptedBody())
    assert (await send(uploads, upload.id, 0, b"Pb")).finished
    assert (await uploads.create(create(2, body=2), ScriptedBody(b"Pb"))).finished


async def test_a_creation_with_upload(world: World, uploads: Uploads) -> None:
    with pytest.raises(TypeNotAllowed):
        await uploads.create(create(2, body=2), ScriptedBody(b"Hb"))
    assert await world.is_empty() and world.unlocked


async def test_an_append(world: World, uploads: Uploads) -> None:
    upload = await uploads.create(create(2), ScriptedBody())
    with pytest.raises(TypeNotAllowed):
        await send(uploads, upload.id, 0, b"Hb")
    assert await world.is_empty() and world.unlocked
    with pytest.raises(UploadMissing):
        await uploads.describe(upload.id, takeover=True)


async def test_a_declared_length_is_not_recorded_before_the_bytes_are_judged(world: World, uploads: Uploads) -> None:
    upload = await uploads.create(create(None), ScriptedBody())
    await send(uploads, upload.id, 0, b"Hb")
    world.probe.calls.clear()
    with pytest.raises(TypeNotAllowed):
        await send(uploads, upload.id, 2, length=2)
    assert "info.replace" not in world.probe.calls, "it would look finished, and stay so if the process died"
    assert await world.is_empty() and world.unlocked


async def test_a_final(world: World, uploads: Uploads) -> None:
    part = await uploads.create(create(2, body=2, is_partial=True, concat="partial"), ScriptedBody(b"Hb"))
    with pytest.raises(TypeNotAllowed):
        await uploads.create(create(None, partials=(part.id,)), ScriptedBody())
    await quiet()
    assert "data.concatenate" not in world.probe.calls, "it would look finished, and stay so if the process died"
    assert await world.ids() == [part.id] and not await world.records.waiting_finals()


async def test_a_final_is_not_promised_before_it_is_judged(world: World, uploads: Uploads) -> None:
    await world.put("part", b"Pb", is_partial=True)
    final = await world.put("final", length=2, partials=("part",))
    judged: list[bool] = []

    async def look(_: int, called: str) -> None:
        if called == "data.open_content":
            with pytest.raises(NotAccepted):
                await uploads.describe(final.id, takeover=False)
            judged.append(True)

    world.probe.before(look)
    with pytest.raises(NotAccepted):
        await uploads.open_content(final.id)
    await quiet()
    assert judged and (await uploads.describe(final.id, takeover=False)).finished
