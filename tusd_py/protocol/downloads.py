"""Downloads: what a stored upload is called and typed when it is served, and what a conditional or range request gets.

Rows G01 to G12; RFC 9110, 13 and 14; RFC 6266. Unlike tusd, names beyond ASCII are sent as `filename*`, and finished uploads
have a strong ETag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from tusd_py.protocol.headers import Headers
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import MAX_LENGTH

__all__ = ["Selection", "content_headers", "select"]

_INLINE = frozenset(
    {"text/plain", "application/ogg"}
    | {f"image/{kind}" for kind in ("png", "jpeg", "gif", "bmp", "webp")}
    | {f"audio/{kind}" for kind in ("wave", "wav", "x-wav", "x-pn-wav", "webm", "ogg")}
    | {f"video/{kind}" for kind in ("mp4", "webm", "ogg")}
)
"""Types that a browser shows without running anything; all others are saved (tusd's list)."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf"\s*;\s*({_TOKEN})=(?:{_TOKEN}|\"(?:[^\"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*\")"
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:{_PARAMETER})*)\s*", re.ASCII)

MAX_DIGITS = 19
"""Positions with more digits are beyond any file; Python refuses to read very long ones."""

_RANGE = re.compile(rb"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)


def content_headers(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Content-Type and Content-Disposition from the `filetype` and `filename` metadata (G08 to G11)."""
    filetype = metadata.text("filetype") or ""
    essence = _essence(filetype)
    disposition = "inline" if essence in _INLINE else "attachment"
    if filename := metadata.text("filename"):
        disposition += f";filename={_quoted(filename)}"
        if not filename.isascii():
            disposition += f";filename*=UTF-8''{quote(filename, safe='')}"
    return [
        (b"content-type", filetype.encode() if essence else b"application/octet-stream"),
        (b"content-disposition", disposition.encode()),
    ]


def _essence(filetype: str) -> str:
    """The lower-case `type/subtype` of a well-formed ASCII media type; empty for anything else."""
    match = _MEDIA_TYPE.fullmatch(filetype) if filetype.isascii() else None
    if match is None:
        return ""
    names = [name.lower() for name in re.findall(_PARAMETER, match[2])]
    return match[1].lower() if len(names) == len(set(names)) else ""


def _quoted(name: str) -> str:
    """A quoted-string that every receiver reads: no control characters (they could end the header), `_` beyond ASCII."""
    safe = "".join(char if " " <= char <= "~" else "_" for char in name)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the representation to send: 200, 206, 304, 412 or 416, and for the first two the bytes `start` up to `end`."""

    status: int
    start: int = 0
    end: int = 0


def select(headers: Headers, size: int, etag: bytes | None, modified: float | None) -> Selection:
    """Evaluate conditions and range in the order of RFC 9110, 13.2.2.

    `modified` in seconds, without its fraction as HTTP knows none; None, as `etag`, for what may change at any moment.
    Several ranges in one request are answered in full, which the RFC allows; so is a range we can't read.
    """
    if modified is not None:
        modified = int(modified)
    status = _precondition(headers, etag, modified)
    if status is not None:
        return Selection(status)
    whole = Selection(200, 0, size)
    match = _RANGE.fullmatch(headers.get(b"range", b""))
    if match is None or not _range_applies(headers, etag, modified):
        return whole
    first, last = _position(match[1]), _position(match[2])
    if first is None:
        if last is None:
            return whole
        return Selection(206, max(0, size - last), size) if last and size else Selection(416)
    if last is not None and last < first:
        return whole
    return Selection(206, first, size if last is None else min(last + 1, size)) if first < size else Selection(416)


def _position(digits: bytes) -> int | None:
    """A position in a range, however long; None where it is left out."""
    if not digits:
        return None
    return int(digits) if len(digits) <= MAX_DIGITS else MAX_LENGTH


def _precondition(headers: Headers, etag: bytes | None, modified: float | None) -> int | None:
    """The status that ends the evaluation early, if any."""
    if (wanted := headers.get(b"if-match")) is not None:
        if not _etag_listed(wanted, etag, weak=False):
            return 412
    elif (since := _date(headers.get(b"if-unmodified-since"))) is not None and (modified is None or modified > since):
        return 412
    if (known := headers.get(b"if-none-match")) is not None:
        return 304 if _etag_listed(known, etag, weak=True) else None
    since = _date(headers.get(b"if-modified-since"))
    return 304 if since is not None and modified is not None and modified <= since else None


def _range_applies(headers: Headers, etag: bytes | None, modified: float | None) -> bool:
    condition = headers.get(b"if-range")
    if condition is None:
        return True
    if condition.startswith((b'"', b"W/")):
        return etag is not None and condition == etag
    return modified is not None and _date(condition) == modified


def _etag_listed(value: bytes, etag: bytes | None, *, weak: bool) -> bool:
    if value.strip() == b"*":
        return True
    if etag is None:
        return False
    listed = (each.strip() for each in value.split(b","))
    return any((each.removeprefix(b"W/") if weak else each) == etag for each in listed)


def _date(value: bytes | None) -> float | None:
    """An HTTP date in seconds; None for one that can't be read, which counts as absent."""
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp()
    except (ValueError, OverflowError, UnicodeDecodeError):
        return None
