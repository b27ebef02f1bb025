"""The values flags take, as Go's `flag` and `strconv` read and print them. Parsers raise ValueError with what was expected.

`parse` and `show` are inverse to each other. The rules for numbers, booleans and durations were compared with Go 1.22's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from tusd_py.cli.goregexp import GoRegexpError, compile_go
from tusd_py.settings import Setting

__all__ = [
    "parse",
    "parse_bool",
    "parse_duration",
    "parse_int",
    "parse_octal",
    "parse_size",
    "show",
    "show_duration",
    "show_size",
]

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

# Go's int64: what a size or a port is read into there, and what the .info file can hold.
_INT64 = range(-(1 << 63), 1 << 63)

_LEADING_ZERO = re.compile(r"([+-]?)0(_?[0-9])")

# Nanoseconds, the unit that Go counts durations in.
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_TERM = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("parse error: expected true or false")


def parse_int(text: str) -> int:
    """Go's integer literals: decimal, 0x, 0o, 0b, a leading zero for octal, and single underscores between digits."""
    try:
        if not text.isascii() or text != text.strip():
            raise ValueError
        number = int(_LEADING_ZERO.sub(r"\g<1>0o\2", text) if _LEADING_ZERO.match(text) else text, 0)
    except ValueError:
        raise ValueError("parse error: expected a whole number") from None
    if number not in _INT64:
        raise ValueError("value out of range: expected a whole number below 2^63")
    return number


_SIZE_UNITS = {unit.lower(): 1000**power for power, unit in enumerate(("B", "KB", "MB", "GB", "TB", "PB"))} | {
    unit.lower(): 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB", "PiB"), 1)
}
_SIZE = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([A-Za-z]+)")


def parse_size(text: str) -> int:
    """Bytes of `1500`, `500MB` or `1.5GiB`: an integer as Go reads it, or a number with a unit of 1000 or 1024 (not Go's)."""
    found = _SIZE.fullmatch(text)
    unit = _SIZE_UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        try:
            return parse_int(text)
        except ValueError:
            raise ValueError("parse error: expected a number of bytes such as 1500, 500MB or 2GiB") from None
    size = Fraction(found[1]) * unit
    if size.denominator != 1 or int(size) not in _INT64:
        raise ValueError("expected a whole number of bytes below 2^63")
    return int(size)


def show_size(size: int) -> str:
    """In the largest unit of 1024 that it is a multiple of: `2GiB`, `1500`."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)


def parse_duration(text: str) -> float:
    """Seconds of `1h30m`, `500ms`, `1.5s` or a plain `0`. No duration of ours makes sense below zero."""
    number = text.removeprefix("+")
    if number == "0":
        return 0.0
    terms = list(_TERM.finditer(number))
    if not terms or "".join(term[0] for term in terms) != number:
        raise ValueError("parse error: expected a duration such as 10s, 1h30m or 500ms")
    total = sum(Fraction(term[1]) * _UNITS[term[2]] for term in terms)
    if int(total) not in _INT64:
        raise ValueError("parse error: expected a duration of less than 292 years")
    return float(total / _UNITS["s"])


def show_duration(seconds: float) -> str:
    """As Go prints durations: `1m30s`, `500ms`; zero is `0s`."""
    nanoseconds = round(seconds * _UNITS["s"])
    for unit in ("ns", "µs", "ms"):
        if 0 < nanoseconds < 1000 * _UNITS[unit]:
            return f"{_decimal(nanoseconds, _UNITS[unit])}{unit}"
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    shown = f"{_decimal(rest, _UNITS['s'])}s"
    if hours or minutes:
        shown = f"{minutes}m{shown}"
    return f"{hours}h{shown}" if hours else shown


def _decimal(nanoseconds: int, unit: int) -> str:
    whole, rest = divmod(nanoseconds, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}}".rstrip("0") if rest else str(whole)


def parse_octal(text: str) -> int:
    if not re.fullmatch("[0-7]{1,4}", text):
        raise ValueError("parse error: expected permissions in octal, such as 775")
    return int(text, 8)


def _parse_path(text: str) -> Path | None:
    if "\0" in text:
        raise ValueError("expected a path without NUL characters")
    return Path(text) if text else None


def _parse_regexp(text: str) -> re.Pattern[str]:
    try:
        return compile_go(text)
    except GoRegexpError as error:
        raise ValueError(f"{error}: expected a regular expression in Go's syntax") from None


def _show_path(path: Path | None) -> str:
    if path is None:
        return ""
    return str(path) if path.is_absolute() else f"./{path}"


_PARSERS: dict[str, Callable[[str], Any]] = {
    "bool": parse_bool,
    "duration": parse_duration,
    "int": parse_int,
    "octal": parse_octal,
    "path": _parse_path,
    "regexp": _parse_regexp,
    "size": parse_size,
    "text": str,
}

_PRINTERS: dict[str, Callable[[Any], str]] = {
    "bool": lambda value: "true" if value else "false",
    "duration": show_duration,
    "octal": lambda value: f"{value:o}",
    "path": _show_path,
    "regexp": lambda value: value.pattern,
    "size": show_size,
}


def parse(setting: Setting, text: str) -> Any:
    """The value that `text` stands for. Raises ValueError, whose message says what was expected."""
    if setting.kind == "choice":
        if text not in setting.choices:
            raise ValueError(f"expected {_listed(setting.choices)}")
        return text
    value = _PARSERS[setting.kind](text)
    if value is None and setting.default is not None:
        raise ValueError("expected a path")
    return value


def show(setting: Setting, value: Any) -> str:
    """The text that `parse` turns into this value."""
    return _PRINTERS.get(setting.kind, str)(value)


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
