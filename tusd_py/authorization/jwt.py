"""JSON Web Tokens that somebody else has made, such as an identity provider or a backend: `Authorization: Bearer JWT`.

PyJWT verifies the signature, issuer and audience; the times are ours, since tests turn the clock. Only to be imported where
JWTs are configured: PyJWT is an extra, and takes its time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from tusd_py.authorization.credentials import bearer, challenge
from tusd_py.authorization.grants import EVERYTHING, Grant, is_owner, read_grant
from tusd_py.authorization.jwks import VerificationKey
from tusd_py.authorization.watched import WatchedFile
from tusd_py.ports.authorization import Action, Decision, deny
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import MAX_LENGTH, Upload

__all__ = ["ACTIONS_CLAIM", "LEEWAY", "MAX_SIZE_CLAIM", "JsonWebTokens"]

LEEWAY = 30.0
"""Seconds by which our clock and that of who made the token may differ; both ends of its life are stretched by so much."""

MAX_SIZE_CLAIM = "tus:max_size"
"""Bytes of the largest upload that the holder may create."""

ACTIONS_CLAIM = "tus:actions"
"""A list of words, or a text with blanks between them: actions, and `any-owner`."""

_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)  # RFC 7515, 3.1; PyJWT would also take padding

_OPTIONS: Any = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
    "enforce_minimum_key_length": True,
}


class _BadClaim(ValueError):
    """A claim that can't be accepted; the message, plain ASCII, is for the client."""


class JsonWebTokens:
    """Recognises JWTs that one of the keys in `files` has signed.

    `issuer` and `audience` must be the token's `iss` and among its `aud`; a token with an audience is refused where none is
    expected (RFC 7519, 4.1.3). The owner of what the holder uploads is the claim `owner_claim`.
    """

    def __init__(
        self,
        files: Sequence[WatchedFile[tuple[VerificationKey, ...]]],
        *,
        issuer: str | None = None,
        audience: str | None = None,
        owner_claim: str = "sub",
        clock: Clock = system_clock,
    ) -> None:
        self._files, self._issuer, self._audience = files, issuer, audience
        self._owner_claim, self._clock = owner_claim, clock

    def __repr__(self) -> str:
        return f"<JsonWebTokens {[str(file.path) for file in self._files]}>"

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """The decision of the JWT that the request shows; None if it shows none, or none of ours."""
        token = bearer(request)
        if not token or not _COMPACT.fullmatch(token):
            return None
        keys = [key for file in self._files for key in await file.current()]
        try:
            claims = self._verified(token, keys)
            return None if claims is None else self._decide(claims, action)
        except _BadClaim as error:
            return deny(str(error), status=401, headers=challenge(str(error)))

    def _verified(self, token: str, keys: Sequence[VerificationKey]) -> Mapping[str, Any] | None:
        """The claims, if one of the keys has signed them. Raises `_BadClaim` where one has, and they are for somebody else."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str):
            return None
        for key in keys:
            if not key.fits(kid, algorithm):
                continue
            try:
                return jwt.decode(
                    token,
                    key.by_algorithm[algorithm],
                    algorithms=[algorithm],  # one that the key may be used with, whatever the token says
                    audience=self._audience,
                    issuer=self._issuer,
                    options=_OPTIONS,
                )
            except (jwt.InvalidAudienceError, jwt.InvalidIssuerError, jwt.MissingRequiredClaimError):
                raise _BadClaim("the token is from another issuer, or for another audience") from None
            except (jwt.PyJWTError, ValueError):
                continue
        return None

    def _decide(self, claims: Mapping[str, Any], action: Action) -> Decision:
        self._check_times(claims)
        owner = _owner(claims, self._owner_claim)
        return _grant(claims).decide(action, owner, max_size=_max_size(claims))

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        if "exp" not in claims:
            raise _BadClaim("the token has no time of expiry")
        if now >= _time(claims, "exp") + LEEWAY:
            raise _BadClaim("the token has expired")
        if "nbf" in claims and now < _time(claims, "nbf") - LEEWAY:
            raise _BadClaim("the token is not valid yet")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _BadClaim(f"the claim {name} is not a number")
    return value


def _owner(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # keys of database tables
    if not isinstance(value, str) or not is_owner(value):
        raise _BadClaim(f"the token does not say whose it is in {_ascii(name)}")
    return value


def _grant(claims: Mapping[str, Any]) -> Grant:
    words = claims.get(ACTIONS_CLAIM)
    if words is None:
        return EVERYTHING
    if isinstance(words, str):
        words = words.split()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _BadClaim(f"the claim {ACTIONS_CLAIM} is not a list of words")
    try:
        return read_grant(words)
    except ValueError:
        raise _BadClaim(f"the claim {ACTIONS_CLAIM} names an unknown action") from None


def _max_size(claims: Mapping[str, Any]) -> int | None:
    value = claims.get(MAX_SIZE_CLAIM)
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_LENGTH):
        raise _BadClaim(f"the claim {MAX_SIZE_CLAIM} is not a number of bytes")
    return value


def _ascii(text: str) -> str:
    """For a quoted string in a header."""
    return re.sub(r"[^A-Za-z0-9_:./-]", "?", text)
