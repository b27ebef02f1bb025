"""What people type and read: parsers by table, and that nothing printed does anything to a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tusd_py_cas.commands.texts import (
    clip_range,
    parse_duration,
    parse_range,
    parse_rate,
    parse_share,
    parse_size,
    printable,
    share,
    show_size,
    utc_time,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1500", 1500), ("64KiB", 65536), ("50MB", 50_000_000), ("1.5 GiB", 1610612736), ("2kb", 2000), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1.3KiB", "MB", "1XB", "٣", "9999999999PiB", "1e3", " 1"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)


def test_rates() -> None:
    assert parse_rate("50MB/s") == parse_rate("50MB") == 50_000_000
    with pytest.raises(ValueError, match="bytes a second"):
        parse_rate("fast")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0s", 0), ("90s", 90), ("1h30m", 5400), ("7d", 604800), ("250ms", 0.25), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "-1h", "h", "1h x", "1w", "999999999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "fraction"), [("10%", 0.1), ("100%", 1.0), ("0.25", 0.25), ("1", 1.0), ("0.5%", 0.005)])
def test_shares(text: str, fraction: float) -> None:
    assert parse_share(text) == fraction


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "2", "-1%", "ten"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_share(text)


@pytest.mark.parametrize(
    ("text", "size", "clipped"),
    [
        ("0-0", 10, (0, 1)),
        ("2-4", 10, (2, 5)),
        ("2-", 10, (2, 10)),
        ("-3", 10, (7, 10)),
        ("-30", 10, (0, 10)),
        ("9-99", 10, (9, 10)),
        ("10-", 10, None),
        ("0-", 0, (0, 0)),
        ("-5", 0, (0, 0)),
        ("1-", 0, None),
        ("-0", 10, (10, 10)),
    ],
)
def test_ranges(text: str, size: int, clipped: tuple[int, int] | None) -> None:
    assert clip_range(parse_range(text), size) == clipped


@pytest.mark.parametrize("text", ["", "-", "4-2", "a-b", "1", "1-2-3", "+1-2", "٣-٤"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_range(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1024**2 - 1, "1.0 MiB"), (1536, "1.5 KiB"), (2**60, "1024.0 PiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert show_size(size) == text


def test_shares_for_people() -> None:
    assert share(1, 3) == 33.33
    assert share(0, 0) == 0.0


def test_times_for_programs_are_iso_8601_in_utc() -> None:
    assert utc_time(0) == "1970-01-01T00:00:00+00:00"


@given(st.text())
def test_nothing_printed_does_anything_to_a_terminal(text: str) -> None:
    assert printable(text).isprintable()


def test_what_is_printed_can_be_told_apart() -> None:
    assert printable("a\x1b[31mb\u202ec\n") == "a\\x1b[31mb\\u202ec\\n"
