"""How the application asks: refusals, ownership, authorizers that fail or hang."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from tests.authorization.support import request, upload
from tusd_py.asgi import permission
from tusd_py.asgi.permission import check_metadata, may_touch, permit
from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import (
    AuthorizationFailed,
    Forbidden,
    LockTimedOut,
    QuotaExceeded,
    Refusal,
    Unauthorized,
    UploadMissing,
)
from tusd_py.protocol.upload import Upload


class Answering:
    """An authorizer that does what it is told."""

    def __init__(self, answer: Callable[[], Awaitable[Decision]]) -> None:
        self._answer = answer

    async def authorize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
        return await self._answer()

    def sign_url(self, upload: Upload) -> str:
        return ""


def saying(decision: Decision) -> Answering:
    async def answer() -> Decision:
        return decision

    return Answering(answer)


OWNERSHIP = [
    # who asks, whether for everybody's, whose upload it is, whether it may be touched
    ("alice", False, "alice", True),
    ("alice", False, "bob", False),
    ("alice", False, "Alice", False),
    ("alice", False, "alice ", False),
    ("alice", False, "", False),
    ("alice", False, None, True),
    ("alice", True, "bob", True),
    ("alice", True, None, True),
    (None, False, "bob", False),
    (None, False, "", False),
    (None, False, None, True),
    (None, True, "bob", True),
]


@pytest.mark.parametrize(("who", "any_owner", "owner", "good"), OWNERSHIP)
@pytest.mark.parametrize("action", [Action.APPEND, Action.DESCRIBE, Action.DOWNLOAD, Action.TERMINATE])
async def test_ownership(who: str | None, any_owner: bool, owner: str | None, good: bool, action: Action) -> None:
    decision, target = allow(who, any_owner=any_owner), upload(owner=owner)
    assert may_touch(decision, target) == good
    if good:
        assert await permit(saying(decision), request(), action, target) is decision
    else:
        with pytest.raises(Forbidden, match="belongs to somebody else"):
            await permit(saying(decision), request(), action, target)


@pytest.mark.parametrize("action", [Action.CREATE, Action.LIST])
async def test_what_is_not_there_yet_belongs_to_nobody(action: Action) -> None:
    assert (await permit(saying(allow("alice")), request(), action, None)).owner == "alice"


KINDS = [(401, Unauthorized), (403, Forbidden), (404, UploadMissing), (200, Forbidden), (500, Forbidden)]


@pytest.mark.parametrize(("status", "kind"), KINDS)
async def test_a_denial_is_a_refusal_with_its_message_and_headers(status: int, kind: type[Refusal]) -> None:
    decision = deny("not on a Sunday", status=status, headers={"WWW-Authenticate": "Bearer"})
    with pytest.raises(kind, match="not on a Sunday") as caught:
        await permit(saying(decision), request(), Action.APPEND, upload())
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}


async def test_an_authorizer_may_refuse_in_its_own_words() -> None:
    async def refuse() -> Decision:
        raise QuotaExceeded

    with pytest.raises(QuotaExceeded):
        await permit(Answering(refuse), request(), Action.CREATE, None)


@pytest.mark.parametrize(
    ("action", "kind", "status"), [(Action.CREATE, AuthorizationFailed, 500), (Action.DESCRIBE, LockTimedOut, 423)]
)
async def test_what_it_raises_is_for_the_log_alone(
    action: Action, kind: type[Refusal], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> Decision:
        raise LookupError("password of the database")

    with caplog.at_level(logging.ERROR, "tusd_py.asgi"), pytest.raises(kind) as caught:
        await permit(Answering(fail), request(), action, None)
    assert caught.value.status == status
    assert "password" not in caught.value.body
    assert caught.value.__cause__ is None
    assert "password of the database" in caplog.text


async def test_an_authorizer_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def hang() -> Decision:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr(permission, "AUTHORIZATION_TIMEOUT", 0.01)
    with pytest.raises(AuthorizationFailed):
        await permit(Answering(hang), request(), Action.CREATE, None)
    assert ended.is_set()


async def test_a_cancelled_request_is_not_a_failure() -> None:
    async def hang() -> Decision:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(permit(Answering(hang), request(), Action.CREATE, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


METADATA = [
    ({}, {}, None),
    ({}, {"a": b"b"}, None),
    ({"a": b"b"}, {"a": b"b", "c": b"d"}, None),
    ({"a": b""}, {"a": b""}, None),
    ({"a": b"b"}, {}, "'a'"),
    ({"a": b"b"}, {"a": b"B"}, "'a'"),
    ({"a": b"b"}, {"a": b"b "}, "'a'"),
    ({"a": b"b"}, {"A": b"b"}, "'a'"),
    ({"a": b""}, {}, "'a'"),
    ({"a": b"b", "c": b"d"}, {"a": b"b", "c": b"e"}, "'c'"),
]


@pytest.mark.parametrize(("wanted", "given", "named"), METADATA)
def test_metadata_must_be_there_byte_for_byte(wanted: dict[str, bytes], given: dict[str, bytes], named: str | None) -> None:
    decision = allow(metadata=wanted)
    if named is None:
        check_metadata(decision, Metadata(given))
    else:
        with pytest.raises(Forbidden, match=f"metadata {named}"):
            check_metadata(decision, Metadata(given))
