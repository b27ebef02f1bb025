"""Signed upload intents: a backend says beforehand what somebody may upload, and signs it; the client shows it when it creates.

An intent allows one creation, or several if it is reusable, until it expires. It needs no talk between backend and server:

    secret = read_keys("intents.key")[0]
    url = signed_url("https://uploads.example/files/", secret, owner="alice", max_size=10**9, expires_in=600)

The format, to the byte, is in docs/reference/authorization.md. This module knows neither requests nor files but the secret one.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tusd_py.authorization.grants import MAX_OWNER, is_owner
from tusd_py.authorization.keys import MIN_KEY, Keys, read_keys
from tusd_py.authorization.signatures import decode, encode, is_signed, sign
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.upload import MAX_LENGTH

__all__ = [
    "CLOCK_SKEW",
    "MAX_INTENT",
    "MAX_LIFETIME",
    "PREFIX",
    "Intent",
    "InvalidIntent",
    "read_intent",
    "read_keys",
    "sign_intent",
    "signed_url",
    "url_with",
]

PREFIX = "ti1."
"""What every intent of this version begins with; signed as well, so that no other version can be made of it."""

CONTEXT = "tusd-py upload intent"

CLOCK_SKEW = 30.0
"""Seconds by which the clocks of who signs and who verifies may differ: an intent is valid for so long after its expiry."""

MAX_LIFETIME = 366 * 86400.0
"""Seconds from now to the latest expiry that is believed: of what was used, the server has to remember the nonce until then."""

MAX_INTENT = 7 * 1024
"""Characters of the longest intent: it has to fit into a request line, for which nginx has 8 KiB."""

_TOKEN = re.compile(r"(ti1\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]{43})")
_NONCE = re.compile(r"[A-Za-z0-9_-]{22,64}")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/(?:\*|[a-z0-9!#$&^_.+-]{1,127})")


class InvalidIntent(ValueError):
    """Not a valid intent; the message, plain ASCII, is for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What may be uploaded. Raises ValueError for values that make no sense.

    `expires` in whole seconds since the epoch; `nonce` is random and makes the intent one of a kind; `max_size` in bytes;
    `metadata` must be among the upload's pairs; `types` are what its `filetype` may be, `image/png` or `image/*`, any if empty.
    """

    expires: int
    nonce: str
    owner: str | None = None
    max_size: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    reusable: bool = False

    def __post_init__(self) -> None:
        if type(self.expires) is not int or not 0 < self.expires < 2**53:
            raise ValueError(f"the expiry is {self.expires!r}: expected whole seconds since the epoch")
        if not _is_text(self.nonce) or not _NONCE.fullmatch(self.nonce):
            raise ValueError("expected a nonce of 22 to 64 letters, digits, - and _")
        if self.owner is not None and not is_owner(self.owner):
            raise ValueError(f"expected an owner of 1 to {MAX_OWNER} printable characters")
        if self.max_size is not None and (type(self.max_size) is not int or not 0 <= self.max_size <= MAX_LENGTH):
            raise ValueError(f"the maximum size is {self.max_size!r}: expected a number of bytes")
        if not isinstance(self.metadata, dict) or not all(map(_is_text, (*self.metadata, *self.metadata.values()))):
            raise ValueError("expected texts as keys and values of the metadata")
        if any(not key or set(key) & {" ", ","} for key in self.metadata):
            raise ValueError("expected metadata keys without blanks and commas")
        if not all(_is_text(each) and _TYPE.fullmatch(each) for each in self.types):
            raise ValueError("expected types such as image/png or image/*, in lower case")
        if type(self.reusable) is not bool:
            raise ValueError("expected reusable to be true or false")

    def allows_type(self, filetype: str | None) -> bool:
        """Whether the upload may say that it is of this media type; case and parameters don't matter."""
        if not self.types:
            return True
        name = (filetype or "").partition(";")[0].strip().lower()
        kind, slash, rest = name.partition("/")
        return name in self.types or (bool(slash and rest) and f"{kind}/*" in self.types)


