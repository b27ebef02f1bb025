"""Downloads: what a stored upload is called and typed when it is served, in which of its forms, and what a conditional or range
request gets.

Rows G01 to G12; RFC 9110, 12 to 14; RFC 6266. Unlike tusd, names beyond ASCII are sent as `filename*`, and finished uploads
have a strong ETag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from tusd_py.protocol.headers import Headers
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.negotiation import IDENTITY, acceptable_codings
from tusd_py.protocol.upload import MAX_LENGTH

__all__ = ["Form", "Selection", "content_headers", "select"]

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
class Form:
    """One form that an upload can be sent in. `etag` is None where its bytes may change at any moment."""

    size: int
    etag: bytes | None


_NONE: Mapping[str, Form] = {}


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the representation to send: 200, 206, 304, 412 or 416, and for the first two the bytes `start` up to `end` of the
    form that `coding` names."""

    status: int
    start: int = 0
    end: int = 0
    coding: str = IDENTITY


def select(
    headers: Headers,
    size: int,
    etag: bytes | None,
    modified: float | None,
    *,
    coded: Mapping[str, Form] = _NONE,
    ranges: bool = True,
) -> Selection:
    """Choose among the bytes as they are and `coded`, the same by content coding; then evaluate conditions and range in the
    order of RFC 9110, 13.2.2.

    `modified` in seconds, without its fraction as HTTP knows none; None, as `etag`, for what may change at any moment.
    `ranges` is false where the method knows none (all but GET). Ranges are of the bytes as they are, and then there is no other
    form: a piece of one never fits to those of another. Several ranges in one request are answered in full, which the RFC
    allows; so is a range we can't read.
    """
    modified = None if modified is None else int(modified)
    plain = Form(size, etag)
    wanted = _range(headers, plain, modified) if ranges else None
    if wanted is None:
        forms = {IDENTITY: plain, **coded}
        codings = acceptable_codings(headers.get(b"accept-encoding"), coded)
    else:
        forms, codings = {IDENTITY: plain}, (IDENTITY,)
    decided = _precondition(headers, forms, codings, modified)
    if decided is not None:
        return decided
    if wanted is None:
        return Selection(200, 0, forms[codings[0]].size, codings[0])
    start, end = wanted
    return Selection(206, start, end) if start < end else Selection(416)


def _range(headers: Headers, form: Form, modified: int | None) -> tuple[int, int] | None:
    """The bytes that a range asks for, none of them where it can't be satisfied; None where there is no range that applies."""
    match = _RANGE.fullmatch(headers.get(b"range", b""))
    if match is None or not _range_applies(headers, form.etag, modified):
        return None
    first, last, size = _position(match[1]), _position(match[2]), form.size
    if first is None:
        return None if last is None else (max(0, size - last), size)
    if last is not None and last < first:
        return None
    return first, size if last is None else min(last + 1, size)


def _position(digits: bytes) -> int | None:
    """A position in a range, however long; None where it is left out."""
    if not digits:
        return None
    return int(digits) if len(digits) <= MAX_DIGITS else MAX_LENGTH


def _precondition(
    headers: Headers, forms: Mapping[str, Form], codings: tuple[str, ...], modified: int | None
) -> Selection | None:
    """What ends the evaluation early, if anything. `codings` are those that may be sent, the selected one first.

    If-Match may name any form, as none changes without the others. If-None-Match may name any that the client accepts: to say
    that it has the right one already is better than to send it another, and which one is selected is ours to say (12.1).
    """
    selected = codings[0]
    if (wanted := headers.get(b"if-match")) is not None:
        if not any(_etag_listed(wanted, form.etag, weak=False) for form in forms.values()):
            return Selection(412, coding=selected)
    elif (since := _date(headers.get(b"if-unmodified-since"))) is not None and (modified is None or modified > since):
        return Selection(412, coding=selected)
    if (had := headers.get(b"if-none-match")) is not None:
        coding = next((each for each in codings if _etag_listed(had, forms[each].etag, weak=True)), None)
        return None if coding is None else Selection(304, coding=coding)
    since = _date(headers.get(b"if-modified-since"))
    if since is not None and modified is not None and modified <= since:
        return Selection(304, coding=selected)
    return None


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
