"""Upload intents in requests: where they may stand, what they allow, and that they do so once."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tests.authorization.support import TurnedClock, allowed, denied, request, secret_file, upload, watched_keys, write
from tusd_py.authorization.intents import CLOCK_SKEW, read_keys, sign_intent
from tusd_py.authorization.keys import new_key
from tusd_py.authorization.redeeming import UploadIntents
from tusd_py.authorization.used import UsedIntents
from tusd_py.ports.authorization import Action
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.refusals import Forbidden


class World:
    """A recogniser, its secret file, and a clock."""

    def __init__(self, directory: Path) -> None:
        self.clock = TurnedClock()
        self.path = secret_file(directory / "secret")
        self.intents = UploadIntents(watched_keys(self.path), UsedIntents(directory, clock=self.clock), clock=self.clock)

    def sign(self, **bounds: Any) -> str:
        return sign_intent(read_keys(self.path)[0], **{"clock": self.clock, "expires_in": 60, **bounds})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def places(token: str) -> list[HttpRequest]:
    return [
        request(f"/files/?intent={token}"),
        request(f"/files/?a=b&intent={token}&c=d"),
        request(f"http://h/files/?intent={token}"),
        request(Upload_Intent=token),
        request(bearer=token),
        request(f"/files/?intent={token}", bearer="session-of-a-cookie"),
    ]


@pytest.mark.parametrize("place", range(6))
async def test_it_may_stand_in_the_url_and_in_two_headers(world: World, place: int) -> None:
    shown = places(world.sign(owner="alice", max_size=5, metadata={"folder": "ä"}))[place]
    decision = allowed(await world.intents.recognize(shown, Action.CREATE, None))
    assert (decision.owner, decision.max_size, decision.any_owner) == ("alice", 5, False)
    assert decision.metadata == {"folder": "ä".encode()}


async def test_it_allows_one_creation(world: World) -> None:
    decision = allowed(await world.intents.recognize(request(bearer=world.sign()), Action.CREATE, None))
    assert decision.claim is not None
    give_back = await decision.claim()
    with pytest.raises(Forbidden):
        await decision.claim()
    await give_back()
    await decision.claim()


async def test_of_many_who_show_it_one_creates(world: World) -> None:
    shown = request(bearer=world.sign())

    async def create() -> bool:
        decision = allowed(await world.intents.recognize(shown, Action.CREATE, None))
        assert decision.claim is not None
        try:
            await decision.claim()
        except Forbidden:
            return False
        return True

    assert sum(await asyncio.gather(*(create() for _ in range(20)))) == 1


async def test_a_reusable_one_has_nothing_to_use_up(world: World) -> None:
    decision = allowed(await world.intents.recognize(request(bearer=world.sign(reusable=True)), Action.CREATE, None))
    assert decision.claim is None


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.CREATE])
async def test_it_allows_nothing_but_a_creation(world: World, action: Action) -> None:
    for shown in places(world.sign(reusable=True)):
        assert await world.intents.recognize(shown, action, upload()) is None


async def test_a_bearer_token_of_somebody_else_is_left_to_others(world: World) -> None:
    for other in ("static-token", "eyJ.eyJ.sig", "", "TI1.a.b"):
        assert await world.intents.recognize(request(bearer=other), Action.CREATE, None) is None
    assert await world.intents.recognize(request(), Action.CREATE, None) is None


async def test_what_is_not_valid_is_401_wherever_it_stands(world: World) -> None:
    for shown in places(world.sign()[:-1] + "!")[:5]:
        decision = denied(await world.intents.recognize(shown, Action.CREATE, None), 401)
        assert 'error="invalid_token"' in decision.headers["WWW-Authenticate"]


async def test_two_in_one_url_are_none(world: World) -> None:
    token = world.sign()
    denied(await world.intents.recognize(request(f"/files/?intent={token}&intent={token}"), Action.CREATE, None), 401)


async def test_expiry(world: World) -> None:
    shown = request(bearer=world.sign())
    world.clock.now += 60 + CLOCK_SKEW - 1
    allowed(await world.intents.recognize(shown, Action.CREATE, None))
    world.clock.now += 1
    assert "expired" in denied(await world.intents.recognize(shown, Action.CREATE, None), 401).message


async def test_a_key_is_replaced_step_by_step(world: World) -> None:
    old_key, new = read_keys(world.path)[0].decode(), new_key()
    old = world.sign(reusable=True)
    write(world.path, f"{new}\n{old_key}\n")
    young = world.sign(reusable=True)
    for token in (old, young):
        allowed(await world.intents.recognize(request(bearer=token), Action.CREATE, None))
    write(world.path, f"{new}\n")
    denied(await world.intents.recognize(request(bearer=old), Action.CREATE, None), 401)
    allowed(await world.intents.recognize(request(bearer=young), Action.CREATE, None))


@pytest.mark.parametrize(("filetype", "valid"), [("image/png", True), ("text/html", False), (None, False)])
async def test_types_are_those_that_the_upload_declares(world: World, filetype: str | None, valid: bool) -> None:
    value = "filename YQ==" if filetype is None else f"filetype {base64.b64encode(filetype.encode()).decode()},filename YQ=="
    shown = request(bearer=world.sign(types=("image/*",)), Upload_Metadata=value)
    decision = await world.intents.recognize(shown, Action.CREATE, None)
    if valid:
        allowed(decision)
    else:
        assert "image/* expected as filetype" in denied(decision, 403).message


async def test_types_without_any_metadata_are_refused(world: World) -> None:
    denied(await world.intents.recognize(request(bearer=world.sign(types=("image/*",))), Action.CREATE, None), 403)
