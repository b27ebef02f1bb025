"""Go's command-line syntax, with Go's messages."""

from __future__ import annotations

import pytest

from tusd_py.cli.goflags import FlagError, HelpRequested, parse_flags, quoted

ALONE = {"port": None, "dir": None, "verbose": "true", "cas": "keep"}

ACCEPTED = [
    ([], []),
    (["-port", "80"], [("port", "80")]),
    (["-port=80"], [("port", "80")]),
    (["--port=80"], [("port", "80")]),
    (["--port", "80"], [("port", "80")]),
    (["-port="], [("port", "")]),
    (["-dir=a=b"], [("dir", "a=b")]),
    (["-dir", "-x"], [("dir", "-x")]),
    (["-verbose"], [("verbose", "true")]),
    (["-verbose=false", "-port", "1"], [("verbose", "false"), ("port", "1")]),
    (["-port=1", "-port=2"], [("port", "1"), ("port", "2")]),
    (["-port=1", "--"], [("port", "1")]),
    (["-cas"], [("cas", "keep")]),
    (["-cas", "-port", "1"], [("cas", "keep"), ("port", "1")]),
    (["--cas=replace"], [("cas", "replace")]),
    (["-cas="], [("cas", "")]),
]

REFUSED = [
    (["-foo"], "flag provided but not defined: -foo"),
    (["--foo=1"], "flag provided but not defined: -foo"),
    (["-port"], "flag needs an argument: -port"),
    (["---port"], "bad flag syntax: ---port"),
    (["-=1"], "bad flag syntax: -=1"),
    (["--=1"], "bad flag syntax: --=1"),
    (["-verbose", "false", "-port=1"], 'unexpected argument "false"'),
    (["-port=1", "extra"], 'unexpected argument "extra"'),
    (["-cas", "keep"], 'unexpected argument "keep": expected a flag (one that may stand alone takes its value as -name=value)'),
    (["--", "-port=1"], 'unexpected argument "-port=1"'),
    (["-"], 'unexpected argument "-"'),
]


@pytest.mark.parametrize(("arguments", "flags"), ACCEPTED)
def test_accepted(arguments: list[str], flags: list[tuple[str, str]]) -> None:
    assert list(parse_flags(arguments, ALONE)) == flags


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        list(parse_flags(arguments, ALONE))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("argument", ["-h", "-help", "--help", "--h"])
def test_help(argument: str) -> None:
    with pytest.raises(HelpRequested):
        list(parse_flags(["-verbose", argument], ALONE))


def test_an_error_before_help_comes_first() -> None:
    with pytest.raises(FlagError):
        list(parse_flags(["-foo", "-help"], ALONE))


@pytest.mark.parametrize(
    ("text", "shown"), [("a b", '"a b"'), ('"', '"\\""'), ("\\", '"\\\\"'), ("a\nb\x1b", '"a\\nb\\x1b"'), ("é", '"é"')]
)
def test_quoted(text: str, shown: str) -> None:
    assert quoted(text) == shown
