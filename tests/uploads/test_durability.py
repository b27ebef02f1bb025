"""Which syncs happen when, by durability level; and never a success before them."""

from __future__ import annotations

import pytest

from tests.uploads.support import World, create, send
from tusd_py.ports.failures import StorageFailure
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads import Durability

BOTH, NEITHER = ["writer.sync", "info.sync"], []  # type: ignore[var-annotated]

# the level, and the syncs of: an empty creation, a patch in the middle, the last patch
LEVELS = [
    (Durability.NONE, NEITHER, NEITHER, NEITHER),
    (Durability.FINAL, NEITHER, NEITHER, BOTH),
    (Durability.EVERY_PATCH, BOTH, BOTH, BOTH),
]


def synced(world: World) -> list[str]:
    found = [name for name in world.probe.calls if name.endswith(".sync")]
    world.probe.calls.clear()
    return found


@pytest.mark.parametrize(("level", "creation", "middle", "last"), LEVELS)
async def test_levels(world: World, level: Durability, creation: list[str], middle: list[str], last: list[str]) -> None:
    uploads = world.open(durability=level)
    upload = await uploads.create(create(4), ScriptedBody())
    assert synced(world) == creation
    await send(uploads, upload.id, 0, b"01")
    assert synced(world) == middle
    await send(uploads, upload.id, 2, b"23")
    assert synced(world) == last
    await send(uploads, upload.id, 4)
    assert synced(world) == NEITHER, "nothing new"


@pytest.mark.parametrize(("level", "creation", "middle", "last"), LEVELS)
async def test_creation_with_upload(
    world: World, level: Durability, creation: list[str], middle: list[str], last: list[str]
) -> None:
    uploads = world.open(durability=level)
    await uploads.create(create(4, body=2), ScriptedBody(b"01"))
    assert synced(world) == middle
    await uploads.create(create(2, body=2), ScriptedBody(b"01"))
    assert synced(world) == last


@pytest.mark.parametrize(("level", "creation", "middle", "last"), LEVELS)
async def test_an_upload_of_nothing(
    world: World, level: Durability, creation: list[str], middle: list[str], last: list[str]
) -> None:
    upload = await world.open(durability=level).create(create(0), ScriptedBody())
    assert upload.finished and synced(world) == last


@pytest.mark.parametrize(("level", "creation", "middle", "last"), LEVELS)
async def test_an_undeclared_length_is_not_the_last_patch(
    world: World, level: Durability, creation: list[str], middle: list[str], last: list[str]
) -> None:
    uploads = world.open(durability=level)
    upload = await uploads.create(create(None), ScriptedBody())
    assert synced(world) == creation
    await send(uploads, upload.id, 0, b"0123")
    assert synced(world) == middle


@pytest.mark.parametrize(("level", "creation", "middle", "last"), LEVELS)
async def test_an_upload_of_nothing_by_an_empty_chunked_body(
    world: World, level: Durability, creation: list[str], middle: list[str], last: list[str]
) -> None:
    upload = await world.open(durability=level).create(create(0, body=None), ScriptedBody(length=None))
    assert upload.finished and synced(world) == last


@pytest.mark.parametrize(("level", "creation", "middle", "last"), LEVELS)
async def test_a_final_whose_partials_are_complete_is_durable_before_it_waits(
    world: World, level: Durability, creation: list[str], middle: list[str], last: list[str]
) -> None:
    uploads = world.open(durability=level)
    partial = await uploads.create(create(2, body=2, is_partial=True), ScriptedBody(b"01"))
    world.probe.calls.clear()
    await uploads.create(create(None, partials=(partial.id,)), ScriptedBody())
    before_it_waits = world.probe.calls[: world.probe.calls.index("info.expect")]
    assert [name for name in before_it_waits if name.endswith(".sync")] == last


@pytest.mark.parametrize("level", Durability)
async def test_what_every_patch_has_synced_is_recorded(world: World, level: Durability) -> None:
    """Between the two syncs: the bytes are durable by then, and the new record has to be."""
    uploads = world.open(durability=level)
    upload = await uploads.create(create(4), ScriptedBody())
    world.probe.calls.clear()
    for offset in (0, 2):
        await send(uploads, upload.id, offset, b"xx")
        calls = [name for name in world.probe.calls if name in ("writer.sync", "info.replace", "info.sync")]
        world.probe.calls.clear()
        if level is Durability.EVERY_PATCH:
            assert calls == ["writer.sync", "info.replace", "info.sync"]
        else:
            assert "info.replace" not in calls
    await send(uploads, upload.id, 4)
    assert "info.replace" not in world.probe.calls


async def test_a_record_that_cannot_be_replaced_takes_the_bytes_back(world: World) -> None:
    uploads = world.open(durability=Durability.EVERY_PATCH)
    upload = await uploads.create(create(4), ScriptedBody())
    world.probe.fail("info.replace", StorageFailure("a dead disk"))
    with pytest.raises(StorageFailure):
        await send(uploads, upload.id, 0, b"xx")
    assert (await world.record(upload.id)).offset == 0
