"""What people and programs read and type: sizes, times, shares, rates, ranges. Parsers raise `ValueError` with a sentence.

In tables sizes have units of 1024 and times the local zone; in JSON sizes are bytes and times UTC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

__all__ = [
    "clip_range",
    "counted",
    "json_line",
    "local_time",
    "parse_duration",
    "parse_range",
    "parse_rate",
    "parse_share",
    "parse_size",
    "printable",
    "share",
    "show_size",
    "utc_time",
]

_UNITS = (
    {"": 1}
    | {
        f"{letter}{middle}b".lower(): base**power
        for power, letter in enumerate("KMGTP", 1)
        for middle, base in (("", 1000), ("i", 1024))
    }
    | {"b": 1}
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", re.ASCII)

_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)}
_TERM = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_LONGEST = 100 * 365 * 86400

_SHARE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(%?)", re.ASCII)
_RANGE = re.compile(r"(\d{0,19})-(\d{0,19})", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of `1500`, `64KiB` or `1.5GB`."""
    found = _SIZE.fullmatch(text)
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None or not 0 < (size := Fraction(found[1]) * unit) < 1 << 63 or size.denominator != 1:
        raise ValueError(f"{text!r} is no number of bytes: expected one such as 1500, 64KiB or 50MB")
    return int(size)


def parse_rate(text: str) -> int:
    """Bytes a second of `50MB/s`."""
    try:
        return parse_size(text.removesuffix("/s"))
    except ValueError:
        raise ValueError(f"{text!r} is no rate: expected bytes a second, such as 50MB/s") from None


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `1h30m`, `7d` or a plain `0`."""
    terms = list(_TERM.finditer(text))
    if text != "0" and (not terms or "".join(term[0] for term in terms) != text):
        raise ValueError(f"{text!r} is no duration: expected one such as 90s, 1h30m or 7d")
    seconds = float(sum(Fraction(term[1]) * _SECONDS[term[2]] for term in terms))
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is too long: expected at most a hundred years")
    return seconds


def parse_share(text: str) -> float:
    """The fraction that `10%` or `0.1` is."""
    found = _SHARE.fullmatch(text)
    fraction = Fraction(found[1]) / (100 if found[2] else 1) if found else Fraction(0)
    if not 0 < fraction <= 1:
        raise ValueError(f"{text!r} is no share: expected more than 0% and at most 100%")
    return float(fraction)


def parse_range(text: str) -> tuple[int | None, int | None]:
    """First and last byte of `START-END`, as in HTTP (RFC 9110, 14.1.2): counted from 0, END included. `START-` is all from
    there, `-COUNT` the last so many."""
    found = _RANGE.fullmatch(text)
    first, last = (int(digits) if digits else None for digits in found.groups()) if found else (None, None)
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        raise ValueError(f"{text!r} is no range: expected START-END, START- or -COUNT, in bytes from 0, END included")
    return first, last


def clip_range(wanted: tuple[int | None, int | None], size: int) -> tuple[int, int] | None:
    """Where what `parse_range` has read begins and ends in `size` bytes; None where it begins behind them."""
    first, last = wanted
    if first is None:
        return max(0, size - (last or 0)), size
    if first >= max(size, 1):
        return None
    return first, size if last is None else min(size, last + 1)


def show_size(size: int) -> str:
    """`999 B`, `1.5 MiB`."""
    if size < 1024:
        return f"{size} B"
    number, units = size / 1024, ["KiB", "MiB", "GiB", "TiB", "PiB"]
    while number >= 1023.95 and len(units) > 1:
        number /= 1024
        del units[0]
    return f"{number:.1f} {units[0]}"


def counted(count: int, one: str, several: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def local_time(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")


def utc_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def share(part: int, whole: int) -> float:
    """In percent, to two digits; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


def printable(text: str) -> str:
    """Names come from clients, and may be meant to do something to a terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def json_line(document: Mapping[str, Any]) -> str:
    """One line; other characters than ASCII are escaped, so that it does nothing to a terminal either."""
    return json.dumps(document)