def _is_text(value: object) -> bool:
    """A text that can be written in UTF-8."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_FIELDS = {
    "exp": "expires",
    "nonce": "nonce",
    "owner": "owner",
    "max_size": "max_size",
    "metadata": "metadata",
    "types": "types",
    "reusable": "reusable",
}
"""Names in the format, and the fields that they are."""


def sign_intent(
    secret: str | bytes,
    *,
    expires_in: float = 3600.0,
    owner: str | None = None,
    max_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
    types: Iterable[str] = (),
    reusable: bool = False,
    clock: Clock = system_clock,
) -> str:
    """An intent as a text that fits into a URL, a header, and `Authorization: Bearer`.

    `secret` is a key of the server's secret file (`read_keys(path)[0]`); `expires_in` in seconds from now, `max_size` in bytes.
    Raises ValueError for values that make no sense.
    """
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < MIN_KEY:
        raise ValueError(f"the secret has {len(key)} bytes: expected {MIN_KEY} or more")
    if not 1 <= expires_in <= MAX_LIFETIME:
        raise ValueError(f"the intent would expire in {expires_in} s: expected 1 to {MAX_LIFETIME:.0f}")
    intent = Intent(
        expires=int(clock() + expires_in),
        nonce=secrets.token_urlsafe(16),
        owner=owner,
        max_size=max_size,
        metadata=dict(metadata or {}),
        types=tuple(each.lower() for each in types),
        reusable=reusable,
    )
    token = _write(intent, key)
    if len(token) > MAX_INTENT:
        raise ValueError(f"the intent has {len(token)} characters: expected {MAX_INTENT} at the most, so less metadata")
    return token


def signed_url(
    url: str,
    secret: str | bytes,
    *,
    expires_in: float = 3600.0,
    owner: str | None = None,
    max_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
    types: Iterable[str] = (),
    reusable: bool = False,
    clock: Clock = system_clock,
) -> str:
    """The creation URL with an intent in it: a client needs nothing else. Arguments as of `sign_intent`."""
    intent = sign_intent(
        secret,
        expires_in=expires_in,
        owner=owner,
        max_size=max_size,
        metadata=metadata,
        types=types,
        reusable=reusable,
        clock=clock,
    )
    return url_with(url, intent)


def url_with(url: str, intent: str) -> str:
    """The creation URL with an intent in it. Raises ValueError for a URL with a fragment, where a query would be lost."""
    if "#" in url:
        raise ValueError(f"{url!r} has a fragment: expected the creation URL of the server")
    return f"{url}{'&' if '?' in url else '?'}intent={intent}"


def _write(intent: Intent, key: bytes) -> str:
    values = {name: getattr(intent, attribute) for name, attribute in _FIELDS.items()}
    said = {name: value for name, value in values.items() if value not in (None, {}, ()) and value is not False}
    payload = json.dumps(said, separators=(",", ":"))
    signed = PREFIX + encode(payload.encode())
    return f"{signed}.{sign(key, CONTEXT, signed)}"


def read_intent(token: str, keys: Keys, now: float) -> Intent:
    """The intent, if one of `keys` has signed it and it has not expired. Raises `InvalidIntent`."""
    found = _TOKEN.fullmatch(token) if len(token) <= MAX_INTENT else None
    if found is None or not is_signed(keys, CONTEXT, found[1], found[3]):
        raise InvalidIntent("the upload intent is not signed by a key of this server")
    try:
        intent = _parse(decode(found[2]))
    except ValueError:
        raise InvalidIntent("the upload intent is signed, and can't be understood by this server") from None
    if now >= intent.expires + CLOCK_SKEW:
        raise InvalidIntent("the upload intent has expired")
    if intent.expires > now + MAX_LIFETIME + CLOCK_SKEW:
        raise InvalidIntent("the upload intent expires too far in the future")
    return intent


def _parse(payload: bytes) -> Intent:
    """Strict: who signed a bound that this server does not know would rely on it. Raises ValueError."""
    try:
        content = json.loads(payload.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or not content.keys() <= _FIELDS.keys() or not {"exp", "nonce"} <= content.keys():
        raise ValueError("expected an object with exp and nonce, and no fields but those that are documented")
    types = content.get("types", [])
    if not isinstance(types, list):
        raise ValueError("expected a list of types")
    values: dict[str, Any] = {_FIELDS[name]: tuple(value) if name == "types" else value for name, value in content.items()}
    return Intent(**values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands there twice")
    return content
