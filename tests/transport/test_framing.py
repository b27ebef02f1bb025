"""Where bodies end: tables, any split of the input, and the same as httptools says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tusd_py.transport.framing import MAX_LINE, MAX_TRAILERS, UNBOUNDED, ChunkedFraming, Framing, LengthFraming


def feed(framing: Framing, *pieces: bytes) -> bytes:
    """The payload in `pieces`, fed as a connection does: what comes behind the body is the next request's."""
    payload = b""
    for piece in pieces:
        if framing.finished:
            framing.leftover += piece
        else:
            payload += b"".join(framing.feed(memoryview(piece)))
    return payload


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


# By length


@pytest.mark.parametrize(
    ("length", "data", "payload", "leftover", "finished"),
    [
        (0, b"", b"", b"", True),
        (5, b"", b"", b"", False),
        (5, b"hel", b"hel", b"", False),
        (5, b"hello", b"hello", b"", True),
        (5, b"hello GET", b"hello", b" GET", True),
    ],
)
def test_length(length: int, data: bytes, payload: bytes, leftover: bytes, finished: bool) -> None:
    framing = LengthFraming(length)
    assert feed(framing, *([data] if data else [])) == payload
    assert (framing.leftover, framing.finished, framing.malformed, framing.trailers) == (leftover, finished, None, {})
    assert framing.wanted == length - len(payload), "so that nothing of the next request is read"


@given(st.binary(max_size=30), st.binary(max_size=10), st.lists(st.integers(0, 99), max_size=6))
def test_any_split_of_a_body_by_length(body: bytes, behind: bytes, cuts: list[int]) -> None:
    framing = LengthFraming(len(body))
    assert feed(framing, *split(body + behind, cuts)) == body
    assert framing.finished and framing.leftover == behind


# Chunked

WHOLE: list[tuple[bytes, bytes, dict[bytes, bytes]]] = [
    (b"0\r\n\r\n", b"", {}),
    (b"000\r\n\r\n", b"", {}),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", {}),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", {}),
    (b"0005\r\nhello\r\n0\r\n\r\n", b"hello", {}),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", {}),
    (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", {}),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", {}),
    (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello", {}),
    (b'5;name="va;lue"\r\nhello\r\n0\r\n\r\n', b"hello", {}),
    (b"5 \t;name\r\nhello\r\n0\r\n\r\n", b"hello", {}),
    (b"5 \r\nhello\r\n0\r\n\r\n", b"hello", {}),
    (b"5;\xff\r\nhello\r\n0\r\n\r\n", b"hello", {}),
    (b"0\r\nName: value\r\n\r\n", b"", {b"name": b"value"}),
    (b"0\r\nNAME:\t value \t\r\nother:\r\n\r\n", b"", {b"name": b"value", b"other": b""}),
    (b"0\r\na: x\r\nA: x\r\n\r\n", b"", {b"a": b"x"}),
    (b"0\r\na: x\r\nA: y\r\n\r\n", b"", {b"a": b"x, y"}),
    (b"0\r\na: x : y\r\n\r\n", b"", {b"a": b"x : y"}),
    (b"0\r\na: \xc3\xa4\r\n\r\n", b"", {b"a": b"\xc3\xa4"}),
    (b"5;" + b"x" * (MAX_LINE - 4) + b"\r\nhello\r\n0\r\n\r\n", b"hello", {}),
]

SHORT = [
    b"",
    b"5",
    b"5\r",
    b"5\r\n",
    b"5\r\nhel",
    b"5\r\nhello",
    b"5\r\nhello\r\n",
    b"0\r\n",
    b"0\r\nName: value\r\n",
    b"0\r\n\r",
]

