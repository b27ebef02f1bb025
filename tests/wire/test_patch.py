"""PATCH: rows P01 to P24, and the manners of an early refusal."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.server import ServerProcess
from tests.support.waiting import (
    begin_patch,
    reset,
    until,
    until_continue,
    until_delivered,
    until_offset,
    visible_offset,
)
from tests.support.wire import OFFSET_STREAM, Answer, Connection, TusClient, chunked
from tests.wire import assert_closed_or_in_sync, assert_ended_orderly, assert_in_sync, assert_refused, stored

CHUNKED = {"Transfer-Encoding": "chunked"}
LARGE = 10_000_000
"""More than any socket buffer on the way takes: a client that sends this much is held up unless somebody reads."""


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("impatient") / "data", "-network-timeout=1s") as server:
        yield server


def patch_head(length: int | None, offset: object = 0, **others: object) -> dict[str, object]:
    framing: dict[str, object] = dict(CHUNKED) if length is None else {"Content-Length": length}
    others = {name.replace("_", "-"): value for name, value in others.items()}
    return {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM, **framing, **others}


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes that tell their own position, so that a shifted or doubled piece can't go unseen."""
    return b"".join(b"%d%07d" % (seed, number) for number in range(length // 8 + 1))[:length]


# Plain appends


def test_p01_p02_two_halves(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(10)
    first = tus.patch(path, 0, b"hello")
    assert (first.status, first.headers["upload-offset"], first.body) == (204, "5", b"")
    assert (tus.offset(path), stored(shared_server, path)) == (5, b"hello")
    second = tus.patch(path, 5, b"world")
    assert (second.status, second.headers["upload-offset"], second.body) == (204, "10", b"")
    assert (tus.offset(path), stored(shared_server, path)) == (10, b"helloworld")


@pytest.mark.parametrize("size", [1, 4096, 65536, 1_000_003, 20_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_p01_sizes(tus: TusClient, shared_server: ServerProcess, size: int, framing: str) -> None:
    data = pattern(size)
    path = tus.create(size)
    if framing == "length":
        answer = tus.patch(path, 0, data)
    else:
        pieces = [data[at : at + 70_000] for at in range(0, size, 70_000)]
        answer = tus.request("PATCH", path, patch_head(None), chunked(*pieces))
    assert (answer.status, answer.offset) == (204, size)
    assert stored(shared_server, path) == data
    assert tus.delete(path).status == 204


def test_p01_many_small_patches_on_one_connection(tus: TusClient, shared_server: ServerProcess) -> None:
    path, data = tus.create(2000), pattern(2000)
    with tus.connect() as connection:
        for at in range(0, 2000, 20):
            answer = connection.request("PATCH", path, patch_head(20, at), data[at : at + 20])
            assert (answer.status, answer.offset) == (204, at + 20)
    assert stored(shared_server, path) == data


@pytest.mark.parametrize("offset", [pytest.param(4, id="P03-lower"), pytest.param(6, id="P03-higher"), 0, 10, 2**63 - 1])
def test_p03_wrong_offset(tus: TusClient, shared_server: ServerProcess, offset: int) -> None:
    path = tus.create(10, b"hello")
    answer = tus.patch(path, offset, b"wor")
    assert_refused(answer, 409, "ERR_MISMATCHED_OFFSET")
    assert answer.offset == 5
    assert (tus.offset(path), stored(shared_server, path)) == (5, b"hello")


BAD_OFFSETS = {
    "missing": None,
    "negative": "-5",
    "word": "abc",
    "fraction": "5.0",
    "too-large": str(2**63),
    "huge": "9" * 400,
    "empty": "",
    "plus": "+5",
    "minus-zero": "-0",
    "leading-zeros": "005",
    "hexadecimal": "0x5",
    "underscore": "0_5",
    "list": "5,5",
    "blank-inside": "5 5",
    "arabic-digit": "\u0665",
    "fullwidth-digit": "\uff15",
    "exponent": "5e0",
}


@pytest.mark.parametrize("value", [pytest.param(value, id=f"P04-{name}") for name, value in BAD_OFFSETS.items()])
def test_p04_invalid_offset(tus: TusClient, shared_server: ServerProcess, value: str | None) -> None:
    path = tus.create(10, b"hello")
    headers: dict[str, object] = {"Content-Type": OFFSET_STREAM}
    if value is not None:
        headers["Upload-Offset"] = value
    assert_refused(tus.request("PATCH", path, headers, b"wor"), 400, "ERR_INVALID_OFFSET")
    assert (tus.offset(path), stored(shared_server, path)) == (5, b"hello")


def test_p04_blanks_around_the_offset(tus: TusClient) -> None:
    path = tus.create(10, b"hello")
    assert tus.patch(path, 0, b"wor", Upload_Offset=" \t 5 \t ").offset == 8


OTHER_TYPES = [None, "", "text/plain", "application/octet-stream", "application/offset+octet-streams", "offset+octet-stream"]


@pytest.mark.parametrize("content_type", [pytest.param(value, id=f"P05-{value}") for value in OTHER_TYPES])
def test_p05_other_content_type(tus: TusClient, shared_server: ServerProcess, content_type: str | None) -> None:
    path = tus.create(10)
    headers: dict[str, object] = {"Upload-Offset": 0}
    if content_type is not None:
        headers["Content-Type"] = content_type
    assert_refused(tus.request("PATCH", path, headers, b"hello"), 415, "ERR_INVALID_CONTENT_TYPE")
    assert (tus.offset(path), stored(shared_server, path)) == (0, b"")


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("APPLICATION/OFFSET+OCTET-STREAM", id="P06-upper"),
        pytest.param("Application/Offset+Octet-Stream", id="P06-mixed"),
        pytest.param("application/offset+octet-stream; charset=utf-8", id="P06-charset"),
        pytest.param("application/offset+octet-stream;charset=UTF-8", id="P06-no-blank"),
        pytest.param("application/offset+octet-stream ; a=b; c=d", id="P06-parameters"),
    ],
)
def test_p06_content_type_is_a_media_type(tus: TusClient, shared_server: ServerProcess, content_type: str) -> None:
    path = tus.create(10)
    assert tus.patch(path, 0, b"hello", Content_Type=content_type).offset == 5
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("path", ["/files/0123456789abcdef0123456789abcdef", "/files/unknown", "/files/a/b"])
def test_p07_unknown_upload(tus: TusClient, path: str) -> None:
    assert_refused(tus.patch(path, 0, b"hello"), 404, "ERR_UPLOAD_NOT_FOUND")


# Bodies that are too long, and empty ones


@pytest.mark.parametrize("length", [pytest.param(6, id="P08-one-more"), pytest.param(LARGE, id="P08-large")])
def test_p08_longer_than_the_rest(tus: TusClient, shared_server: ServerProcess, length: int) -> None:
    """Refused by its head alone: no byte of the body is sent before the answer is there."""
    path = tus.create(10, b"hello")
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(length, 5))
        assert_refused(connection.answer(), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
        assert_ended_orderly(connection)
    assert (tus.offset(path), stored(shared_server, path)) == (5, b"hello")


@pytest.mark.parametrize("length", [2**63 - 1, 2**63 - 6, 2**64 - 6])
def test_p08_offset_and_length_do_not_wrap_around(tus: TusClient, shared_server: ServerProcess, length: int) -> None:
    path = tus.create(10, b"hello")
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(length, 5))
        answer = connection.answer()
        assert answer.status in ({413} if length < 2**63 else {400, 413})
        assert connection.is_closed()
    assert (tus.offset(path), stored(shared_server, path)) == (5, b"hello")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([b"hello", b"!"], id="P09-next-chunk"),
        pytest.param([b"hello!"], id="P09-same-chunk"),
        pytest.param([b"x" * 60_000], id="P09-far-beyond"),
        pytest.param([b"he", b"l", b"lo world"], id="P09-small-chunks"),
    ],
)
def test_p09_chunked_and_too_long(tus: TusClient, shared_server: ServerProcess, sent: list[bytes]) -> None:
    """The answer comes at the limit: the body has no end here."""
    path = tus.create(10, b"12345")
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(None, 5))
        connection.send(chunked(*sent, end=False))
        assert_refused(connection.answer(), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
        assert_ended_orderly(connection)
    offset = tus.offset(path)
    assert 5 <= offset <= 10
    assert stored(shared_server, path) == (b"12345" + b"".join(sent))[:offset]


def test_p10_chunked_within_limits(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(10)
    answer = tus.request("PATCH", path, patch_head(None), chunked(b"h", b"el", b"lo"))
    assert (answer.status, answer.offset, answer.body) == (204, 5, b"")
    answer = tus.request("PATCH", path, patch_head(None, 5), chunked(b"world"))
    assert (answer.status, answer.offset) == (204, 10)
    assert stored(shared_server, path) == b"helloworld"


def test_p10_chunk_extensions_and_upper_case_sizes(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(15)
    body = b'A;name=value\r\n0123456789\r\n0005;x="y"\r\nabcde\r\n000\r\n\r\n'
    assert tus.request("PATCH", path, patch_head(None), body).offset == 15
    assert stored(shared_server, path) == b"0123456789abcde"


def test_p10_one_byte_at_a_time(tus: TusClient, shared_server: ServerProcess) -> None:
    """However the framing falls into packets, it is framing."""
    path = tus.create(5)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(None))
        for byte in chunked(b"hel", b"lo"):
            connection.send(bytes([byte]))
        assert connection.answer().offset == 5
        assert_in_sync(connection)
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("length", "data"),
    [
        pytest.param(10, b"hello", id="P11-mid-upload"),
        pytest.param(10, None, id="P11-untouched"),
        pytest.param(5, b"hello", id="P12-finished"),
        pytest.param(0, None, id="P15-zero-length"),
        pytest.param(None, b"hello", id="P11-deferred"),
    ],
)
def test_p11_p12_p15_empty_patch(
    tus: TusClient, shared_server: ServerProcess, length: int | None, data: bytes | None, framing: str
) -> None:
    path, offset = tus.create(length, data), len(data or b"")
    with tus.connect() as connection:
        body = b"" if framing == "length" else chunked()
        answer = connection.request("PATCH", path, patch_head(0 if framing == "length" else None, offset), body)
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(offset))
        assert_in_sync(connection)
    assert (tus.offset(path), stored(shared_server, path)) == (offset, data or b"")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("length", "data"), [pytest.param(5, b"hello", id="P13-finished"), pytest.param(0, None, id="P13-zero")]
)
def test_p13_bytes_for_a_finished_upload(
    tus: TusClient, shared_server: ServerProcess, length: int, data: bytes | None, framing: str
) -> None:
    """tusd acknowledges and drops them."""
    path = tus.create(length, data)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(1 if framing == "length" else None, length))
        connection.send(b"!" if framing == "length" else chunked(b"!", end=False))
        assert_refused(connection.answer(), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert (tus.offset(path), stored(shared_server, path)) == (length, data or b"")


@pytest.mark.parametrize("offset", [0, 4, 6])
@pytest.mark.parametrize("body", [b"", b"x"])
def test_p14_finished_and_another_offset(tus: TusClient, offset: int, body: bytes) -> None:
    path = tus.create(5, b"hello")
    answer = tus.patch(path, offset, body)
    assert_refused(answer, 409, "ERR_MISMATCHED_OFFSET")
    assert answer.offset == 5


# Connections that end in the middle


SIZES = [500, 100_000, 5_000_000]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [pytest.param(size, id=f"P16-fin-{size}") for size in SIZES])
def test_p16_fin_keeps_everything(tus: TusClient, shared_server: ServerProcess, size: int, framing: str) -> None:
    data = pattern(size)
    path = tus.create(size + 1000)
    connection = tus.connect()
    connection.send_head("PATCH", path, patch_head(size + 1000 if framing == "length" else None))
    connection.send(data if framing == "length" else b"%x\r\n%s" % (size + 1000, data))
    connection.sock.close()
    until_offset(tus, path, size)
    assert stored(shared_server, path) == data
    assert tus.patch(path, size, b"z" * 1000).offset == size + 1000
    assert stored(shared_server, path) == data + b"z" * 1000
    assert tus.delete(path).status == 204


