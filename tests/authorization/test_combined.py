"""Several ways to show a permission: who decides, and what somebody hears whom nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.authorization.support import TurnedClock, allowed, denied, request, secret_file, upload, watched_keys
from tusd_py.authorization.capabilities import UrlCapabilities
from tusd_py.authorization.combined import CombinedAuthorizer
from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload


class Fixed:
    """Says always the same, and counts how often it was asked."""

    def __init__(self, decision: Decision | None) -> None:
        self.decision, self.asked = decision, 0

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        self.asked += 1
        return self.decision


@pytest.mark.parametrize("decision", [allow("alice"), deny("no")], ids=["yes", "no"])
async def test_the_first_that_recognises_decides(decision: Decision) -> None:
    recognizers = [Fixed(None), Fixed(decision), Fixed(allow("bob"))]
    assert await CombinedAuthorizer(recognizers).authorize(request(), Action.CREATE, None) is decision
    assert [one.asked for one in recognizers] == [1, 1, 0]


SHOWN = [
    (request(), None),
    (request("/files/a?intent="), None),
    (request(bearer="unknown"), "invalid_token"),
    (request(Authorization="Basic eDp5"), "invalid_token"),
    (request("/files/a?capability=tc1.a.0.x"), "invalid_token"),
]


@pytest.mark.parametrize(("shown", "error"), SHOWN)
async def test_where_nobody_does_the_answer_is_401(shown: HttpRequest, error: str | None) -> None:
    decision = denied(await CombinedAuthorizer([Fixed(None)]).authorize(shown, Action.APPEND, upload()), 401)
    challenge = decision.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="tusd-py"')
    assert ("error=" in challenge) == (error is not None)  # RFC 6750, 3: no error code where no credentials were shown
    assert error is None or f'error="{error}"' in challenge


@pytest.fixture
def capabilities(tmp_path: Path) -> UrlCapabilities:
    return UrlCapabilities(watched_keys(secret_file(tmp_path / "secret")), clock=TurnedClock())


async def test_a_url_outlives_the_session(capabilities: UrlCapabilities) -> None:
    """The upload goes on although the token of its creation is refused by now (theme 7 of the users' complaints)."""
    expired = Fixed(deny("the token has expired", status=401))
    authorizer = CombinedAuthorizer([expired], capabilities)
    mine = upload("mine", owner="alice")
    url = f"/files/mine{authorizer.sign_url(mine)}"
    decision = allowed(await authorizer.authorize(request(url, bearer="expired"), Action.APPEND, mine))
    assert decision.any_owner
    denied(await authorizer.authorize(request("/files/mine", bearer="expired"), Action.APPEND, mine), 401)
    denied(await authorizer.authorize(request(url, bearer="expired"), Action.DOWNLOAD, mine), 401)


async def test_a_session_outlives_the_url(capabilities: UrlCapabilities) -> None:
    authorizer = CombinedAuthorizer([Fixed(allow("alice"))], capabilities)
    url = "/files/mine?capability=tc1.a.1." + "A" * 43
    decision = allowed(await authorizer.authorize(request(url), Action.APPEND, upload("mine", owner="alice")))
    assert not decision.any_owner


def test_without_capabilities_urls_are_plain() -> None:
    assert CombinedAuthorizer([]).sign_url(upload()) == ""
