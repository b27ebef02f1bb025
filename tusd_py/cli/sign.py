"""`tusd-py sign`: makes upload intents by hand and in shell scripts, and the secret files that they are signed with.

Exit statuses: 0 when it is printed or made, 1 when a file stands in the way, 2 when the command line makes no sense.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from time import time
from typing import TypeVar

from tusd_py.authorization.intents import read_intent, sign_intent, url_with
from tusd_py.authorization.keys import read_keys, write_new_key_file
from tusd_py.authorization.watched import UnusableFile
from tusd_py.cli.values import parse_duration, parse_int

__all__ = ["main"]

OK, FAILED, MISUSE = 0, 1, 2

T = TypeVar("T")

_EPILOG = """\
examples:
  tusd-py sign --new-secret intents.key
  tusd-py sign --secret intents.key --url https://uploads.example/files/ --owner alice --max-size 1000000 --expires-in 10m
"""


def main(arguments: list[str]) -> int:
    """Run the subcommand; returns the exit status."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as done:  # argparse has printed why
        return done.code if isinstance(done.code, int) else MISUSE
    return _make_secret(given.new_secret) if given.new_secret else _sign(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tusd-py sign",
        description="Sign an upload intent: a permission to create one upload, within bounds, for some time.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--secret", metavar="FILE", help="the server's -auth-intents file; its first key signs")
    which.add_argument("--new-secret", metavar="FILE", help="make a secret file with a new random key, and sign nothing")
    parser.add_argument("--url", help="print this creation URL with the intent in it, instead of the intent alone")
    parser.add_argument("--owner", help="whose the upload is going to be")
    parser.add_argument("--max-size", type=_size, metavar="BYTES", help="largest size of the upload")
    parser.add_argument(
        "--metadata", type=_pair, action="append", default=[], metavar="KEY=VALUE", help="a pair that the upload must have"
    )
    parser.add_argument(
        "--type", action="append", default=[], metavar="TYPE", help="a filetype that the upload may have, such as image/*"
    )
    parser.add_argument(
        "--expires-in", type=_duration, default=3600.0, metavar="DURATION", help="such as 30s, 10m or 24h (default 1h)"
    )
    parser.add_argument("--reusable", action="store_true", help="allow any number of uploads until it expires, not one")
    parser.add_argument("--json", action="store_true", help="print an object with intent, url and expires (seconds since 1970)")
    return parser


def _make_secret(path: str) -> int:
    try:
        write_new_key_file(path)
    except FileExistsError:
        return _fail(FAILED, f"{path} exists already, and what it signed would be worthless without it: expected a new name")
    except OSError as error:
        return _fail(FAILED, f"cannot make {path}: {error.strerror}")
    return OK


def _sign(given: argparse.Namespace) -> int:
    try:
        secret = read_keys(given.secret)[0]
        intent = sign_intent(
            secret,
            expires_in=given.expires_in,
            owner=given.owner,
            max_size=given.max_size,
            metadata=dict(given.metadata),
            types=given.type,
            reusable=given.reusable,
        )
        url = None if given.url is None else url_with(given.url, intent)
        expires = read_intent(intent, (secret,), time()).expires
    except UnusableFile as error:
        return _fail(FAILED, str(error))
    except ValueError as error:
        return _fail(MISUSE, str(error))
    if given.json:
        print(json.dumps({"intent": intent, "url": url, "expires": expires}))
    else:
        print(url or intent)
    return OK


def _fail(status: int, sentence: str) -> int:
    print(f"tusd-py sign: {sentence}", file=sys.stderr)
    return status


def _size(text: str) -> int:
    return _number(parse_int, text)


def _duration(text: str) -> float:
    return _number(parse_duration, text)


def _number(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    return key, value