BROKEN: list[tuple[bytes, bytes, str]] = [  # with the payload before the place
    (b"\r\n", b"", "hexadecimal"),
    (b"x\r\n", b"", "hexadecimal"),
    (b"-5\r\n", b"", "hexadecimal"),
    (b"+5\r\n", b"", "hexadecimal"),
    (b"0x5\r\n", b"", "hexadecimal"),
    (b" 5\r\n", b"", "hexadecimal"),
    (b"5 5\r\n", b"", "hexadecimal"),
    (b"5;a\x00\r\n", b"", "hexadecimal"),
    (b"5;a\r b\r\n", b"", "hexadecimal"),
    (b"5_0\r\n", b"", "hexadecimal"),
    ("٣\r\n".encode(), b"", "hexadecimal"),
    (b"1000000000000000\r\n", b"", "hexadecimal"),  # 2**60: more than any upload
    (b"5\nhello\r\n0\r\n\r\n", b"", "CRLF"),
    (b"5\r\nhello\n0\r\n\r\n", b"hello", "CRLF"),
    (b"5\r\nhello\r\n0\n\r\n", b"hello", "CRLF"),
    (b"5\r\nhello\r\n0\r\n\n", b"hello", "CRLF"),
    (b"5\r\nhello!\r\n", b"hello", "longer than its size"),
    (b"3\r\nhello\r\n", b"hel", "longer than its size"),
    (b"5\r\nhello0\r\n\r\n", b"hello", "longer than its size"),
    (b"0\r\nno colon\r\n", b"", "trailer"),
    (b"0\r\n: value\r\n", b"", "trailer"),
    (b"0\r\nna me: value\r\n", b"", "trailer"),
    (b"0\r\nname : value\r\n", b"", "trailer"),
    (b"0\r\n name: value\r\n", b"", "trailer"),
    (b"0\r\nname: va\x00lue\r\n", b"", "trailer"),
    (b"0\r\nname: va\rlue\r\n", b"", "trailer"),
    (b"5;" + b"x" * (MAX_LINE - 3) + b"\r\n", b"", "exceeds"),
    (b"5;" + b"x" * 3 * MAX_LINE, b"", "exceeds"),
    (b"0\r\n" + b"name: %s\r\n" % (b"x" * 4000) * (MAX_TRAILERS // 4000 + 1), b"", "too many"),
]


@pytest.mark.parametrize(("data", "payload", "trailers"), WHOLE)
@pytest.mark.parametrize("step", [1, 2, 3, 10_000])
def test_whole_bodies(data: bytes, payload: bytes, trailers: dict[bytes, bytes], step: int) -> None:
    framing = ChunkedFraming()
    assert feed(framing, *(data[start : start + step] for start in range(0, len(data), step))) == payload
    assert framing.finished and framing.malformed is None
    assert framing.trailers == trailers and framing.leftover == b""
    assert framing.wanted == UNBOUNDED


@pytest.mark.parametrize("data", SHORT)
def test_bodies_that_go_on(data: bytes) -> None:
    framing = ChunkedFraming()
    feed(framing, data)
    assert not framing.finished and framing.malformed is None


@pytest.mark.parametrize(("data", "payload", "reason"), BROKEN, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_broken_bodies(data: bytes, payload: bytes, reason: str, step: int) -> None:
    framing, found = ChunkedFraming(), b""
    for start in range(0, len(data), step):
        if not framing.malformed:
            found += b"".join(framing.feed(memoryview(data)[start : start + step]))
    assert framing.malformed is not None and reason in framing.malformed
    assert found == payload and not framing.finished


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b;c"', b" ;a"])
TOKENS = st.text("abcXYZ-_09", min_size=1, max_size=8).map(str.encode)
VALUES = st.text("abc XYZ:;,=/+09\u00e4", max_size=20).map(lambda text: text.strip().encode())
TRAILERS = st.lists(st.tuples(TOKENS, VALUES), max_size=3, unique_by=lambda pair: pair[0].lower())


@dataclass
class Stream:
    """A valid chunked body on the wire, and what is in it."""

    chunks: list[bytes]
    trailers: dict[bytes, bytes]
    wire: bytes = field(default=b"", repr=False)

    @property
    def payload(self) -> bytes:
        return b"".join(self.chunks)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    chunks, pairs = draw(CHUNKS), draw(TRAILERS)
    wire = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), draw(EXTENSIONS), chunk) for chunk in chunks)
    wire += b"0" + draw(EXTENSIONS) + b"\r\n" + b"".join(b"%s: %s\r\n" % pair for pair in pairs) + b"\r\n"
    return Stream(chunks, {name.lower(): value for name, value in pairs}, wire)