@pytest.mark.parametrize("size", [pytest.param(size, id=f"P16-rst-{size}") for size in SIZES])
def test_p16_reset_keeps_everything_that_arrived(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    """A reset destroys what is still on its way; what this machine has acknowledged can be read even after it."""
    data = pattern(size)
    path = tus.create(size + 1000)
    connection = begin_patch(tus, path, 0, size + 1000)
    connection.send(data)
    until_delivered(connection)
    reset(connection)
    until_offset(tus, path, size)
    assert stored(shared_server, path) == data
    assert tus.patch(path, size, b"z" * 1000).offset == size + 1000
    assert stored(shared_server, path) == data + b"z" * 1000
    assert tus.delete(path).status == 204


@pytest.mark.parametrize("size", [pytest.param(size, id=f"P16-rst-at-once-{size}") for size in SIZES])
def test_p16_reset_in_full_flight_leaves_a_prefix(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    """Some bytes may be lost here, but those that are kept are the first ones, and the upload goes on from them."""
    data = pattern(size)
    path = tus.create(size + 1000)
    connection = tus.connect()
    connection.send_head("PATCH", path, patch_head(size + 1000))
    connection.send(data)
    reset(connection)

    def resumed() -> bool:
        offset = tus.offset(path)
        assert stored(shared_server, path)[:offset] == data[:offset]
        answer = tus.patch(path, offset, data[offset:] + b"z" * 1000)
        assert answer.status in {204, 409}  # 409: the server came to the first request only now
        return answer.status == 204

    until(resumed)
    assert stored(shared_server, path) == data + b"z" * 1000
    assert tus.delete(path).status == 204


@pytest.mark.parametrize("size", [pytest.param(size, id=f"P16-rst-quiet-{size}") for size in SIZES])
def test_p16_reset_after_a_pause_keeps_everything(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    """Bytes that came before a pause are on disk before the connection ends: nothing waits in memory for more of them."""
    data = pattern(size)
    path = tus.create(size + 1000)
    connection = begin_patch(tus, path, 0, size + 1000)
    connection.send(data)
    until(lambda: len(stored(shared_server, path)) == size, what="all bytes on disk")
    reset(connection)
    assert tus.offset(path) == size
    assert stored(shared_server, path) == data
    assert tus.delete(path).status == 204


def test_p16_cut_between_head_and_body(tus: TusClient) -> None:
    path = tus.create(10)
    connection = tus.connect()
    connection.send_head("PATCH", path, patch_head(10))
    connection.sock.close()
    assert tus.patch(path, 0, b"helloworld").offset == 10


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [pytest.param(size, id=f"P17-{size}") for size in (0, *SIZES)])
def test_p17_half_close(tus: TusClient, shared_server: ServerProcess, size: int, framing: str) -> None:
    data = pattern(size)
    path = tus.create(size + 10)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(size + 10 if framing == "length" else None))
        connection.send(data if framing == "length" else chunked(data, end=False))
        connection.sock.shutdown(socket.SHUT_WR)
        assert_refused(connection.answer(), 400, "ERR_UNEXPECTED_EOF")
        assert connection.is_closed()
    assert (tus.offset(path), stored(shared_server, path)) == (size, data)
    assert tus.delete(path).status == 204


def test_p17_half_close_after_a_whole_request(tus: TusClient) -> None:
    """A client that has said everything may stop talking and still gets its answer."""
    path = tus.create(10)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(5))
        connection.send(b"hello")
        connection.sock.shutdown(socket.SHUT_WR)
        answer = connection.answer()
        assert (answer.status, answer.offset) == (204, 5)
        assert connection.is_closed()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [pytest.param(size, id=f"P18-{size}") for size in (0, 500, 100_000)])
