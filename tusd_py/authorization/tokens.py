"""Static bearer tokens from a file: `TOKEN OWNER [ACTION...]` on each line, for scripts and small teams.

A token may stand there as `sha256:` and the 64 hex digits of its SHA-256 (tokens are random, so one round is enough), so that
who reads the file can't use it. Tokens are looked up by a MAC under a key that this process has made up: how long that takes
says nothing about how much of a guess was right.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tusd_py.authorization.credentials import bearer
from tusd_py.authorization.grants import EVERYTHING, MAX_OWNER, Grant, is_owner, read_grant
from tusd_py.authorization.watched import CHECK_INTERVAL, WatchedFile
from tusd_py.ports.authorization import Action, Decision
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["MIN_TOKEN", "Holder", "StaticTokens", "parse_tokens"]

MIN_TOKEN = 16
"""Characters of the shortest token: a shorter one can be guessed over the network."""

HASHED = "sha256:"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1: b64token
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose token it is, and what it allows."""

    owner: str
    grant: Grant


def parse_tokens(data: bytes) -> Mapping[bytes, Holder]:
    """Who holds the token of each SHA-256. Raises ValueError with a sentence that names the line, and never the token."""
    holders: dict[bytes, Holder] = {}
    for number, line in _lines(data):
        try:
            digest, holder = _parse_line(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if digest in holders:
            raise ValueError(f"line {number}: this token stands in the file already")
        holders[digest] = holder
    if not holders:
        raise ValueError("no tokens: expected lines such as 'TOKEN OWNER'")
    return holders


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("expected text in UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _parse_line(line: str) -> tuple[bytes, Holder]:
    token, *rest = line.split()
    if not rest:
        raise ValueError("expected a token, its owner, and possibly actions, with blanks between them")
    owner, *words = rest
    if not is_owner(owner):
        raise ValueError(f"expected an owner of at most {MAX_OWNER} printable characters")
    return _digest(token), Holder(owner, read_grant(words) if words else EVERYTHING)


def _digest(token: str) -> bytes:
    if token.startswith(HASHED):
        if not _DIGEST.fullmatch(digits := token.removeprefix(HASHED)):
            raise ValueError(f"expected 64 hex digits after {HASHED}")
        return bytes.fromhex(digits)
    if len(token) < MIN_TOKEN or not _TOKEN.fullmatch(token):
        raise ValueError(f"expected a token of {MIN_TOKEN} or more letters, digits and -._~+/")
    return hashlib.sha256(token.encode()).digest()


class StaticTokens:
    """Recognises the tokens of a file. Made at start, where it may block; raises `UnusableFile`."""

    def __init__(self, path: Path, *, interval: float = CHECK_INTERVAL) -> None:
        self._blinding = os.urandom(32)
        self._holders = WatchedFile(path, self._parse, interval=interval)

    def __repr__(self) -> str:
        return f"<StaticTokens {str(self._holders.path)!r}>"

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """The decision of the token that the request shows; None if it is not one of ours."""
        token = bearer(request)
        if not token:
            return None
        holders = await self._holders.current()
        holder = holders.get(self._blind(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()))
        return None if holder is None else holder.grant.decide(action, holder.owner)

    def _parse(self, data: bytes) -> Mapping[bytes, Holder]:
        return {self._blind(digest): holder for digest, holder in parse_tokens(data).items()}

    def _blind(self, digest: bytes) -> bytes:
        return hmac.digest(self._blinding, digest, "sha256")