@given(streams(), st.binary(max_size=10), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_of_a_chunked_body(stream: Stream, behind: bytes, cuts: list[int]) -> None:
    framing = ChunkedFraming()
    assert feed(framing, *split(stream.wire + behind, cuts)) == stream.payload
    assert framing.finished and framing.trailers == stream.trailers and framing.leftover == behind


@given(st.one_of(st.binary(), st.text("05aF;\r\n: x", max_size=30).map(str.encode)), st.lists(st.integers(0, 99), max_size=5))
def test_any_split_of_anything(data: bytes, cuts: list[int]) -> None:
    """Broken or not, what comes out does not depend on how the network cut it."""
    outcomes = []
    for pieces in ([data], split(data, cuts)):
        framing, payload, fed = ChunkedFraming(), b"", 0
        for piece in pieces:
            if not framing.finished and not framing.malformed:
                payload += b"".join(framing.feed(memoryview(piece)))
                fed += len(piece)
        outcomes.append((payload, framing.finished, framing.malformed, framing.trailers, framing.leftover + data[fed:]))
    if outcomes[0][1]:
        assert outcomes[0] == outcomes[1]
    else:
        assert outcomes[0][:4] == outcomes[1][:4]


def test_payload_is_not_copied() -> None:
    data = bytearray(b"5\r\nhello\r\n0\r\n\r\n")
    (piece,) = ChunkedFraming().feed(memoryview(data))
    data[3:8] = b"HELLO"
    assert bytes(piece) == b"HELLO"


# What httptools, which nginx's and node's relatives agree with, makes of the same bytes


class Judge:
    """A chunked body as httptools reads it; `verdict` is True for a whole body, False for a broken one."""

    def __init__(self, data: bytes) -> None:
        self.payload = b""
        self.verdict: bool | None = None
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + data)
        except httptools.HttpParserError:
            self.verdict = self.verdict or False

    def on_body(self, data: bytes) -> None:
        if self.verdict is None:
            self.payload += data

    def on_message_complete(self) -> None:
        self.verdict = True


DIFFERENT = {
    "blanks behind a chunk's size": re.compile(rb"(?:^|\n)[0-9A-Fa-f]+[ \t]+(?:;|\r)"),
    "anything in an extension": re.compile(rb"(?:^|\n)[0-9A-Fa-f]+[ \t]*;"),
    "sizes of at most 15 digits": re.compile(rb"[0-9A-Fa-f]{16}"),
    "control characters and folded lines in trailers": re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\n[ \t]"),
    "blanks before the colon of a trailer": re.compile(rb"[ \t]:"),
}
"""Where we read otherwise than httptools, and know it: extensions are dropped unread, trailers are read strictly."""

MUTATIONS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from([b"", b"\r", b"\n", b"0", b"x", b":", b" ", b"\t", b"\x00"])), max_size=2
)


@given(streams(), MUTATIONS)
@example(Stream([], {}, b"5\nhello\r\n0\r\n\r\n"), [])
@example(Stream([], {}, b"0\r\n\n"), [])
def test_the_same_as_httptools(stream: Stream, mutations: list[tuple[int, bytes]]) -> None:
    data = stream.wire
    for place, replacement in mutations:
        place %= len(data)
        data = data[:place] + replacement + data[place + 1 :]
        if not data:
            return
    if any(pattern.search(data) for pattern in DIFFERENT.values()):
        return
    judge, framing = Judge(data), ChunkedFraming()
    payload = b"".join(framing.feed(memoryview(data)))
    ours = True if framing.finished else False if framing.malformed else None
    if judge.verdict is True or ours is True:
        assert (ours, payload) == (judge.verdict, judge.payload), data
