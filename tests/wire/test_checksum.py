"""Upload-Checksum in a header and in a trailer, rows K01 to K18 and W08."""

from __future__ import annotations

import hashlib
import random
import signal
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import blake3
import crc32c
import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, Connection, TusClient, b64, chunked
from tests.wire import assert_refused, stored, uploads_on_disk

HELLO = b"hello world"
HELLO_SHA1 = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="  # the specification's own example
OTHER_SHA1 = "sha1 " + b64(hashlib.sha1(b"other data").digest())
ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: crc32c.crc32c(data).to_bytes(4, "big"),
    "blake3": lambda data: blake3.blake3(data).digest(),
}
SIZES = {"5B": 5, "300kB": 300_000, "5MB": 5_000_000}
UNKNOWN = ["sha3 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "crc64 AAAAAAAAAAA=", "foo YmFy", "sha-1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="]
MALFORMED = [
    "sha1",
    "sha1 ",
    "sha1 !!!!",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0",
    "sha1 Kq5s",
    "sha1,Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0= more",
    "Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "md5 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed",
    "crc32 AAAAAAA=",
]
REFUSED_BEFORE_THE_BODY = [("K04", value) for value in UNKNOWN] + [("K05", value) for value in MALFORMED]
REFUSED_IDS = [f"{row}-{value}" for row, value in REFUSED_BEFORE_THE_BODY]


@cache
def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def value_of(algorithm: str, data: bytes) -> str:
    return f"{algorithm} {b64(ALGORITHMS[algorithm.lower()](data))}"


def has_read_all(connection: Connection) -> bool:
    """Whether nothing that was sent is on its way any more: the queues of both ends of the connection are empty."""
    ours = connection.sock.getsockname()[1]
    queues = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queue, *_ = line.split()
        if ours in (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) and state == "01":
            queues.append(queue)
    return queues == ["00000000:00000000"] * 2


def begin_patch(connection: Connection, path: str, offset: int, body: bytes, sent: int, checksum: str) -> None:
    """Send a PATCH with `body`, but of that only the first `sent` bytes; return when the server has read them."""
    head = {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM, "Content-Length": len(body), "Upload-Checksum": checksum}
    connection.send_head("PATCH", path, head)
    connection.send(body[:sent])
    until(lambda: has_read_all(connection))


def assert_refused_before_the_body(connection: Connection, method: str, path: str, headers: dict[str, object]) -> None:
    """The answer comes without `100 Continue` and without a byte of the body having been sent."""
    connection.send_head(method, path, {"Content-Type": OFFSET_STREAM, "Expect": "100-continue", **headers})
    answer = connection.answer(method)
    assert (answer.status, answer.interim) == (400, [])
    assert answer.text.startswith("ERR_INVALID_CHECKSUM: ")
    assert "location" not in answer.headers


def test_k01_announced(tus: TusClient) -> None:
    headers = tus.request("OPTIONS", tus.base).headers
    extensions = headers["tus-extension"].split(",")
    assert "checksum" in extensions
    assert "checksum-trailer" in extensions
    assert set(headers["tus-checksum-algorithm"].split(",")) == set(ALGORITHMS)


def test_k02_the_example_of_the_specification(tus: TusClient) -> None:
    path = tus.create(11)
    answer = tus.patch(path, 0, HELLO, upload_checksum=HELLO_SHA1)
    assert (answer.status, answer.offset) == (204, 11)
    assert tus.get(path).body == HELLO


@pytest.mark.parametrize("before", [0, 7], ids=["at-0", "later"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_k02_right(tus: TusClient, shared_server: ServerProcess, algorithm: str, size: int, before: int) -> None:
    data, start = noise(size), noise(before)
    path = tus.create(before + size + 1, start)
    answer = tus.patch(path, before, data, upload_checksum=value_of(algorithm, data))
    assert (answer.status, answer.offset) == (204, before + size)
    assert stored(shared_server, path) == start + data


@pytest.mark.parametrize("before", [0, 7], ids=["at-0", "later"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_k03_mismatch(tus: TusClient, shared_server: ServerProcess, algorithm: str, size: int, before: int) -> None:
    data, start = noise(size), noise(before)
    path = tus.create(before + size, start)
    names = uploads_on_disk(shared_server)
    answer = tus.patch(path, before, data[:-1] + bytes([data[-1] ^ 1]), upload_checksum=value_of(algorithm, data))
    assert (answer.status, answer.reason) == (460, "Checksum Mismatch")
    assert answer.text.startswith("ERR_CHECKSUM_MISMATCH: ")
    assert tus.offset(path) == before
    assert stored(shared_server, path) == start
    assert uploads_on_disk(shared_server) == names
    again = tus.patch(path, before, data, upload_checksum=value_of(algorithm, data))
    assert (again.status, again.offset) == (204, before + size)
    assert stored(shared_server, path) == start + data


def test_k03_connection_goes_on(tus: TusClient) -> None:
    """The body was read, so the connection is good for the next try."""
    path = tus.create(11)
    with tus.connect() as connection:
        head: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Upload-Checksum": HELLO_SHA1}
        assert connection.request("PATCH", path, head, b"jello world").status == 460
        assert connection.request("PATCH", path, head, HELLO).status == 204
    assert tus.get(path).body == HELLO


@pytest.mark.parametrize(("row", "value"), REFUSED_BEFORE_THE_BODY, ids=REFUSED_IDS)
def test_k04_k05_refused_before_the_body(tus: TusClient, shared_server: ServerProcess, row: str, value: str) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        headers: dict[str, object] = {"Upload-Offset": 0, "Content-Length": 11, "Upload-Checksum": value}
        assert_refused_before_the_body(connection, "PATCH", path, headers)
    assert tus.offset(path) == 0
    assert stored(shared_server, path) == b""


def test_k05_good_checksum_with_expect(tus: TusClient) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        head = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": 11, "Upload-Checksum": HELLO_SHA1}
        connection.send_head("PATCH", path, {**head, "Expect": "100-continue"})
        assert connection._until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        connection.send(HELLO)
        assert connection.answer("PATCH").status == 204
    assert tus.get(path).body == HELLO


@pytest.mark.parametrize("algorithm", ["SHA1", "Md5", "SHA256", "Sha512", "CRC32", "CRC32C", "BLAKE3"])
def test_k06_algorithm_in_any_case(tus: TusClient, algorithm: str) -> None:
    path = tus.create(11)
    assert tus.patch(path, 0, b"jello world", upload_checksum=value_of(algorithm, HELLO)).status == 460
    assert tus.offset(path) == 0
    assert tus.patch(path, 0, HELLO, upload_checksum=value_of(algorithm, HELLO)).status == 204


@pytest.mark.parametrize("before", [0, 7], ids=["at-0", "later"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_k07_disconnect(tus: TusClient, shared_server: ServerProcess, size: int, before: int) -> None:
    data, start = noise(size), noise(before)
    path = tus.create(before + size, start)
    with tus.connect() as connection:
        begin_patch(connection, path, before, data, size - 1, value_of("sha1", data))
    assert tus.offset(path) == before
    assert stored(shared_server, path) == start
    again = tus.patch(path, before, data, upload_checksum=value_of("sha1", data))
    assert (again.status, again.offset) == (204, before + size)
    assert stored(shared_server, path) == start + data


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_k07_takeover(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    data = noise(size)
    path = tus.create(size + 7, noise(7))
    with tus.connect() as connection:
        begin_patch(connection, path, 7, data, size - 1, value_of("sha1", data))
        assert tus.offset(path) == 7
        answer = connection.answer("PATCH")
        assert (answer.status, answer.text[:24]) == (400, "ERR_UPLOAD_INTERRUPTED: ")
        assert connection.is_closed()
    assert stored(shared_server, path) == noise(7)
    assert tus.offset(path) == 7


@pytest.mark.parametrize(("end", "size"), [("kill", 5), ("kill", 5_000_000), ("terminate", 300_000)])
def test_k07_server_ends(start_server: StartServer, end: str, size: int) -> None:
    first = start_server()
    data = noise(size)
    path = first.client().create(size + 7, noise(7))
    with first.client().connect() as connection:
        begin_patch(connection, path, 7, data, size - 1, value_of("sha1", data))
        if end == "kill":
            first.kill()
        else:
            first.signal(signal.SIGTERM)
            assert_refused(connection.answer("PATCH"), 503, "ERR_SERVER_SHUTDOWN")
    assert end == "kill" or first.wait() == 0
    assert stored(first, path) == noise(7)
    second = start_server()
    assert second.client().offset(path) == 7
    assert second.client().patch(path, 7, data, upload_checksum=value_of("sha1", data)).status == 204
    assert stored(second, path) == noise(7) + data


def test_k08_mismatch_on_the_last_chunk(tus: TusClient) -> None:
    path = tus.create(11, HELLO[:6])
    assert tus.patch(path, 6, b"WORLD", upload_checksum=value_of("sha1", b"world")).status == 460
    head = tus.head(path)
    assert (head.offset, head.headers["upload-length"]) == (6, "11")
    assert tus.patch(path, 6, b"world", upload_checksum=value_of("sha1", b"world")).offset == 11
    assert tus.get(path).body == HELLO


def test_k08_declaration_with_a_mismatch(tus: TusClient) -> None:
    """The right chunk can follow with the same declaration of the length."""
    path = tus.create()
    assert tus.patch(path, 0, b"jello world", upload_length=11, upload_checksum=HELLO_SHA1).status == 460
    assert tus.offset(path) == 0
    assert tus.patch(path, 0, HELLO, upload_length=11, upload_checksum=HELLO_SHA1).offset == 11
    assert tus.head(path).headers["upload-length"] == "11"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_k09_empty_body(tus: TusClient, algorithm: str) -> None:
    path = tus.create(11, HELLO[:6])
    answer = tus.patch(path, 6, b"", upload_checksum=value_of(algorithm, b""))
    assert (answer.status, answer.offset) == (204, 6)
    assert tus.patch(path, 6, b"", upload_checksum=value_of(algorithm, b"x")).status == 460
    assert tus.offset(path) == 6


CHUNKED: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_k10_chunked_right(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    data = noise(size)
    path = tus.create(size)
    body = chunked(data[: size // 3], data[size // 3 :])
    answer = tus.request("PATCH", path, {**CHUNKED, "Upload-Checksum": value_of("sha256", data)}, body)
    assert (answer.status, answer.offset) == (204, size)
    assert stored(shared_server, path) == data


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_k10_chunked_mismatch(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    data = noise(size)
    path = tus.create(size)
    body = chunked(data[: size // 3], data[size // 3 :])
    answer = tus.request("PATCH", path, {**CHUNKED, "Upload-Checksum": OTHER_SHA1}, body)
    assert (answer.status, answer.reason, tus.offset(path)) == (460, "Checksum Mismatch", 0)
    assert stored(shared_server, path) == b""


def test_k10_broken_chunks(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, {**CHUNKED, "Upload-Checksum": HELLO_SHA1})
        connection.send(chunked(HELLO, end=False) + b"not hexadecimal\r\n")
        assert connection.answer("PATCH").status == 400
    assert tus.offset(path) == 0
    assert stored(shared_server, path) == b""


@pytest.mark.parametrize("before", [0, 7], ids=["at-0", "later"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_k11_nothing_is_visible_before_verification(
    tus: TusClient, shared_server: ServerProcess, size: int, before: int
) -> None:
    data, start = noise(size), noise(before)
    path = tus.create(before + size, start)
    names = uploads_on_disk(shared_server)
    with tus.connect() as connection:
        begin_patch(connection, path, before, data, size - 1, value_of("sha1", data))
        assert stored(shared_server, path) == start
        assert uploads_on_disk(shared_server) == names
        assert tus.request("HEAD", path, tus=False).offset == before
        assert tus.get(path).body == start
        connection.send(data[-1:])
        answer = connection.answer("PATCH")
    assert (answer.status, answer.offset) == (204, before + size)
    assert stored(shared_server, path) == start + data


ANNOUNCED = {**CHUNKED, "Trailer": "Upload-Checksum"}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_k12_trailer(tus: TusClient, shared_server: ServerProcess, algorithm: str, size: int) -> None:
    data = noise(size)
    path = tus.create(size)
    body = chunked(data[: size // 2], data[size // 2 :], trailers={"Upload-Checksum": value_of(algorithm, data)})
    answer = tus.request("PATCH", path, ANNOUNCED, body)
    assert (answer.status, answer.offset) == (204, size)
    assert stored(shared_server, path) == data


@pytest.mark.parametrize("announced", ["Upload-Checksum", "upload-checksum", "UPLOAD-CHECKSUM", "X-Other, Upload-Checksum"])
@pytest.mark.parametrize("name", ["Upload-Checksum", "upload-checksum", "UPLOAD-CHECKSUM"])
def test_k12_names_in_any_case(tus: TusClient, announced: str, name: str) -> None:
    path = tus.create(11)
    head = {**CHUNKED, "Trailer": announced}
    assert tus.request("PATCH", path, head, chunked(HELLO, trailers={name: OTHER_SHA1})).status == 460
    assert tus.offset(path) == 0
    assert tus.request("PATCH", path, head, chunked(HELLO, trailers={name: HELLO_SHA1})).status == 204
    assert tus.get(path).body == HELLO


def test_k12_connection_goes_on_after_trailers(tus: TusClient) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        assert (
            connection.request("PATCH", path, ANNOUNCED, chunked(HELLO, trailers={"Upload-Checksum": HELLO_SHA1})).status == 204
        )
        assert connection.request("HEAD", path).offset == 11


def test_k12_nothing_is_visible_before_the_trailer(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, ANNOUNCED)
        connection.send(chunked(HELLO, end=False))
        until(lambda: has_read_all(connection))
        assert stored(shared_server, path) == b""
        assert tus.request("HEAD", path, tus=False).offset == 0
        connection.send(chunked(trailers={"Upload-Checksum": HELLO_SHA1}))
        assert connection.answer("PATCH").offset == 11
    assert tus.get(path).body == HELLO


def test_k12_disconnect_before_the_trailer(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        connection.send_head("PATCH", path, ANNOUNCED)
        connection.send(chunked(HELLO, end=False))
        until(lambda: has_read_all(connection))
    assert tus.offset(path) == 0
    assert stored(shared_server, path) == b""


def test_k13_header_and_trailer(tus: TusClient) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        headers = {**ANNOUNCED, "Upload-Checksum": HELLO_SHA1}
        assert_refused_before_the_body(connection, "PATCH", path, headers)
    assert tus.offset(path) == 0


@pytest.mark.parametrize("trailers", [None, {"X-Other": "x"}], ids=["none", "another"])
def test_k14_announced_trailer_missing(tus: TusClient, shared_server: ServerProcess, trailers: dict[str, str] | None) -> None:
    path = tus.create(11)
    answer = tus.request("PATCH", path, ANNOUNCED, chunked(HELLO, trailers=trailers))
    assert (answer.status, answer.text[:22]) == (400, "ERR_INVALID_CHECKSUM: ")
    assert tus.offset(path) == 0
    assert stored(shared_server, path) == b""


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [(value, 400, "ERR_INVALID_CHECKSUM: ") for value in MALFORMED + UNKNOWN] + [(OTHER_SHA1, 460, "ERR_CHECKSUM_MISMATCH: ")],
)
def test_k15_bad_trailer(tus: TusClient, shared_server: ServerProcess, value: str, status: int, code: str) -> None:
    path = tus.create(11)
    answer = tus.request("PATCH", path, ANNOUNCED, chunked(HELLO, trailers={"Upload-Checksum": value}))
    assert answer.status == status
    assert answer.text.startswith(code)
    assert tus.offset(path) == 0
    assert stored(shared_server, path) == b""


def test_k15_two_trailers_that_differ(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(11)
    two = f"{OTHER_SHA1}\r\nUpload-Checksum: {HELLO_SHA1}"
    answer = tus.request("PATCH", path, ANNOUNCED, chunked(HELLO, trailers={"Upload-Checksum": two}))
    assert (answer.status, tus.offset(path), stored(shared_server, path)) == (400, 0, b"")
    assert answer.text.startswith("ERR_INVALID_CHECKSUM: ")


def test_k16_trailer_without_chunks(tus: TusClient) -> None:
    path = tus.create(11)
    with tus.connect() as connection:
        headers: dict[str, object] = {"Upload-Offset": 0, "Content-Length": 11, "Trailer": "Upload-Checksum"}
        assert_refused_before_the_body(connection, "PATCH", path, headers)
    assert tus.offset(path) == 0


STRANGERS = {
    "Upload-Offset": "5",
    "Upload-Length": "3",
    "Tus-Resumable": "9.9",
    "Content-Type": "text/html",
    "Authorization": "x",
}


def test_k17_other_trailers(tus: TusClient) -> None:
    path = tus.create()
    answer = tus.request("PATCH", path, CHUNKED, chunked(HELLO, trailers=STRANGERS))
    assert (answer.status, answer.offset) == (204, 11)
    head = tus.head(path)
    assert (head.offset, head.headers.get("upload-length"), head.headers["upload-defer-length"]) == (11, None, "1")


def test_k17_other_trailers_beside_the_checksum(tus: TusClient) -> None:
    path = tus.create(11)
    answer = tus.request("PATCH", path, ANNOUNCED, chunked(HELLO, trailers={**STRANGERS, "Upload-Checksum": HELLO_SHA1}))
    assert (answer.status, answer.offset) == (204, 11)


@pytest.mark.parametrize("announced", [{}, {"Trailer": "X-Other"}], ids=["nothing", "another"])
@pytest.mark.parametrize("value", [OTHER_SHA1, "garbage"])
def test_k17_checksum_that_was_not_announced(tus: TusClient, announced: dict[str, object], value: str) -> None:
    path = tus.create(11)
    answer = tus.request("PATCH", path, {**CHUNKED, **announced}, chunked(HELLO, trailers={"Upload-Checksum": value}))
    assert (answer.status, answer.offset) == (204, 11)
    assert tus.get(path).body == HELLO


def test_k18_final_upload_without_body(tus: TusClient) -> None:
    partial = tus.create(11, HELLO, upload_concat="partial")
    final = tus.create(upload_concat=f"final;{partial}", upload_checksum=OTHER_SHA1)
    assert tus.get(final).body == HELLO


def test_k18_final_upload_with_body(tus: TusClient, shared_server: ServerProcess) -> None:
    partial = tus.create(11, HELLO, upload_concat="partial")
    names = uploads_on_disk(shared_server)
    head: dict[str, object] = {
        "Upload-Concat": f"final;{partial}",
        "Content-Type": OFFSET_STREAM,
        "Upload-Checksum": HELLO_SHA1,
    }
    answer = tus.request("POST", tus.base, head, HELLO)
    assert answer.status in (400, 403)
    assert "location" not in answer.headers
    assert uploads_on_disk(shared_server) == names


def test_k18_empty_upload_without_body(tus: TusClient) -> None:
    assert tus.offset(tus.create(0, upload_checksum=OTHER_SHA1)) == 0


def test_k18_empty_upload_with_body(tus: TusClient, shared_server: ServerProcess) -> None:
    names = uploads_on_disk(shared_server)
    head = {"Upload-Length": 0, "Content-Type": OFFSET_STREAM, "Upload-Checksum": HELLO_SHA1}
    answer = tus.request("POST", tus.base, head, HELLO)
    assert answer.status in (400, 413)
    assert uploads_on_disk(shared_server) == names


POST: dict[str, object] = {"Upload-Length": 11, "Content-Type": OFFSET_STREAM}


@pytest.mark.parametrize("body", [HELLO, HELLO[:5]], ids=["whole", "beginning"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_w08_right(tus: TusClient, algorithm: str, body: bytes) -> None:
    answer = tus.request("POST", tus.base, {**POST, "Upload-Checksum": value_of(algorithm, body)}, body)
    assert (answer.status, answer.offset) == (201, len(body))
    assert tus.get(tus.base + answer.headers["location"].rsplit("/", 1)[1]).body == body


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_w08_mismatch_leaves_no_upload(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    names = uploads_on_disk(shared_server)
    answer = tus.request("POST", tus.base, {**POST, "Upload-Length": size, "Upload-Checksum": OTHER_SHA1}, noise(size))
    assert (answer.status, answer.reason) == (460, "Checksum Mismatch")
    assert answer.text.startswith("ERR_CHECKSUM_MISMATCH: ")
    assert "location" not in answer.headers
    assert uploads_on_disk(shared_server) == names


@pytest.mark.parametrize(("row", "value"), REFUSED_BEFORE_THE_BODY, ids=REFUSED_IDS)
def test_w08_refused_before_the_body(tus: TusClient, shared_server: ServerProcess, row: str, value: str) -> None:
    names = uploads_on_disk(shared_server)
    with tus.connect() as connection:
        headers: dict[str, object] = {"Upload-Length": 11, "Content-Length": 11, "Upload-Checksum": value}
        assert_refused_before_the_body(connection, "POST", tus.base, headers)
    assert uploads_on_disk(shared_server) == names


@pytest.mark.parametrize(
    ("value", "status"), [(HELLO_SHA1, 201), (OTHER_SHA1, 460), ("sha1 Kq5s", 400)], ids=["right", "mismatch", "malformed"]
)
def test_w08_trailer(tus: TusClient, shared_server: ServerProcess, value: str, status: int) -> None:
    names = uploads_on_disk(shared_server)
    head = {**POST, "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    answer = tus.request("POST", tus.base, head, chunked(HELLO, trailers={"Upload-Checksum": value}))
    assert answer.status == status
    assert ("location" in answer.headers) == (status == 201)
    assert len(uploads_on_disk(shared_server) - names) == (2 if status == 201 else 0)
