"""Signatures of web hooks, as Standard Webhooks lays them down (https://www.standardwebhooks.com), and their verification.

Needs nothing but the standard library, so that a receiver may copy this file. The signed text is `id.timestamp.body`; the
headers are `webhook-id`, `webhook-timestamp` (seconds since the epoch) and `webhook-signature`, a blank-separated list of
`v1,` and the base64 of an HMAC-SHA256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

__all__ = ["MIN_SECRET", "SignatureError", "parse_secret", "sign", "verify"]

MIN_SECRET = 16
"""Bytes of a secret: fewer can be guessed. Standard Webhooks recommends 24 to 64."""

TOLERANCE = 300.0
"""Seconds that a message may be old, or that clocks may differ: five minutes, as Standard Webhooks' libraries have it."""


class SignatureError(ValueError):
    """A message that was not signed with this secret, or not just now. The message says what is wrong with it."""


def parse_secret(text: bytes) -> bytes:
    """The secret in a file: `whsec_` and base64, or any bytes; white space around it does not count. Raises ValueError."""
    text = text.strip()
    if text.startswith(b"whsec_"):
        try:
            text = base64.b64decode(text.removeprefix(b"whsec_"), validate=True)
        except binascii.Error as error:
            raise ValueError(f"what follows whsec_ is no base64: {error}") from error
    if len(text) < MIN_SECRET:
        raise ValueError(f"the secret has {len(text)} bytes: expected at least {MIN_SECRET}")
    return text


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that vouch for a message."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(_digest(secret, message_id, timestamp, body)).decode(),
    }


def _digest(secret: bytes, message_id: str, timestamp: int, body: bytes) -> bytes:
    return hmac.new(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()


def verify(
    secret: bytes, headers: Mapping[str, str], body: bytes, *, tolerance: float = TOLERANCE, now: float | None = None
) -> str:
    """The id of a message that was signed with `secret` at most `tolerance` seconds ago. Raises `SignatureError`.

    `secret` is as `parse_secret` returns it; `headers` may have their names in any case; `body` is the body as it came, before
    any parsing. Remember the ids of the last `tolerance` seconds to tell a message that somebody has sent again; deliveries
    that the server repeats have the id of the first one.
    """
    found = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, signatures = found["webhook-id"], found["webhook-signature"]
        timestamp = _timestamp(found["webhook-timestamp"])
    except KeyError as error:
        raise SignatureError(f"the header {error.args[0]} is missing") from None
    expected = _digest(secret, message_id, timestamp, body)
    if not any(hmac.compare_digest(expected, given) for given in _given(signatures)):
        raise SignatureError("the signature is not of this message and secret")
    if abs((time.time() if now is None else now) - timestamp) > tolerance:
        raise SignatureError(f"the message was not signed within {tolerance:g} seconds from now")
    return message_id


def _timestamp(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise SignatureError("webhook-timestamp is no number of seconds")
    return int(text)


def _given(signatures: str) -> list[bytes]:
    """The signatures of the version that we know; others don't count."""
    found = []
    for signature in signatures.split():
        version, _, text = signature.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except ValueError:
                continue
    return found
