"""Values as Go reads and prints them. Every case was run through Go's strconv and time; only we refuse negative durations."""

from __future__ import annotations

import pytest

from tusd_py.cli.values import (
    parse,
    parse_bool,
    parse_duration,
    parse_int,
    parse_octal,
    parse_size,
    show,
    show_duration,
    show_size,
)
from tusd_py.plugins import extension_settings
from tusd_py.settings import Setting, described

INTEGERS = {
    "0": 0,
    "8080": 8080,
    "+5": 5,
    "-5": -5,
    "1_000": 1000,
    "0x_1f": 31,
    "0X1F": 31,
    "010": 8,
    "0_7": 7,
    "0b11": 3,
    "0o17": 15,
}


@pytest.mark.parametrize(("text", "number"), INTEGERS.items())
def test_integers(text: str, number: int) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize("text", ["", "abc", "1__0", "_1", "1_", "08", " 1", "1 ", "0x", "1.5", "1e3", "٣", "--1"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match=r"^parse error"):
        parse_int(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "0x1_0000_0000_0000_0000"])
def test_integers_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"^value out of range"):
        parse_int(text)


def test_the_largest_integer() -> None:
    assert parse_int("9223372036854775807") == 2**63 - 1


BOOLEANS = dict.fromkeys(["1", "t", "T", "TRUE", "true", "True"], True) | dict.fromkeys(
    ["0", "f", "F", "FALSE", "false", "False"], False
)


@pytest.mark.parametrize(("text", "value"), BOOLEANS.items())
def test_booleans(text: str, value: bool) -> None:
    assert parse_bool(text) is value


@pytest.mark.parametrize("text", ["", "yes", "no", "on", "tRUE", "2", " true"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(ValueError, match=r"^parse error"):
        parse_bool(text)


# As Go prints them, so that they can be read in both directions.
DURATIONS = {
    "0s": 0.0,
    "1ns": 1e-9,
    "1.5µs": 1.5e-6,
    "500ms": 0.5,
    "1.5s": 1.5,
    "10s": 10.0,
    "1m0s": 60.0,
    "1h0m0s": 3600.0,
    "1h30m0s": 5400.0,
    "25h1m1.25s": 90061.25,
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations_in_both_directions(text: str, seconds: float) -> None:
    assert (parse_duration(text), show_duration(seconds)) == (seconds, text)


OTHER_DURATIONS = {
    "0": 0,
    "+0": 0,
    "1h30m": 5400,
    ".5s": 0.5,
    "1.s": 1,
    "1us": 1e-6,
    "1μs": 1e-6,
    "+1s": 1,
    "1m1h": 3660,
    "1m30s": 90,
}


@pytest.mark.parametrize(("text", "seconds"), OTHER_DURATIONS.items())
def test_other_ways_to_write_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "00", "s", ".s", "1d", "1e3s", "1s ", "-1s", "10 s", "9999999h", "nan", "inf"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^parse error: expected a duration"):
        parse_duration(text)


# In both directions.
SIZES = {"0": 0, "1500": 1500, "1KiB": 1024, "1025": 1025, "5MiB": 5 << 20, "2GiB": 2 << 30, "3TiB": 3 << 40}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes_in_both_directions(text: str, size: int) -> None:
    assert (parse_size(text), show_size(size)) == (size, text)


OTHER_SIZES = {
    "500MB": 500_000_000,
    "1.5GiB": 3 << 29,
    ".5KB": 500,
    "2gb": 2_000_000_000,
    "7B": 7,
    "1PB": 10**15,
    "0x10": 16,
    "1_000": 1000,
    "9223372036854775807": 2**63 - 1,
}


@pytest.mark.parametrize(("text", "size"), OTHER_SIZES.items())
def test_other_ways_to_write_a_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1.5", "1M", "MB", "1 MB", "1MB ", "1XB", "1.5B", "9000PB9", "10000PiB", "1e3KB", "٣MB", "0x1KB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a (whole )?number of bytes"):
        parse_size(text)


def test_permissions() -> None:
    assert (parse_octal("775"), parse_octal("0640")) == (0o775, 0o640)


@pytest.mark.parametrize("text", ["", "8", "0o775", "77777", "rwx", "-1"])
def test_what_is_no_permissions(text: str) -> None:
    with pytest.raises(ValueError, match="octal"):
        parse_octal(text)


@pytest.mark.parametrize("setting", described() + extension_settings(), ids=lambda setting: setting.flag)
def test_every_default_can_be_written_as_a_flag(setting: Setting) -> None:
    assert parse(setting, show(setting, setting.default)) == setting.default
