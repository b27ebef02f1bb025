"""What a download is called and typed, and what conditional and range requests get."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.downloads import Form, Selection, content_headers, select
from tusd_py.protocol.metadata import Metadata

# filetype, Content-Type, disposition
TYPES = [
    (b"", b"application/octet-stream", b"attachment"),
    (b"text/plain", b"text/plain", b"inline"),
    (b"TEXT/Plain", b"TEXT/Plain", b"inline"),
    (b"text/plain; charset=utf-8", b"text/plain; charset=utf-8", b"inline"),
    (b'text/plain;a="b\\"c";d=e', b'text/plain;a="b\\"c";d=e', b"inline"),
    (b"image/png", b"image/png", b"inline"),
    (b"image/svg+xml", b"image/svg+xml", b"attachment"),
    (b"text/html", b"text/html", b"attachment"),
    (b"application/pdf", b"application/pdf", b"attachment"),
    (b"video/mp4", b"video/mp4", b"inline"),
    (b"audio/ogg", b"audio/ogg", b"inline"),
    (b"application/ogg", b"application/ogg", b"inline"),
    (b"nonsense", b"application/octet-stream", b"attachment"),
    (b"text/plain\r\nSet-Cookie: a=b", b"application/octet-stream", b"attachment"),
    (b'text/plain;a="\n"', b"application/octet-stream", b"attachment"),
    (b"text/plain;a=b;A=c", b"application/octet-stream", b"attachment"),
    (b"text/plain;", b"application/octet-stream", b"attachment"),
    (b"text/plain, image/png", b"application/octet-stream", b"attachment"),
    ("text/plän".encode(), b"application/octet-stream", b"attachment"),
    (b"\xff/\xfe", b"application/octet-stream", b"attachment"),
]


@pytest.mark.parametrize(("filetype", "content_type", "disposition"), TYPES)
def test_types(filetype: bytes, content_type: bytes, disposition: bytes) -> None:
    assert content_headers(Metadata({"filetype": filetype})) == [
        (b"content-type", content_type),
        (b"content-disposition", disposition),
    ]


NAMES = [
    (b"a.txt", b'attachment;filename="a.txt"'),
    (b'a"b\\c', b'attachment;filename="a\\"b\\\\c"'),
    (b"a\r\nSet-Cookie: b", b'attachment;filename="a__Set-Cookie: b"'),
    (b"a\x00\x7f", b'attachment;filename="a__"'),
    ("größe".encode(), b"attachment;filename=\"gr__e\";filename*=UTF-8''gr%C3%B6%C3%9Fe"),
    (b"\xff", b"attachment;filename=\"_\";filename*=UTF-8''%EF%BF%BD"),
    (b"a b/c", b'attachment;filename="a b/c"'),
    (b"", b"attachment"),
]


@pytest.mark.parametrize(("name", "disposition"), NAMES)
def test_names(name: bytes, disposition: bytes) -> None:
    assert content_headers(Metadata({"filename": name}))[1] == (b"content-disposition", disposition)


def test_nothing_known() -> None:
    assert content_headers(Metadata()) == [
        (b"content-type", b"application/octet-stream"),
        (b"content-disposition", b"attachment"),
    ]


@given(st.binary(), st.binary())
def test_no_metadata_ends_a_header(filetype: bytes, filename: bytes) -> None:
    for _, value in content_headers(Metadata({"filetype": filetype, "filename": filename})):
        assert all(0x20 <= byte < 0x7F or byte == 0x09 for byte in value)


SIZE, ETAG, TIME = 100, b'"id-version"', 1_700_000_000.75
BEFORE, SAME, AFTER = (formatdate(TIME + offset, usegmt=True).encode() for offset in (-60, 0, 60))
WHOLE = Selection(200, 0, SIZE)

RANGES = [
    (b"bytes=0-", Selection(206, 0, 100)),
    (b"bytes=0-0", Selection(206, 0, 1)),
    (b"bytes=10-19", Selection(206, 10, 20)),
    (b"bytes=99-", Selection(206, 99, 100)),
    (b"bytes=0-1000", Selection(206, 0, 100)),
    (b"bytes=-1", Selection(206, 99, 100)),
    (b"bytes=-1000", Selection(206, 0, 100)),
    (b"BYTES= 10-19 ", Selection(206, 10, 20)),
    (b"bytes=0-" + b"9" * 5000, Selection(206, 0, 100)),
    (b"bytes=-" + b"9" * 5000, Selection(206, 0, 100)),
    (b"bytes=100-", Selection(416)),
    (b"bytes=100-200", Selection(416)),
    (b"bytes=-0", Selection(416)),
    (b"bytes=" + b"9" * 5000 + b"-", Selection(416)),
    # can't be read, or several at once: answered in full
    (b"", WHOLE),
    (b"bytes=-", WHOLE),
    (b"bytes=5-3", WHOLE),
    (b"bytes=a-b", WHOLE),
    (b"bytes=0-1,5-6", WHOLE),
    (b"items=0-1", WHOLE),
    ("bytes=٣-".encode(), WHOLE),
]


@pytest.mark.parametrize(("value", "selection"), RANGES, ids=lambda value: repr(value)[:30])
def test_ranges(value: bytes, selection: Selection) -> None:
    assert select({b"range": value}, SIZE, ETAG, TIME) == selection


@pytest.mark.parametrize(("value", "selection"), [(b"bytes=0-", 416), (b"bytes=-5", 416), (b"bytes=0-0", 416)])
def test_no_byte_of_nothing(value: bytes, selection: int) -> None:
    assert select({b"range": value}, 0, ETAG, TIME) == Selection(selection)
    assert select({}, 0, ETAG, TIME) == Selection(200, 0, 0)


# conditions, status; with an entity tag and a date
CONDITIONS = [
    ({}, 200),
    ({b"if-match": ETAG}, 200),
    ({b"if-match": b"*"}, 200),
    ({b"if-match": b'"other", ' + ETAG}, 200),
    ({b"if-match": b'"other"'}, 412),
    ({b"if-match": b"W/" + ETAG}, 412),
    ({b"if-match": ETAG, b"if-unmodified-since": BEFORE}, 200),
    ({b"if-unmodified-since": BEFORE}, 412),
    ({b"if-unmodified-since": SAME}, 200),
    ({b"if-unmodified-since": AFTER}, 200),
    ({b"if-unmodified-since": b"yesterday"}, 200),
    ({b"if-none-match": ETAG}, 304),
    ({b"if-none-match": b"W/" + ETAG}, 304),
    ({b"if-none-match": b"*"}, 304),
    ({b"if-none-match": b'"a" , ' + ETAG}, 304),
    ({b"if-none-match": b'"other"'}, 200),
    ({b"if-none-match": b'"other"', b"if-modified-since": SAME}, 200),
    ({b"if-modified-since": BEFORE}, 200),
    ({b"if-modified-since": SAME}, 304),
    ({b"if-modified-since": AFTER}, 304),
    ({b"if-modified-since": b"\xff"}, 200),
    ({b"if-match": b'"other"', b"if-none-match": ETAG}, 412),
    ({b"if-none-match": ETAG, b"range": b"bytes=0-1"}, 304),
    ({b"if-match": b'"other"', b"range": b"bytes=500-"}, 412),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
def test_conditions(headers: dict[bytes, bytes], status: int) -> None:
    assert select(headers, SIZE, ETAG, TIME).status == status


# the same for what may change at any moment: neither tag nor date
UNKNOWN = [
    ({b"if-match": ETAG}, 412),
    ({b"if-match": b"*"}, 200),
    ({b"if-unmodified-since": AFTER}, 412),
    ({b"if-none-match": ETAG}, 200),
    ({b"if-modified-since": AFTER}, 200),
    ({b"range": b"bytes=0-1"}, 206),
    ({b"range": b"bytes=0-1", b"if-range": ETAG}, 200),
    ({b"range": b"bytes=0-1", b"if-range": SAME}, 200),
]


@pytest.mark.parametrize(("headers", "status"), UNKNOWN)
def test_conditions_on_what_has_no_version(headers: dict[bytes, bytes], status: int) -> None:
    assert select(headers, SIZE, None, None).status == status


IF_RANGE = [
    (ETAG, 206),
    (b'"other"', 200),
    (b"W/" + ETAG, 200),
    (SAME, 206),
    (BEFORE, 200),
    (AFTER, 200),
    (b"yesterday", 200),
]


@pytest.mark.parametrize(("condition", "status"), IF_RANGE)
def test_a_range_only_of_the_same_version(condition: bytes, status: int) -> None:
    assert select({b"range": b"bytes=0-1", b"if-range": condition}, SIZE, ETAG, TIME).status == status


FIELDS = [b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"]
DATES = st.one_of(
    st.binary(max_size=40),
    st.text("0123456789 :,+-GMTJanFebMon", max_size=40).map(str.encode),
    st.sampled_from([SAME, b"Mon, 01 Jan 0001 00:00:00 +2359", b"Fri, 31 Dec 9999 23:59:59 -2359", b"1 Jan 1 0:0:0 -0000"]),
)


@given(st.dictionaries(st.sampled_from(FIELDS), DATES), st.integers(0, 200), st.sampled_from([ETAG, None]))
def test_no_header_can_break_it(headers: dict[bytes, bytes], size: int, etag: bytes | None) -> None:
    selection = select(headers, size, etag, TIME if etag else None)
    assert selection.status in (200, 206, 304, 412, 416)
    if selection.status in (200, 206):
        assert 0 <= selection.start <= selection.end <= size
    if selection.status == 206:
        assert selection.start < selection.end


@given(first=st.integers(0, 150), last=st.integers(0, 150))
def test_a_range_is_what_the_rfc_says(first: int, last: int) -> None:
    selection = select({b"range": b"bytes=%d-%d" % (first, last)}, SIZE, ETAG, TIME)
    if last < first:
        assert selection == WHOLE
    elif first >= SIZE:
        assert selection == Selection(416)
    else:
        assert list(range(SIZE))[first : last + 1] == list(range(selection.start, selection.end))


# Several forms

CODED = {"zstd": Form(40, b'"id-zstd"')}
ZSTD = {b"accept-encoding": b"gzip, zstd"}

# headers, status and coding
FORMS: list[tuple[dict[bytes, bytes], tuple[int, str]]] = [
    ({}, (200, "identity")),
    (ZSTD, (200, "zstd")),
    ({b"accept-encoding": b"zstd;q=0.2, identity"}, (200, "identity")),
    ({b"accept-encoding": b"identity;q=0"}, (200, "identity")),
    # ranges are of the bytes as they are; one that does not apply leaves the choice
    (ZSTD | {b"range": b"bytes=0-9"}, (206, "identity")),
    (ZSTD | {b"range": b"bytes=60-"}, (206, "identity")),
    (ZSTD | {b"range": b"bytes=100-"}, (416, "identity")),
    (ZSTD | {b"range": b"bytes=0-1,4-5"}, (200, "zstd")),
    (ZSTD | {b"range": b"bytes=x"}, (200, "zstd")),
    (ZSTD | {b"range": b"bytes=0-9", b"if-range": ETAG}, (206, "identity")),
    (ZSTD | {b"range": b"bytes=0-9", b"if-range": SAME}, (206, "identity")),
    (ZSTD | {b"range": b"bytes=0-9", b"if-range": b'"id-zstd"'}, (200, "zstd")),
    ({b"range": b"bytes=0-9", b"if-range": b'"id-zstd"'}, (200, "identity")),
    # 304 says which form is the right one
    (ZSTD | {b"if-none-match": b'"id-zstd"'}, (304, "zstd")),
    (ZSTD | {b"if-none-match": b'W/"id-zstd"'}, (304, "zstd")),
    (ZSTD | {b"if-none-match": ETAG}, (304, "identity")),
    (ZSTD | {b"if-none-match": ETAG + b', "id-zstd"'}, (304, "zstd")),
    (ZSTD | {b"if-none-match": b"*"}, (304, "zstd")),
    (ZSTD | {b"if-none-match": b'"other"'}, (200, "zstd")),
    (ZSTD | {b"if-modified-since": SAME}, (304, "zstd")),
    ({b"if-none-match": b'"id-zstd"'}, (200, "identity")),
    ({b"accept-encoding": b"identity;q=0, zstd", b"if-none-match": ETAG}, (200, "zstd")),
    ({b"accept-encoding": b"zstd;q=0.2, identity", b"if-none-match": b'"id-zstd"'}, (304, "zstd")),
    (ZSTD | {b"range": b"bytes=0-9", b"if-none-match": b'"id-zstd"'}, (206, "identity")),
    (ZSTD | {b"range": b"bytes=0-9", b"if-none-match": ETAG}, (304, "identity")),
    # If-Match means the content; but what a range has to fit to is no other form
    (ZSTD | {b"if-match": b'"id-zstd"'}, (200, "zstd")),
    (ZSTD | {b"if-match": ETAG}, (200, "zstd")),
    ({b"if-match": b'"id-zstd"'}, (200, "identity")),
    (ZSTD | {b"if-match": b'"other"'}, (412, "zstd")),
    (ZSTD | {b"if-unmodified-since": BEFORE}, (412, "zstd")),
    (ZSTD | {b"if-match": b'"id-zstd"', b"range": b"bytes=0-9"}, (412, "identity")),
    (ZSTD | {b"if-match": ETAG, b"range": b"bytes=0-9"}, (206, "identity")),
]


@pytest.mark.parametrize(("headers", "expected"), FORMS)
def test_forms(headers: dict[bytes, bytes], expected: tuple[int, str]) -> None:
    selection = select(headers, SIZE, ETAG, TIME, coded=CODED)
    assert (selection.status, selection.coding) == expected
    if selection.status == 200:
        assert (selection.start, selection.end) == (0, 40 if selection.coding == "zstd" else SIZE)


def test_without_ranges_there_is_none() -> None:
    wanted = {b"range": b"bytes=0-9"}
    assert select(wanted, SIZE, ETAG, TIME, ranges=False) == WHOLE
    assert select(wanted | ZSTD, SIZE, ETAG, TIME, coded=CODED, ranges=False) == Selection(200, 0, 40, "zstd")
    assert select({b"range": b"bytes=500-"}, SIZE, ETAG, TIME, ranges=False) == WHOLE
