"""The grammar of ids."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.ids import MAX_ID, MAX_SEGMENT, is_valid_id

VALID = [
    "a",
    "0123456789abcdef0123456789abcdef",
    "with-dash_and.dot",
    "~!$'()*+,;=:@-",
    "a/b",
    "a/b/c/d",
    "a..b",
    "a.",
    "info",
    "lock.stop.x",
    "a.information",
    "x" * MAX_SEGMENT,
    "/".join(["x" * 127] * 8),
]

INVALID = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/..",
    ".tusd-py",
    ".hidden",
    "a/.hidden",
    "a b",
    "a\n",
    "a\0",
    "a\\b",
    "a%2e",
    "a?b",
    "a#b",
    "a&b",
    'a"b',
    "a<b",
    "ä",
    "\N{FULLWIDTH FULL STOP}",
    "a.info",
    "a.lock",
    "a.stop",
    "a.info/b",
    "x" * (MAX_SEGMENT + 1),
    "/".join(["x" * 205] * 5),  # a byte more than MAX_ID
]


@pytest.mark.parametrize("text", VALID)
def test_ids(text: str) -> None:
    assert is_valid_id(text)


@pytest.mark.parametrize("text", INVALID)
def test_no_ids(text: str) -> None:
    assert not is_valid_id(text)


def test_the_longest_id() -> None:
    longest = "/".join(["x" * 204] * 5)
    assert len(longest) == MAX_ID
    assert is_valid_id(longest)
    assert not is_valid_id(longest + "x")


@given(st.one_of(st.text(), st.text("./ab%-\\\0\n", max_size=12)))
def test_no_id_leaves_its_directory(text: str) -> None:
    if is_valid_id(text):
        path = posixpath.normpath(posixpath.join("/uploads", text))
        assert path == f"/uploads/{text}"
        assert text.isascii() and text.isprintable()
