"""HMAC-SHA256 over a text, for the formats that we sign ourselves. The formats are in docs/reference/authorization.md.

Each format has a context of its own, which is signed with the text: what was signed as one thing can't be shown as another,
even where one key signs both. A signature is compared as the text it came as, in constant time, so that there is exactly one
spelling.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

__all__ = ["decode", "encode", "is_signed", "sign"]


def encode(data: bytes) -> str:
    """base64url without padding (RFC 4648, 5; RFC 7515, 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The inverse of `encode`. Raises ValueError for every other spelling of the same bytes, too."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("not in canonical base64url")
    return data


def sign(key: bytes, context: str, text: str) -> str:
    """The signature of `text`: base64url of HMAC-SHA256 over the context, a newline, and the text. 43 characters."""
    return encode(hmac.digest(key, f"{context}\n{text}".encode(), "sha256"))


def is_signed(keys: Iterable[bytes], context: str, text: str, signature: str) -> bool:
    """Whether one of `keys` has signed `text`. Takes the same time whichever it was and wherever a signature differs."""
    given = signature.encode("utf-8", "surrogatepass")
    valid = False
    for key in keys:
        valid |= hmac.compare_digest(sign(key, context, text).encode(), given)
    return valid
