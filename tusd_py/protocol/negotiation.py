"""What a client says about the form that it wants bytes in: content codings and digests.

RFC 9110, 12.4.2 and 12.5.3 (Accept-Encoding); RFC 9530, 3 and 4 (Repr-Digest, Want-Repr-Digest), whose fields are dictionaries
of RFC 8941.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Mapping

__all__ = ["IDENTITY", "acceptable_codings", "repr_digest"]

IDENTITY = "identity"
"""The name of no coding at all."""

_CODING = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")

_PREFERENCE = re.compile(rb"([a-z*][a-z0-9_.*-]*)(?:=(-?[0-9]{1,15}))?(?: *;.*)?")
"""A member of Want-Repr-Digest; its parameters mean nothing."""

_UNSAID = 0.0001
"""Weight of what may be sent and is not named: less than that of anything that is, the smallest of which is 0.001."""


def acceptable_codings(value: bytes | None, available: Collection[str]) -> tuple[str, ...]:
    """Those of `available`, and `identity`, in which a client takes an answer: what it wants most first, and `identity` last
    among equals. Never empty: who accepts nothing that there is gets it as it is, which the RFC leaves to us.

    `value` is that of Accept-Encoding. Without one every coding is acceptable by the letter, but hardly any program that leaves
    it out decodes one, so that only `identity` is. Elements that can't be read count for nothing.
    """
    weights = _weights(value or b"")
    others = weights.get("*")
    found = {coding: weights.get(coding, others or 0.0) for coding in available}
    found[IDENTITY] = weights.get(IDENTITY, _UNSAID if others is None else others)
    accepted = [coding for coding, weight in found.items() if weight]
    return tuple(sorted(accepted, key=lambda coding: -found[coding])) or (IDENTITY,)


def _weights(value: bytes) -> dict[str, float]:
    matches = map(_CODING.fullmatch, map(bytes.strip, value.split(b",")))
    return {match[1].decode().lower(): float(match[2] or 1) for match in matches if match}


def repr_digest(digests: Mapping[str, bytes], wanted: bytes | None) -> bytes:
    """The value of Repr-Digest for these digests, by algorithm; empty where there is nothing to say.

    `wanted` is the value of Want-Repr-Digest. It takes out what it gives the weight 0; of anything else a client may get more
    than it asks for. One that can't be read says nothing (RFC 8941, 4.2).
    """
    refused = _refused(wanted or b"")
    members = [b"%s=:%s:" % (name.encode(), b64encode(digest)) for name, digest in digests.items() if name not in refused]
    return b", ".join(members)


def _refused(value: bytes) -> frozenset[str]:
    matches = [_PREFERENCE.fullmatch(member.strip()) for member in value.split(b",")]
    found = {match[1].decode(): match[2] for match in matches if match}  # of a key that comes twice, the last counts
    if None in matches:
        return frozenset()
    return frozenset(name for name, weight in found.items() if weight is not None and not int(weight))
