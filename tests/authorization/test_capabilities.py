"""URLs as permissions: for one upload, for some actions, for some time, and to the byte."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from tests.authorization.support import NOW, TurnedClock, allowed, every_flip, request, secret_file, upload, watched_keys, write
from tusd_py.authorization.capabilities import DEFAULT_ACTIONS, UrlCapabilities
from tusd_py.authorization.keys import new_key, read_keys
from tusd_py.authorization.signatures import sign
from tusd_py.ports.authorization import Action
from tusd_py.protocol.upload import Upload

UPLOAD = upload("dir/abc", owner="alice")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return secret_file(tmp_path / "secret")


@pytest.fixture
def capabilities(path: Path) -> UrlCapabilities:
    return UrlCapabilities(watched_keys(path), clock=TurnedClock())


async def valid(
    capabilities: UrlCapabilities, query: str, action: Action = Action.APPEND, target: Upload | None = UPLOAD
) -> bool:
    decision = await capabilities.recognize(request(f"/files/dir/abc{query}", method="PATCH"), action, target)
    if decision is None:
        return False
    assert (allowed(decision).owner, allowed(decision).any_owner) == (None, True)
    return True


@pytest.mark.parametrize("action", Action)
async def test_it_allows_to_go_on_and_not_to_download(capabilities: UrlCapabilities, action: Action) -> None:
    assert await valid(capabilities, capabilities.sign_url(UPLOAD), action) == (action in DEFAULT_ACTIONS)


@pytest.mark.parametrize("action", Action)
async def test_the_actions_can_be_chosen(path: Path, action: Action) -> None:
    chosen = UrlCapabilities(watched_keys(path), actions=(Action.DOWNLOAD, Action.DESCRIBE), clock=TurnedClock())
    assert await valid(chosen, chosen.sign_url(UPLOAD), action) == (action in (Action.DOWNLOAD, Action.DESCRIBE))


async def test_it_is_for_that_upload_alone(capabilities: UrlCapabilities) -> None:
    query = capabilities.sign_url(UPLOAD)
    for other in ("abc", "dir/abd", "dir/abc2", "dir", "dir/abc/", "\ndir/abc"):
        assert not await valid(capabilities, query, target=upload(other, owner="alice"))
    assert not await valid(capabilities, query, target=None)


async def test_it_needs_no_owner(capabilities: UrlCapabilities) -> None:
    nobodys = upload("nobodys")
    assert await valid(capabilities, capabilities.sign_url(nobodys), target=nobodys)


async def test_other_parameters_do_not_matter(capabilities: UrlCapabilities) -> None:
    capability = capabilities.sign_url(UPLOAD)[1:]
    for query in (f"?a=b&{capability}", f"?{capability}&a=b", f"?&&{capability}&"):
        assert await valid(capabilities, query)


async def test_no_bit_may_differ(capabilities: UrlCapabilities) -> None:
    begin, _, token = capabilities.sign_url(UPLOAD).partition("=")
    for flipped in every_flip(token):
        assert not await valid(capabilities, f"{begin}={flipped}"), flipped


async def test_no_byte_may_be_missing_or_added(capabilities: UrlCapabilities) -> None:
    query = capabilities.sign_url(UPLOAD)
    for end in range(len(query)):
        assert not await valid(capabilities, query[:end])
    for more in ("A", "=", ".", "%00", f"&{query[1:]}"):
        assert not await valid(capabilities, query + more)


async def test_fields_can_not_be_swapped(path: Path) -> None:
    keys, clock = watched_keys(path), TurnedClock()
    narrow = UrlCapabilities(keys, actions=[Action.DESCRIBE], lifetime=60, clock=clock)
    wide = UrlCapabilities(keys, actions=list(DEFAULT_ACTIONS), clock=clock)
    one, two = narrow.sign_url(UPLOAD).split("."), wide.sign_url(UPLOAD).split(".")
    for parts in (
        [one[0], two[1], one[2], one[3]],
        [one[0], one[1], two[2], one[3]],
        [one[0], two[1], two[2], one[3]],
        [one[0], one[1], one[2], two[3]],
        [one[0], "da", one[2], one[3]],
        [one[0], one[1], "00", one[3]],
        [one[0], one[1], f"0{one[2]}", one[3]],
    ):
        assert not await valid(wide, ".".join(parts), Action.DESCRIBE)


async def test_another_secret_does_not_sign(capabilities: UrlCapabilities, tmp_path: Path) -> None:
    other = UrlCapabilities(watched_keys(secret_file(tmp_path / "other")), clock=TurnedClock())
    assert not await valid(capabilities, other.sign_url(UPLOAD))


async def test_what_was_signed_as_something_else_is_none(capabilities: UrlCapabilities, path: Path) -> None:
    begin, _, _ = capabilities.sign_url(UPLOAD).rpartition(".")
    text = f"{begin.partition('=')[2]}\n{UPLOAD.id}"
    assert not await valid(capabilities, f"{begin}.{sign(read_keys(path)[0], 'tusd-py upload intent', text)}")
    assert await valid(capabilities, f"{begin}.{sign(read_keys(path)[0], 'tusd-py url capability', text)}")


async def test_other_languages_can_sign(capabilities: UrlCapabilities, path: Path) -> None:
    """As docs/reference/authorization.md says, with nothing of ours."""

    def by_hand(signed: str) -> str:
        mac = hmac.new(read_keys(path)[0], f"tusd-py url capability\n{signed}\ndir/abc".encode(), hashlib.sha256).digest()
        return f"?capability={signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    query = by_hand(f"tc1.g.{int(NOW) + 60}")
    assert await valid(capabilities, query, Action.DOWNLOAD)
    assert not await valid(capabilities, query, Action.APPEND)
    for signed in (f"tc1.g.0{int(NOW) + 60}", "tc1.g.00", "tc1..0", "tc1.x.0", "tc2.g.0", "tc1.g.-1", "tc1.g.", "g.0"):
        assert not await valid(capabilities, by_hand(signed), Action.DOWNLOAD)


@pytest.mark.parametrize(("later", "good"), [(0, True), (59, True), (60, False), (1e9, False)])
async def test_expiry_to_the_second(path: Path, later: float, good: bool) -> None:
    clock = TurnedClock()
    short = UrlCapabilities(watched_keys(path), lifetime=60, clock=clock)
    query = short.sign_url(UPLOAD)
    clock.now += later
    assert await valid(short, query) == good


async def test_without_a_lifetime_it_lasts_as_long_as_the_upload(path: Path) -> None:
    clock = TurnedClock()
    lasting = UrlCapabilities(watched_keys(path), clock=clock)
    query = lasting.sign_url(UPLOAD)
    clock.now += 100 * 366 * 86400
    assert await valid(lasting, query)


async def test_a_key_is_replaced_step_by_step(capabilities: UrlCapabilities, path: Path) -> None:
    old_key, new = read_keys(path)[0].decode(), new_key()
    old = capabilities.sign_url(UPLOAD)
    write(path, f"{new}\n{old_key}\n")
    assert await valid(capabilities, old)
    young = capabilities.sign_url(UPLOAD)
    write(path, f"{new}\n")
    assert not await valid(capabilities, old)
    assert await valid(capabilities, young)


async def test_a_creation_makes_sure_that_its_url_is_signed_by_the_key_in_force(
    capabilities: UrlCapabilities, path: Path
) -> None:
    write(path, f"{new_key()}\n")
    assert await capabilities.recognize(request(), Action.CREATE, None) is None
    assert await valid(capabilities, capabilities.sign_url(UPLOAD))


@pytest.mark.parametrize("actions", [[], [Action.CREATE], [Action.APPEND, Action.LIST]])
def test_what_no_url_can_allow_is_refused(path: Path, actions: list[Action]) -> None:
    with pytest.raises(ValueError, match="expected some"):
        UrlCapabilities(watched_keys(path), actions=actions)