def test_p18_silence(impatient_server: ServerProcess, size: int, framing: str) -> None:
    tus, data = impatient_server.client(), pattern(size)
    path = tus.create(size + 10)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(size + 10 if framing == "length" else None))
        connection.send(data if framing == "length" else chunked(data, end=False))
        assert_refused(connection.answer(), 500, "ERR_READ_TIMEOUT")
        assert connection.is_closed()
    assert (tus.offset(path), stored(impatient_server, path)) == (size, data)
    assert tus.patch(path, size, b"0123456789").offset == size + 10


def test_p18_slow_is_not_silent(impatient_server: ServerProcess) -> None:
    """The timeout runs from byte to byte, not from the start: this body takes more than one of them."""
    tus = impatient_server.client()
    path = tus.create(8)
    pause = threading.Event()
    with begin_patch(tus, path, 0, 8) as connection:
        for byte in b"12345678":
            connection.send(bytes([byte]))
            pause.wait(0.2)
        assert connection.answer().offset == 8


# Two at once


def test_p19_the_second_patch_takes_over(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(100)
    with begin_patch(tus, path, 0, 100) as first:
        first.send(b"a" * 40)
        offset = tus.offset(path)
        with tus.connect() as second:
            second.send_head("PATCH", path, patch_head(100 - offset, offset))
            second.send(b"b" * (100 - offset))
            answer = second.answer()
            assert (answer.status, answer.offset) == (204, 100)
        assert_refused(first.answer(), 400, "ERR_UPLOAD_INTERRUPTED")
        assert first.is_closed()
    assert stored(shared_server, path) == b"a" * offset + b"b" * (100 - offset)


@pytest.mark.parametrize("size", [40, 300_000])
def test_p19_a_patch_without_a_head_before_it(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    """Whoever comes second stops the first, then is held to the offset that the first one left."""
    data = pattern(size)
    path = tus.create(size * 2)
    with begin_patch(tus, path, 0, size * 2) as first:
        first.send(data)
        until_offset(tus, path, size)
        second = tus.patch(path, size - 1, b"b")
        assert_refused(second, 409, "ERR_MISMATCHED_OFFSET")
        assert second.offset == size
        assert_refused(first.answer(), 400, "ERR_UPLOAD_INTERRUPTED")
        assert first.is_closed()
    assert (tus.offset(path), stored(shared_server, path)) == (size, data)
    assert tus.patch(path, size, data).offset == size * 2


def test_p19_bytes_after_the_interruption_are_lost_to_the_first(tus: TusClient, shared_server: ServerProcess) -> None:
    """The first client may not have noticed yet; what it still sends must go nowhere."""
    path = tus.create(3000)
    with begin_patch(tus, path, 0, 3000) as first, begin_patch(tus, path, tus.offset(path), 3000) as second:
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                first.send(b"a" * 20)
        second.send(b"b" * 3000)
        assert second.answer().offset == 3000
    assert stored(shared_server, path) == b"b" * 3000


def append_at_current_offset(tus: TusClient, path: str, length: int, data: bytes) -> tuple[int, int] | None:
    """HEAD, then PATCH from there: what was acknowledged, if it was."""
    with tus.connect(30) as connection:
        offset = connection.request("HEAD", path).offset
        assert offset is not None
        try:
            answer = connection.request("PATCH", path, patch_head(length - offset, offset), data[offset:])
        except ConnectionError:
            return None
    assert answer.status in {204, 400, 409}, (answer.status, answer.body)
    if answer.status == 400:
        assert answer.text.startswith("ERR_UPLOAD_INTERRUPTED")
    return (offset, answer.offset or 0) if answer.status == 204 else None


def test_p19_a_crowd_never_interleaves(tus: TusClient, shared_server: ServerProcess) -> None:
    length, clients, rounds = 2_000_000, 6, 5
    path = tus.create(length)
    data = [pattern(length, seed) for seed in range(clients + 1)]

    def work(client: int) -> list[tuple[int, int, int]]:
        acknowledged = (append_at_current_offset(tus, path, length, data[client]) for _ in range(rounds))
        return [(client, *span) for span in acknowledged if span and span[0] != span[1]]

    with ThreadPoolExecutor(clients) as pool:
        spans = [span for found in pool.map(work, range(clients)) for span in found]
    offset = tus.offset(path)
    if offset < length:
        assert tus.patch(path, offset, data[clients][offset:]).offset == length
    content = stored(shared_server, path)
    assert len(content) == length
    for client, start, end in spans:
        assert content[start:end] == data[client][start:end], f"bytes {start} to {end} were acknowledged to client {client}"
    assert pieces(content, data) <= clients * rounds + 1
    assert tus.delete(path).status == 204


def pieces(content: bytes, sources: list[bytes]) -> int:
    """Of how many pieces, each from its own place in one of `sources`, `content` consists."""
    at = count = 0
    while at < len(content):
        longest = max(common_prefix(content[at:], source[at:]) for source in sources)
        assert longest, f"byte {at} is nobody's"
        at, count = at + longest, count + 1
    return count


def common_prefix(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# Headers that come along


@pytest.mark.parametrize("value", ["11", "9", "5", "0", "abc", "-10", "+10", "010", str(2**63)])
def test_p20_another_length(tus: TusClient, shared_server: ServerProcess, value: str) -> None:
    path = tus.create(10, b"hello")
    assert_refused(tus.patch(path, 5, b"world", Upload_Length=value), 400, "ERR_INVALID_UPLOAD_LENGTH")
    answer = tus.head(path)
    assert (answer.offset, answer.headers["upload-length"]) == (5, "10")
    assert stored(shared_server, path) == b"hello"


def test_p20_the_same_length_again(tus: TusClient) -> None:
    path = tus.create(10, b"hello")
    answer = tus.patch(path, 5, b"world", Upload_Length=10)
    assert (answer.status, answer.offset) == (204, 10)


@pytest.mark.parametrize("value", ["partial", "final;/files/nothing", "nonsense"])
def test_p21_upload_concat_is_only_for_creation(tus: TusClient, shared_server: ServerProcess, value: str) -> None:
    path = tus.create(10)
    assert tus.patch(path, 0, b"hello", Upload_Concat=value).offset == 5
    answer = tus.head(path, Upload_Concat=value)
    assert (answer.status, answer.offset) == (200, 5)
    assert "upload-concat" not in answer.headers
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_p22_continue_once_the_checks_are_passed(tus: TusClient, shared_server: ServerProcess, framing: str) -> None:
    path = tus.create(5)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, patch_head(5 if framing == "length" else None, Expect="100-continue"))
        until_continue(connection)
        connection.send(b"hello" if framing == "length" else chunked(b"hello"))
        answer = connection.answer()
        assert (answer.status, answer.offset, answer.interim) == (204, 5, [])
        assert_in_sync(connection)
    assert stored(shared_server, path) == b"hello"


def test_p22_body_before_the_continue(tus: TusClient) -> None:
    """RFC 9110, 10.1.1: the client needn't wait for the interim answer, and the server may leave it out then."""
    path = tus.create(5)
    with tus.connect() as connection:
        answer = connection.request("PATCH", path, patch_head(5, Expect="100-Continue"), b"hello")
        assert (answer.status, answer.offset) == (204, 5)
        assert len(answer.interim) <= 1
        assert_in_sync(connection)


INVALID = {
    "409": (409, "ERR_MISMATCHED_OFFSET", patch_head(5, 3)),
    "413": (413, "ERR_UPLOAD_SIZE_EXCEEDED", patch_head(LARGE)),
    "415": (415, "ERR_INVALID_CONTENT_TYPE", patch_head(5, Content_Type="text/plain")),
    "400-offset": (400, "ERR_INVALID_OFFSET", patch_head(5, "x")),
    "400-length": (400, "ERR_INVALID_UPLOAD_LENGTH", patch_head(5, Upload_Length="99")),
    "412": (412, "ERR_UNSUPPORTED_VERSION", patch_head(5, Tus_Resumable="0.1")),
    "404": (404, "ERR_UPLOAD_NOT_FOUND", patch_head(5)),
}


@pytest.mark.parametrize(
    ("status", "code", "headers"), [pytest.param(*case, id=f"P23-{name}") for name, case in INVALID.items()]
)
def test_p23_no_continue_for_a_refused_request(tus: TusClient, status: int, code: str, headers: dict[str, object]) -> None:
    path = "/files/unknown" if status == 404 else tus.create(10)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, {**headers, "Expect": "100-continue"})
        answer = connection.answer()
        assert_refused(answer, status, code)
        assert answer.interim == []
        assert_closed_or_in_sync(connection)


def test_p24_content_encoding_is_not_decoded(tus: TusClient, shared_server: ServerProcess) -> None:
    data = gzip.compress(b"hello" * 100)
    path = tus.create(len(data))
    assert tus.patch(path, 0, data, Content_Encoding="gzip").offset == len(data)
    assert stored(shared_server, path) == data


# An early refusal: answered at once, the body not read, the answer not lost


EARLY = {name: (status, code, {**headers, "Content-Length": LARGE}) for name, (status, code, headers) in INVALID.items()}


def refused_path(tus: TusClient, status: int) -> str:
    return "/files/0123456789abcdef0123456789abcdef" if status == 404 else tus.create(10)


early = pytest.mark.parametrize(("status", "code", "headers"), [pytest.param(*case, id=name) for name, case in EARLY.items()])


@early
@pytest.mark.parametrize("sent", [0, 1000, 200_000])
def test_early_refusal_is_answered_before_the_body(
    tus: TusClient, status: int, code: str, headers: dict[str, object], sent: int
) -> None:
    """Nothing more of the body will come: a server that wanted to read it would wait for ever."""
    with tus.connect() as connection:
        connection.send_head("PATCH", refused_path(tus, status), headers)
        connection.send(b"x" * sent)
        assert_refused(connection.answer(), status, code)
        assert_ended_orderly(connection)


@early
def test_early_refusal_reaches_a_client_that_is_still_sending(
    tus: TusClient, status: int, code: str, headers: dict[str, object]
) -> None:
    path = refused_path(tus, status)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, headers)
        sender = threading.Thread(target=send_regardless, args=(connection, b"x" * LARGE))
        sender.start()
        try:
            assert_refused(connection.answer(), status, code)
        finally:
            connection.sock.shutdown(socket.SHUT_RDWR)
            sender.join(15)
        assert not sender.is_alive()
    if status != 404:
        assert tus.offset(path) == 0


