"""Keys that JWTs are verified with: from a JWKS (RFC 7517), or from a secret file. A key says which algorithms it may be used
with, and the token has no say in it (RFC 8725, 3.1): a public RSA key is never an HMAC secret, and `none` is no algorithm.

Imports PyJWT: only to be imported where JWTs are configured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from tusd_py.authorization.keys import parse_keys
from tusd_py.authorization.signatures import encode

__all__ = ["MAX_JWKS", "VerificationKey", "parse_jwks", "parse_secrets"]

MAX_JWKS = 100
"""Keys in one set: a token that names no key is tried with each that fits."""

_RSA = ("RS256", "RS384", "RS512")
_RSA_PSS = ("PS256", "PS384", "PS512")
_HMAC = ("HS256", "HS384", "HS512")  # for each the secret must be as long as the digest (RFC 7518, 3.2)

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K", "Ed25519": "EdDSA", "Ed448": "EdDSA"}

# What is needed to verify; a private key that was put into the file by mistake is not even loaded.
_PUBLIC = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x"), "oct": ("kty", "k")}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key as PyJWT wants it, for each of the algorithms that it may be used with. `kid` is None where it has no name."""

    kid: str | None
    by_algorithm: Mapping[str, jwt.PyJWK]

    def fits(self, kid: str | None, algorithm: str) -> bool:
        """Whether a token with this header may be verified with it. A token or a key without a name fits all."""
        return algorithm in self.by_algorithm and (self.kid is None or kid is None or self.kid == kid)


def parse_jwks(data: bytes) -> tuple[VerificationKey, ...]:
    """The keys for signatures of a JWKS. Those of kinds that we don't know, or for encryption, are left out, as a set may serve
    many. Raises ValueError."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON Web Key Set, and this is no JSON") from None
    members = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(members, list):
        raise ValueError('expected a JSON Web Key Set: an object with a list "keys"')
    if len(members) > MAX_JWKS:
        raise ValueError(f"{len(members)} keys: expected {MAX_JWKS} at the most")
    keys = tuple(_read_all(members))
    if not keys:
        raise ValueError("no key for signatures that this server knows: expected one of type RSA, EC, OKP or oct")
    return keys


def _read_all(members: list[Any]) -> Iterator[VerificationKey]:
    for number, member in enumerate(members, 1):
        if not isinstance(member, dict) or not _verifies(member):
            continue
        try:
            if algorithms := _algorithms(member):
                yield _load(member, algorithms)
        except (ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
            raise ValueError(f"key {number}: {error}") from None


def _verifies(member: Mapping[str, Any]) -> bool:
    operations = member.get("key_ops", ["verify"])
    return member.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _algorithms(member: Mapping[str, Any]) -> tuple[str, ...]:
    """Those that the key may be used with; none where it is not for us."""
    possible = _possible(member)
    wanted = member.get("alg")
    if wanted is None:
        return possible[:3]
    return (wanted,) if wanted in possible else ()


def _possible(member: Mapping[str, Any]) -> tuple[str, ...]:
    kind = member.get("kty")
    if kind == "RSA":
        return (*_RSA, *_RSA_PSS)
    if kind == "oct":
        return tuple(_HMAC)
    algorithm = _CURVES.get(str(member.get("crv"))) if kind in ("EC", "OKP") else None
    return (algorithm,) if algorithm else ()


def _load(member: Mapping[str, Any], algorithms: tuple[str, ...]) -> VerificationKey:
    kid = member.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("expected a text as kid")
    public = {name: member[name] for name in _PUBLIC[member["kty"]] if name in member}
    loaded = {algorithm: jwt.PyJWK(public, algorithm) for algorithm in algorithms}
    strong = {algorithm: key for algorithm, key in loaded.items() if not key.Algorithm.check_key_length(key.key)}
    if not strong:
        first = loaded[algorithms[0]]
        raise ValueError(str(first.Algorithm.check_key_length(first.key)))
    return VerificationKey(kid, strong)


def parse_secrets(data: bytes) -> tuple[VerificationKey, ...]:
    """The keys of a secret file (`tusd_py.authorization.keys`), for HS256, and for HS384 and HS512 where they are long enough.
    Raises ValueError."""
    return tuple(_load({"kty": "oct", "k": encode(key)}, tuple(_HMAC)) for key in parse_keys(data))
