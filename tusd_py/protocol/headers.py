"""Reading header fields: numbers, media types, comma lists, and the few framing facts a rule needs.

A head is a mapping from lower-case names to values, both bytes. Repeated fields are joined by `, ` (RFC 9110, 5.3) unless they
are equal, so that a conflicting `Upload-Length: 5` / `Upload-Length: 7` is not a number any more (C20).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tusd_py.protocol.upload import MAX_LENGTH

__all__ = ["Headers", "body_length", "collect_headers", "has_token", "is_media_type", "parse_number", "text_of"]

Headers = Mapping[bytes, bytes]

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,18}")


def collect_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Fields by name. `pairs` have lower-case names, as ASGI gives them."""
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in headers:
            headers[name] = value
        elif headers[name] != value:
            headers[name] += b", " + value
    return headers


def parse_number(value: bytes) -> int | None:
    """A length or offset: ASCII digits, no sign, blank or leading zero, at most 2**63-1; else None (R05, R06, P04)."""
    if _NUMBER.fullmatch(value) is None:
        return None
    number = int(value)
    return number if number <= MAX_LENGTH else None


def text_of(value: bytes) -> str:
    """A field value as text, one character a byte: never fails, and `encode("latin-1")` gives the same bytes back (M07)."""
    return value.decode("latin-1")


def is_media_type(value: bytes, wanted: bytes) -> bool:
    """Whether a Content-Type names the type `wanted`; case and parameters don't matter (P06)."""
    return value == wanted or value.partition(b";")[0].strip().lower() == wanted


def has_token(value: bytes, wanted: bytes) -> bool:
    """Whether a comma list contains the token `wanted`, in any case."""
    return any(token.strip().lower() == wanted for token in value.split(b","))


def body_length(headers: Headers) -> int | None:
    """How many bytes the body has: 0 where none is announced, None where it is chunked.

    Servers have refused contradictory framing, and lengths that are no numbers, before the application sees them.
    """
    if b"transfer-encoding" in headers:
        return None
    return min(int(headers.get(b"content-length", b"0")), MAX_LENGTH)
