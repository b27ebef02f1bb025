"""Upload-Metadata, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.metadata import Metadata, build_metadata, parse_metadata
from tusd_py.protocol.refusals import InvalidMetadata


def wire(text: str) -> str:
    """Text as it looks when its UTF-8 bytes are read one character a byte."""
    return text.encode().decode("latin-1")


# header and pairs, one the inverse of the other
INVERSE: list[tuple[str, dict[str, bytes]]] = [
    ("", {}),
    ("a YQ==", {"a": b"a"}),
    ("is_conf", {"is_conf": b""}),
    ("filename d29ybGQ=,is_conf", {"filename": b"world", "is_conf": b""}),
    ("is_conf,filename d29ybGQ=", {"is_conf": b"", "filename": b"world"}),
    ("bin /wD+", {"bin": b"\xff\x00\xfe"}),
    (wire("größe") + " MQ==", {"größe": b"1"}),
    (wire("名前") + " MQ==", {"名前": b"1"}),
    (wire("à"), {"à": b""}),  # its last byte, A0, is a blank to those who read it as Latin-1
    ('k"\\;= YQ==', {'k"\\;=': b"a"}),
]

# header, pairs, and what a HEAD shows: all good, but not spelled as we would
GOOD: list[tuple[str, dict[str, bytes], str]] = [
    ("  a YQ==  ", {"a": b"a"}, "a YQ=="),
    ("a YQ==, b Yg==", {"a": b"a", "b": b"b"}, "a YQ==, b Yg=="),
    ("a ,b Yg==", {"a": b"", "b": b"b"}, "a ,b Yg=="),
    ("\xff YQ==", {"\xff": b"a"}, "\xff YQ=="),  # no UTF-8: taken byte by byte
]

# header, pairs, rebuilt header: something is left out, and with `strict` refused
BAD: list[tuple[str, dict[str, bytes], str]] = [
    (",", {}, ""),
    ("a YQ==,", {"a": b"a"}, "a YQ=="),
    ("a !!!!", {}, ""),
    ("a YQ", {}, ""),
    ("a YQ=", {}, ""),
    ("a YQ==YQ==", {}, ""),
    ("a YQ=\xff", {}, ""),
    ("a YQ==,a Yg==", {"a": b"b"}, "a Yg=="),
    ("a YQ==,a !!!!", {"a": b"a"}, "a YQ=="),
    ("a  YQ==", {}, ""),
    ("a YQ== YQ==", {}, ""),
    ("a\tYQ==", {}, ""),
    ("a YQ==,b\tYg==,c Yw==", {"a": b"a", "c": b"c"}, "a YQ==,c Yw=="),
]


@pytest.mark.parametrize(("header", "pairs"), INVERSE)
@pytest.mark.parametrize("strict", [False, True])
def test_reading_and_writing_are_inverse(header: str, pairs: dict[str, bytes], strict: bool) -> None:
    assert parse_metadata(header, strict=strict) == Metadata(pairs, header)
    assert build_metadata(pairs) == header


@pytest.mark.parametrize(("header", "pairs", "shown"), GOOD)
@pytest.mark.parametrize("strict", [False, True])
def test_good_metadata_keeps_the_clients_spelling(header: str, pairs: dict[str, bytes], shown: str, strict: bool) -> None:
    assert parse_metadata(header, strict=strict) == Metadata(pairs, shown)


@pytest.mark.parametrize(("header", "pairs", "shown"), BAD)
def test_what_cannot_be_read_is_left_out(header: str, pairs: dict[str, bytes], shown: str) -> None:
    assert parse_metadata(header) == Metadata(pairs, shown)


@pytest.mark.parametrize(("header", "pairs", "shown"), BAD)
def test_or_refused(header: str, pairs: dict[str, bytes], shown: str) -> None:
    with pytest.raises(InvalidMetadata, match="unique keys and base64 values expected"):
        parse_metadata(header, strict=True)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("header", ["", " ", "\t ", "   "])
def test_an_empty_header_is_no_metadata(header: str, strict: bool) -> None:
    assert parse_metadata(header, strict=strict) == Metadata()


def test_the_order_is_the_clients() -> None:
    assert list(parse_metadata("z,a,m YQ==").pairs) == ["z", "a", "m"]


def test_values_as_text() -> None:
    metadata = Metadata({"name": "naïve".encode(), "bin": b"\xff", "empty": b""})
    assert metadata.text("name") == "naïve"
    assert metadata.text("bin") == "\N{REPLACEMENT CHARACTER}"
    assert metadata.text("empty") == ""
    assert metadata.text("other") is None


KEYS = st.text(st.characters(exclude_characters=" ,\t", exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda key: key.isascii() or wire(key) != key
)


@given(st.dictionaries(KEYS, st.binary()))
def test_any_metadata_survives_being_written(pairs: dict[str, bytes]) -> None:
    header = build_metadata(pairs)
    assert parse_metadata(header, strict=True) == Metadata(pairs, header)


@given(st.binary())
def test_reading_fails_only_as_documented(header: bytes) -> None:
    text = header.decode("latin-1")
    try:
        strict = parse_metadata(text, strict=True)
    except InvalidMetadata:
        strict = None
    lenient = parse_metadata(text)
    assert strict is None or strict == lenient
    kept = [key for key in lenient.pairs if key.isprintable()]  # no header has control characters, nor is one written
    assert lenient.header.encode("latin-1") or not kept


@pytest.mark.parametrize("key", ["", "a b", "a,b", "a\tb", "a\nb", "a\x7f"])
def test_a_key_that_a_header_can_not_hold_is_left_out(key: str) -> None:
    assert build_metadata({key: b"x", "good": b"y"}) == "good eQ=="
