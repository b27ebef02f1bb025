"""Static tokens: the file's format, and who is recognised."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.authorization.support import allowed, denied, every_flip, request, upload, write
from tusd_py.authorization.credentials import MAX_CREDENTIAL
from tusd_py.authorization.tokens import StaticTokens, parse_tokens
from tusd_py.authorization.watched import UnusableFile
from tusd_py.ports.authorization import Action

ALICE, BOB, ROOT, READER = "alice-alice-alice-1", "Bob/bob+bob~bob.bob==", "root-root-root-root", "reader-reader-reader"
FILE = f"""
# who may upload
{ALICE} alice
sha256:{hashlib.sha256(BOB.encode()).hexdigest()}\tbob  create append describe

{ROOT} root any-owner
{READER} auditor any-owner describe download list
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


@pytest.fixture
def tokens(path: Path) -> StaticTokens:
    return StaticTokens(path, interval=0)


TABLE = [
    (ALICE, "alice", False, set(Action)),
    (BOB, "bob", False, {Action.CREATE, Action.APPEND, Action.DESCRIBE}),
    (ROOT, "root", True, set(Action)),
    (READER, "auditor", True, {Action.DESCRIBE, Action.DOWNLOAD, Action.LIST}),
]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(("token", "owner", "any_owner", "actions"), TABLE, ids=[row[1] for row in TABLE])
async def test_what_each_token_allows(
    tokens: StaticTokens, token: str, owner: str, any_owner: bool, actions: set[Action], action: Action
) -> None:
    decision = await tokens.recognize(request(bearer=token), action, upload())
    if action in actions:
        assert (allowed(decision).owner, allowed(decision).any_owner) == (owner, any_owner)
    else:
        assert action in denied(decision, 403).message


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_has_no_case(tokens: StaticTokens, scheme: str) -> None:
    allowed(await tokens.recognize(request(Authorization=f"{scheme} {ALICE}"), Action.CREATE, None))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        ALICE,
        f"Basic {ALICE}",
        f"Bearer {ALICE}x",
        f"Bearer {ALICE[:-1]}",
        f"Bearer {ALICE.upper()}",
        f"Bearer {ALICE} {ALICE}",
        f"Bearer {ALICE}, Bearer {ALICE}",
        f"Bearer sha256:{hashlib.sha256(ALICE.encode()).hexdigest()}",
        f"Bearer sha256:{hashlib.sha256(BOB.encode()).hexdigest()}",
        f"Bearer {hashlib.sha256(BOB.encode()).hexdigest()}",
        "Bearer " + "a" * (MAX_CREDENTIAL + 1),
        "Bearer \xff\xfe",
    ],
)
async def test_everything_else_is_not_recognised(tokens: StaticTokens, value: str) -> None:
    assert await tokens.recognize(request(Authorization=value), Action.CREATE, None) is None


async def test_no_bit_may_differ(tokens: StaticTokens) -> None:
    for flipped in every_flip(ALICE):
        assert await tokens.recognize(request(bearer=flipped), Action.CREATE, None) is None, flipped


async def test_no_header_is_no_token(tokens: StaticTokens) -> None:
    assert await tokens.recognize(request(f"/files/?token={ALICE}"), Action.CREATE, None) is None


async def test_a_token_that_is_taken_out_of_the_file_is_refused(tokens: StaticTokens, path: Path) -> None:
    allowed(await tokens.recognize(request(bearer=ALICE), Action.CREATE, None))
    write(path, f"{ROOT} root\n")
    assert await tokens.recognize(request(bearer=ALICE), Action.CREATE, None) is None
    allowed(await tokens.recognize(request(bearer=ROOT), Action.CREATE, None))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "no tokens"),
        (ALICE, "line 1: expected a token, its owner"),
        ("short alice", "line 1: expected a token of 16"),
        ("pass,word,pass,word,1 alice", "line 1: expected a token of 16"),
        ("sha256:1234 alice", "64 hex digits"),
        (f"{ALICE} alice fly", "unknown action 'fly': expected create, .* or any-owner"),
        (f"{ALICE} {'a' * 256}", "at most 255"),
        (f"{ALICE} alice\n{ALICE} bob", "line 2: this token stands in the file already"),
        (f"sha256:{hashlib.sha256(ALICE.encode()).hexdigest().upper()} alice\n{ALICE} bob", "line 2: this token stands"),
    ],
)
def test_lines_that_make_no_sense_are_refused(line: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_tokens(line.encode())
    assert ALICE not in str(caught.value)
    (tmp_path / "tokens").write_text(line)
    with pytest.raises(UnusableFile, match="tokens: "):
        StaticTokens(tmp_path / "tokens")


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        parse_tokens(b"\xff\xff")