@early
def test_early_refusal_reaches_a_client_that_reads_only_afterwards(
    tus: TusClient, status: int, code: str, headers: dict[str, object]
) -> None:
    """As most clients do: first send as much as goes, then look for an answer."""
    with tus.connect() as connection:
        connection.send_head("PATCH", refused_path(tus, status), headers)
        send_regardless(connection, b"x" * LARGE)
        assert_refused(connection.answer(), status, code)


def send_regardless(connection: Connection, data: bytes) -> None:
    """Send until all is gone or the other side has had enough."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        connection.send(data)


@pytest.mark.parametrize(
    ("status", "code", "headers"), [pytest.param(*case, id=name) for name, case in INVALID.items() if name != "413"]
)
def test_early_refusal_of_a_body_that_is_already_there(
    tus: TusClient, status: int, code: str, headers: dict[str, object]
) -> None:
    """A small body may be swallowed; what follows on the connection, if it lives, is taken for a request and no byte before."""
    smuggled = b"DELETE /files/0123456789abcdef0123456789abcdef HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n"
    with tus.connect() as connection:
        answer: Answer = connection.request(
            "PATCH", refused_path(tus, status), {**headers, "Content-Length": len(smuggled)}, smuggled
        )
        assert_refused(answer, status, code)
        assert_closed_or_in_sync(connection)


def test_early_refusal_without_a_body_keeps_the_connection(tus: TusClient) -> None:
    path = tus.create(10)
    with tus.connect() as connection:
        assert_refused(connection.request("PATCH", path, patch_head(0, 3)), 409, "ERR_MISMATCHED_OFFSET")
        assert_in_sync(connection)


def test_visible_offset_grows_while_a_body_arrives(tus: TusClient) -> None:
    """What the other tests wait for: bytes show up without waiting for the end of the request."""
    path = tus.create(10)
    with begin_patch(tus, path, 0, 10) as connection:
        connection.send(b"hello")
        until_offset(tus, path, 5)
        connection.send(b"world")
        assert connection.answer().offset == 10
    assert visible_offset(tus, path) == 10
