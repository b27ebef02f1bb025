"""Numbers, media types and lists in header fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.headers import body_length, collect_headers, has_token, is_media_type, parse_number, text_of

MAX = 2**63 - 1

NUMBERS = [
    (b"0", 0),
    (b"1", 1),
    (b"10", 10),
    (b"9223372036854775807", MAX),
]

NO_NUMBERS = [
    b"",
    b" ",
    b" 1",
    b"1 ",
    b"1\n",
    b"-1",
    b"-0",
    b"+1",
    b"007",
    b"00",
    b"1.0",
    b"1e3",
    b"0x10",
    b"1_0",
    b"5,5",
    b"5, 5",
    b"abc",
    "٣".encode(),  # a digit, and not an ASCII one
    b"9223372036854775808",
    b"9999999999999999999",
    b"1" * 20,
    b"1" * 100_000,  # Python refuses to read so long a number; we never ask
]


@pytest.mark.parametrize(("value", "number"), NUMBERS)
def test_numbers_are_read(value: bytes, number: int) -> None:
    assert parse_number(value) == number


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value[:24]))
def test_everything_else_is_no_number(value: bytes) -> None:
    assert parse_number(value) is None


@given(st.integers(0, MAX))
def test_every_length_survives_being_written(number: int) -> None:
    assert parse_number(b"%d" % number) == number


@given(st.binary())
def test_a_number_has_one_spelling(value: bytes) -> None:
    number = parse_number(value)
    assert number is None or b"%d" % number == value


COLLECTED = [
    ([], {}),
    ([(b"a", b"1"), (b"b", b"2")], {b"a": b"1", b"b": b"2"}),
    ([(b"upload-length", b"5"), (b"upload-length", b"5")], {b"upload-length": b"5"}),
    ([(b"upload-length", b"5"), (b"upload-length", b"7")], {b"upload-length": b"5, 7"}),
    ([(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"1")], {b"a": b"1, 3, 1", b"b": b"2"}),
]


@pytest.mark.parametrize(("pairs", "headers"), COLLECTED)
def test_repeated_fields_are_joined_unless_equal(pairs: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> None:
    assert collect_headers(pairs) == headers


def test_a_conflicting_length_is_no_number() -> None:
    headers = collect_headers([(b"upload-length", b"5"), (b"upload-length", b"7")])
    assert parse_number(headers[b"upload-length"]) is None


@given(st.binary())
def test_text_keeps_every_byte(value: bytes) -> None:
    assert text_of(value).encode("latin-1") == value


WANTED = b"application/offset+octet-stream"


@pytest.mark.parametrize(
    "value",
    [
        WANTED,
        WANTED.upper(),
        b" " + WANTED + b" ",
        WANTED + b"; charset=utf-8",
        WANTED + b";x",
        b"Application/Offset+octet-Stream",
    ],
)
def test_a_media_type_matches_in_any_case_and_with_parameters(value: bytes) -> None:
    assert is_media_type(value, WANTED)


@pytest.mark.parametrize(
    "value", [b"", b";", WANTED + b"x", b"application/octet-stream", b"x;" + WANTED, WANTED + b"," + WANTED]
)
def test_other_media_types_do_not_match(value: bytes) -> None:
    assert not is_media_type(value, WANTED)


@pytest.mark.parametrize("value", [b"upload-checksum", b"Upload-Checksum", b"a, UPLOAD-CHECKSUM ,b", b",upload-checksum"])
def test_a_token_is_found_in_a_list(value: bytes) -> None:
    assert has_token(value, b"upload-checksum")


@pytest.mark.parametrize("value", [b"", b",", b"upload-checksums", b"upload checksum", b"x-upload-checksum"])
def test_a_token_is_not_found_within_others(value: bytes) -> None:
    assert not has_token(value, b"upload-checksum")


LENGTHS = [
    ({}, 0),
    ({b"content-length": b"0"}, 0),
    ({b"content-length": b"17"}, 17),
    ({b"content-length": b"18446744073709551615"}, MAX),
    ({b"transfer-encoding": b"chunked"}, None),
]


@pytest.mark.parametrize(("headers", "length"), LENGTHS)
def test_the_length_of_a_body(headers: dict[bytes, bytes], length: int | None) -> None:
    assert body_length(headers) == length
