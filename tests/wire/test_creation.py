"""Creation, creation-with-upload and deferred lengths: rows R01 to R20, W01 to W08, D01 to D10."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until, until_continue, until_offset
from tests.support.wire import OFFSET_STREAM, TusClient, checksum, chunked, path_of
from tests.wire import (
    UPLOAD_ID,
    assert_closed_or_in_sync,
    assert_ended_orderly,
    assert_in_sync,
    assert_refused,
    stored,
    uploads_on_disk,
)

LARGEST = 2**63 - 1
BODY: dict[str, object] = {"Content-Type": OFFSET_STREAM}


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("limited") / "data", "-max-size=1000") as server:
        yield server


@pytest.fixture
def limited(limited_server: ServerProcess) -> TusClient:
    """A client of a server that takes 1000 bytes per upload."""
    return limited_server.client()


@pytest.fixture(scope="module")
def proxied_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("proxied") / "data", "-behind-proxy") as server:
        yield server


# Creation


def test_r01_r13_creation(tus: TusClient, shared_server: ServerProcess) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 10})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (201, b"", "0")
    base, upload_id = answer.headers["location"].rsplit("/", 1)
    assert base == f"http://127.0.0.1:{shared_server.port}/files"
    assert UPLOAD_ID.match(upload_id)
    assert tus.head(f"/files/{upload_id}").headers["upload-length"] == "10"
    assert stored(shared_server, f"/files/{upload_id}") == b""


def test_r01_record_on_disk_is_tusds(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(11, Upload_Metadata="filename YS50eHQ=")
    upload_id = path.rsplit("/", 1)[1]
    record = json.loads((shared_server.upload_dir / f"{upload_id}.info").read_text())
    assert (record["ID"], record["Size"], record["SizeIsDeferred"]) == (upload_id, 11, False)
    assert (record["IsPartial"], record["IsFinal"], record["MetaData"]) == (False, False, {"filename": "a.txt"})


def test_r01_ids_are_never_given_twice(tus: TusClient) -> None:
    with tus.connect() as connection:
        answers = [connection.request("POST", "/files/", {"Upload-Length": 1}) for _ in range(50)]
    assert len({answer.headers["location"] for answer in answers}) == 50


def test_r02_no_length(tus: TusClient) -> None:
    assert_refused(tus.request("POST", "/files/"), 400, "ERR_INVALID_UPLOAD_LENGTH")


def test_r03_both_lengths(tus: TusClient) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 10, "Upload-Defer-Length": 1})
    assert_refused(answer, 400, "ERR_AMBIGUOUS_UPLOAD_LENGTH")


BAD_FLAGS = ["0", "2", "true", "01", "+1", "-1", "1,1"]


@pytest.mark.parametrize("value", [pytest.param(value, id=f"R04-{value}") for value in BAD_FLAGS])
def test_r04_defer_length_is_one(tus: TusClient, value: str) -> None:
    assert_refused(tus.request("POST", "/files/", {"Upload-Defer-Length": value}), 400, "ERR_INVALID_UPLOAD_LENGTH_DEFER")


def test_r04_empty_defer_length(tus: TusClient) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Defer-Length": ""})
    assert (answer.status, answer.text.split(":")[0].removesuffix("_DEFER")) == (400, "ERR_INVALID_UPLOAD_LENGTH")


BAD_LENGTHS = {
    "R05-negative": "-5",
    "R05-word": "abc",
    "R05-fraction": "1.0",
    "R05-exponent": "1e3",
    "R05-hexadecimal": "0x10",
    "R05-underscore": "1_0",
    "R05-list": "5,5",
    "R05-blank-inside": "5 5",
    "R05-arabic-digit": "\u0665",
    "R05-fullwidth-digit": "\uff15",
    "R05-superscript": "\u00b2",
    "R05-empty": "",
    "R05-huge": "9" * 5000,
    "R06-plus": "+5",
    "R06-minus-zero": "-0",
    "R06-leading-zeros": "007",
    "R06-zeros": "00",
    "R08-one-more": str(LARGEST + 1),
    "R08-unsigned": str(2**64),
}


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in BAD_LENGTHS.items()])
def test_r05_r06_r08_invalid_length(tus: TusClient, shared_server: ServerProcess, value: str) -> None:
    before = uploads_on_disk(shared_server)
    assert_refused(tus.request("POST", "/files/", {"Upload-Length": value}), 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("value", [pytest.param(v, id=f"R07-{v!r}") for v in ["  10", "10  ", "\t10\t", " \t 10 \t "]])
def test_r07_blanks_around_the_length(tus: TusClient, value: str) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": value})
    assert answer.status == 201
    assert tus.head(path_of(answer.headers["location"])).headers["upload-length"] == "10"


def test_r08_largest_length(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(LARGEST)
    assert tus.head(path).headers["upload-length"] == "9223372036854775807"
    assert tus.patch(path, 0, b"hello").offset == 5
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("length", [1001, LARGEST])
def test_r09_beyond_the_max_size(limited: TusClient, limited_server: ServerProcess, length: int) -> None:
    before = uploads_on_disk(limited_server)
    assert_refused(limited.request("POST", "/files/", {"Upload-Length": length}), 413, "ERR_MAX_SIZE_EXCEEDED")
    assert uploads_on_disk(limited_server) == before


@pytest.mark.parametrize("length", [0, 999, 1000])
def test_r09_up_to_the_max_size(limited: TusClient, length: int) -> None:
    path = limited.create(length)
    assert limited.patch(path, 0, b"x" * length).offset == length


def test_r10_zero_length(tus: TusClient, shared_server: ServerProcess) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 0})
    assert (answer.status, answer.offset) == (201, 0)
    path = path_of(answer.headers["location"])
    head = tus.head(path)
    assert (head.offset, head.headers["upload-length"]) == (0, "0")
    download = tus.get(path)
    assert (download.status, download.body, download.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain", ""])
def test_r11_foreign_content_type_without_a_body(tus: TusClient, content_type: str) -> None:
    with tus.connect() as connection:
        answer = connection.request("POST", "/files/", {"Upload-Length": 10, "Content-Type": content_type})
        assert (answer.status, answer.offset) == (201, 0)
        assert_in_sync(connection)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "text/plain"])
def test_r12_body_with_a_foreign_content_type(
    tus: TusClient, shared_server: ServerProcess, content_type: str | None, framing: str
) -> None:
    body = b"hello" if framing == "length" else chunked(b"hello")
    headers: dict[str, object] = {"Upload-Length": 5}
    if content_type:
        headers["Content-Type"] = content_type
    if framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    with tus.connect() as connection:
        answer = connection.request("POST", "/files/", headers, body)
        assert (answer.status, answer.offset) == (201, 0)
        assert_closed_or_in_sync(connection)
    path = path_of(answer.headers["location"])
    assert (tus.offset(path), stored(shared_server, path)) == (0, b"")
    assert tus.patch(path, 0, b"world").offset == 5
    assert stored(shared_server, path) == b"world"


def test_r12_an_ignored_body_is_no_request(tus: TusClient) -> None:
    victim = tus.create(5)
    body = f"DELETE {victim} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    with tus.connect() as connection:
        assert connection.request("POST", "/files/", {"Upload-Length": 5, "Content-Type": "text/plain"}, body).status == 201
        assert_closed_or_in_sync(connection)
    assert tus.offset(victim) == 0


def test_r12_a_large_ignored_body_is_not_waited_for(tus: TusClient) -> None:
    with tus.connect() as connection:
        headers = {"Upload-Length": 5, "Content-Type": "text/plain", "Content-Length": 10_000_000}
        connection.send_head("POST", "/files/", headers)
        connection.send(b"x" * 1000)
        answer = connection.answer()
        assert (answer.status, answer.offset) == (201, 0)
        assert_ended_orderly(connection)


def test_r13_location_is_made_of_the_host_header(tus: TusClient) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 5, "Host": "tus.example:8443"})
    assert re.fullmatch(r"http://tus\.example:8443/files/[0-9a-f]{32}", answer.headers["location"])


@pytest.mark.parametrize(
    ("flag", "base"),
    [("-base-path=/a/b/", "/a/b/"), ("-base-path=/a/b", "/a/b/"), ("-base-path=up", "/up/"), ("-base-path=/", "/")],
)
def test_r13_location_is_below_the_base_path(start_server: StartServer, flag: str, base: str) -> None:
    server = start_server(flag)
    tus = server.client(base)
    answer = tus.request("POST", base, {"Upload-Length": 5})
    assert re.fullmatch(rf"http://127\.0\.0\.1:{server.port}{base}[0-9a-f]{{32}}", answer.headers["location"])
    assert tus.patch(path_of(answer.headers["location"]), 0, b"hello").offset == 5


@pytest.mark.parametrize("query", ["?a=b", "?", "?x=/y/../z#w"])
def test_r14_query_is_not_copied(tus: TusClient, shared_server: ServerProcess, query: str) -> None:
    answer = tus.request("POST", f"/files/{query}", {"Upload-Length": 5})
    assert answer.status == 201
    assert re.fullmatch(rf"http://127\.0\.0\.1:{shared_server.port}/files/[0-9a-f]{{32}}", answer.headers["location"])


FORWARDED = [
    ("R16-host", {"X-Forwarded-Host": "a.example"}, "http://a.example"),
    ("R16-host-port", {"X-Forwarded-Host": "a.example:8080"}, "http://a.example:8080"),
    ("R16-https", {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "https"}, "https://a.example"),
    ("R16-proto-alone", {"X-Forwarded-Proto": "https"}, "https://h.example"),
    ("R16-upper", {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "HTTPS"}, "https://a.example"),
    ("R16-other-scheme", {"X-Forwarded-Host": "a.example", "X-Forwarded-Proto": "ftp"}, "http://a.example"),
    ("R16-default-443", {"X-Forwarded-Host": "a.example:443", "X-Forwarded-Proto": "https"}, "https://a.example"),
    ("R16-default-80", {"X-Forwarded-Host": "a.example:80", "X-Forwarded-Proto": "http"}, "http://a.example"),
    ("R16-443-of-http", {"X-Forwarded-Host": "a.example:443", "X-Forwarded-Proto": "http"}, "http://a.example:443"),
    ("R16-80-of-https", {"X-Forwarded-Host": "a.example:80", "X-Forwarded-Proto": "https"}, "https://a.example:80"),
    ("R17-forwarded", {"Forwarded": 'host="h:8443";proto=https'}, "https://h:8443"),
    ("R17-bare-host", {"Forwarded": "for=1.2.3.4;host=a.example;proto=https"}, "https://a.example"),
    ("R17-names-in-any-case", {"Forwarded": "For=1.2.3.4;Proto=HTTPS;Host=a.example"}, "https://a.example"),
    ("R17-blanks", {"Forwarded": "for=1.2.3.4; proto=https; host=a.example"}, "https://a.example"),
    (
        "R17-wins",
        {"Forwarded": "host=a.example;proto=https", "X-Forwarded-Host": "b.example", "X-Forwarded-Proto": "http"},
        "https://a.example",
    ),
    ("R17-first-of-list", {"Forwarded": "host=a.example;proto=https, host=b.example;proto=http"}, "https://a.example"),
    (
        "R18-first-of-list",
        {"X-Forwarded-Host": "a.example, b.example", "X-Forwarded-Proto": "https, http"},
        "https://a.example",
    ),
    ("R18-no-blank", {"X-Forwarded-Host": "a.example,b.example", "X-Forwarded-Proto": "https,http"}, "https://a.example"),
    ("R19-prefix", {"X-Forwarded-Host": "a.example", "X-Forwarded-Prefix": "/deep"}, "http://a.example"),
    ("R19-port", {"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "8443"}, "http://a.example"),
]


@pytest.mark.parametrize(("headers", "origin"), [pytest.param(h, origin, id=name) for name, h, origin in FORWARDED])
def test_r16_r17_r18_r19_behind_a_proxy(proxied_server: ServerProcess, headers: dict[str, object], origin: str) -> None:
    given = {"Upload-Length": 5, "Host": "h.example", **headers}
    answer = proxied_server.client().request("POST", "/files/", given)
    assert answer.status == 201
    assert re.fullmatch(re.escape(origin) + "/files/[0-9a-f]{32}", answer.headers["location"]), answer.headers["location"]


@pytest.mark.parametrize("headers", [pytest.param(h, id=f"R15-{name}") for name, h, _ in FORWARDED])
def test_r15_not_behind_a_proxy(tus: TusClient, headers: dict[str, object]) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 5, "Host": "h.example", **headers})
    assert re.fullmatch(r"http://h\.example/files/[0-9a-f]{32}", answer.headers["location"]), answer.headers["location"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Upload-Length": 10}, id="R20-length"),
        pytest.param({"Upload-Length": 0}, id="R20-zero"),
        pytest.param({"Upload-Defer-Length": 1}, id="R20-deferred"),
        pytest.param({"Upload-Length": 10, "Upload-Concat": "partial"}, id="R20-partial"),
        pytest.param({"Upload-Length": 10, **BODY}, id="R20-W03-empty-body"),
    ],
)
def test_r20_w03_offset_without_a_body(tus: TusClient, headers: dict[str, object]) -> None:
    answer = tus.request("POST", "/files/", headers)
    assert (answer.status, answer.headers.get("upload-offset")) == (201, "0")


# Creation with upload


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("length", "size"),
    [
        pytest.param(10, 5, id="W01-part"),
        pytest.param(10, 10, id="W02-whole"),
        pytest.param(3_000_000, 2_000_000, id="W01-large"),
        pytest.param(2_000_000, 2_000_000, id="W02-large"),
    ],
)
def test_w01_w02_body(tus: TusClient, shared_server: ServerProcess, length: int, size: int, framing: str) -> None:
    data = bytes(range(250)) * (size // 250) + bytes(size % 250)
    headers: dict[str, object] = {"Upload-Length": length, **BODY}
    if framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    with tus.connect() as connection:
        body = data if framing == "length" else chunked(data[: size // 3], data[size // 3 :])
        answer = connection.request("POST", "/files/", headers, body)
        assert (answer.status, answer.headers["upload-offset"]) == (201, str(size))
        assert_in_sync(connection)
    path = path_of(answer.headers["location"])
    assert (tus.offset(path), stored(shared_server, path)) == (size, data)
    assert tus.delete(path).status == 204


@pytest.mark.parametrize(
    "content_type", [pytest.param(v, id=f"W01-{v}") for v in [OFFSET_STREAM.upper(), f"{OFFSET_STREAM}; charset=utf-8"]]
)
def test_w01_content_type_is_a_media_type(tus: TusClient, content_type: str) -> None:
    answer = tus.request("POST", "/files/", {"Upload-Length": 10, "Content-Type": content_type}, b"hello")
    assert (answer.status, answer.offset) == (201, 5)


def test_w01_patch_goes_on(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(10, b"hello")
    assert tus.patch(path, 5, b"world").offset == 10
    assert stored(shared_server, path) == b"helloworld"


def test_w01_continue_before_the_body(tus: TusClient) -> None:
    with tus.connect() as connection:
        connection.send_head("POST", "/files/", {"Upload-Length": 5, "Content-Length": 5, "Expect": "100-continue", **BODY})
        until_continue(connection)
        connection.send(b"hello")
        answer = connection.answer()
        assert (answer.status, answer.offset) == (201, 5)


@pytest.mark.parametrize("length", [0, 5])
@pytest.mark.parametrize("announced", [6, 10_000_000])
def test_w04_body_longer_than_the_length(tus: TusClient, shared_server: ServerProcess, length: int, announced: int) -> None:
    before = uploads_on_disk(shared_server)
    with tus.connect() as connection:
        connection.send_head("POST", "/files/", {"Upload-Length": length, "Content-Length": announced, **BODY})
        assert_refused(connection.answer(), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
        assert_ended_orderly(connection)
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("length", [0, 5])
def test_w04_chunked_body_longer_than_the_length(tus: TusClient, shared_server: ServerProcess, length: int) -> None:
    before = uploads_on_disk(shared_server)
    with tus.connect() as connection:
        connection.send_head("POST", "/files/", {"Upload-Length": length, "Transfer-Encoding": "chunked", **BODY})
        connection.send(chunked(b"hel", b"lo", b"!", end=False))
        assert_refused(connection.answer(), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
        assert_ended_orderly(connection)
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_w05_deferred_length(tus: TusClient, shared_server: ServerProcess, framing: str) -> None:
    headers: dict[str, object] = {"Upload-Defer-Length": 1, **BODY}
    if framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    answer = tus.request("POST", "/files/", headers, b"hello" if framing == "length" else chunked(b"hello"))
    assert (answer.status, answer.offset) == (201, 5)
    path = path_of(answer.headers["location"])
    head = tus.head(path)
    assert (head.offset, head.headers["upload-defer-length"]) == (5, "1")
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("size", [500, 300_000])
def test_w06_cut_in_the_body(tus: TusClient, shared_server: ServerProcess, size: int) -> None:
    before = uploads_on_disk(shared_server)
    connection = tus.connect()
    connection.send_head("POST", "/files/", {"Upload-Length": size + 10, "Content-Length": size + 10, **BODY})
    connection.send(b"h" * size)
    connection.sock.close()
    created = until(lambda: [name for name in uploads_on_disk(shared_server) - before if UPLOAD_ID.match(name)])
    assert len(created) == 1
    path = f"/files/{created[0]}"
    until_offset(tus, path, size)
    assert tus.patch(path, size, b"w" * 10).offset == size + 10
    assert stored(shared_server, path) == b"h" * size + b"w" * 10


def test_w07_announced_together_with_creation(tus: TusClient) -> None:
    extensions = tus.request("OPTIONS", "/files/", tus=False).headers["tus-extension"].split(",")
    assert {"creation", "creation-with-upload"} <= set(extensions)


def test_w08_good_checksum(tus: TusClient) -> None:
    headers: dict[str, object] = {"Upload-Length": 10, "Upload-Checksum": checksum("sha1", b"hello"), **BODY}
    answer = tus.request("POST", "/files/", headers, b"hello")
    assert (answer.status, answer.offset) == (201, 5)


@pytest.mark.parametrize(
    ("claim", "status", "code"),
    [
        pytest.param(checksum("sha1", b"world"), 460, "ERR_CHECKSUM_MISMATCH", id="W08-mismatch"),
        pytest.param("sha9 AAAA", 400, "ERR_INVALID_CHECKSUM", id="W08-unknown-algorithm"),
        pytest.param("sha1", 400, "ERR_INVALID_CHECKSUM", id="W08-no-digest"),
        pytest.param(
            "sha1 " + base64.b64encode(hashlib.md5(b"hello").digest()).decode(),
            400,
            "ERR_INVALID_CHECKSUM",
            id="W08-wrong-digest-length",
        ),
    ],
)
def test_w08_bad_checksum(tus: TusClient, shared_server: ServerProcess, claim: str, status: int, code: str) -> None:
    before = uploads_on_disk(shared_server)
    headers: dict[str, object] = {"Upload-Length": 10, "Upload-Checksum": claim, **BODY}
    assert_refused(tus.request("POST", "/files/", headers, b"hello"), status, code)
    assert uploads_on_disk(shared_server) == before


# Deferred length


def declare(tus: TusClient, path: str, offset: int, length: object, body: bytes = b"") -> tuple[int, int | None]:
    answer = tus.patch(path, offset, body, Upload_Length=length)
    return answer.status, answer.offset


def test_d01_d02_shown_until_declared(tus: TusClient) -> None:
    path = tus.create(None)
    for at in range(0, 15, 5):
        head = tus.head(path)
        assert (head.offset, head.headers["upload-defer-length"]) == (at, "1")
        assert "upload-length" not in head.headers
        assert tus.patch(path, at, b"hello").offset == at + 5


@pytest.mark.parametrize(
    ("length", "body"),
    [
        pytest.param(15, b"world", id="D03-more-to-come"),
        pytest.param(10, b"world", id="D03-the-rest"),
        pytest.param(15, b"", id="D03-no-body"),
        pytest.param(5, b"", id="D04-offset"),
        pytest.param(LARGEST, b"world", id="D03-largest"),
    ],
)
def test_d03_d04_declared(tus: TusClient, shared_server: ServerProcess, length: int, body: bytes) -> None:
    path = tus.create(None, b"hello")
    assert declare(tus, path, 5, length, body) == (204, 5 + len(body))
    head = tus.head(path)
    assert (head.offset, head.headers["upload-length"]) == (5 + len(body), str(length))
    assert "upload-defer-length" not in head.headers
    assert stored(shared_server, path) == b"hello" + body


def test_d04_zero(tus: TusClient) -> None:
    path = tus.create(None)
    assert declare(tus, path, 0, 0) == (204, 0)
    assert tus.head(path).headers["upload-length"] == "0"


def test_d04_an_upload_that_is_complete_takes_no_more(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(None, b"hello")
    assert declare(tus, path, 5, 5) == (204, 5)
    assert_refused(tus.patch(path, 5, b"!"), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("value", ["4", "0", "-5", "abc", "+9", "09", str(2**63)])
def test_d05_impossible_length(tus: TusClient, shared_server: ServerProcess, value: str) -> None:
    path = tus.create(None, b"hello")
    assert_refused(tus.patch(path, 5, b"world", Upload_Length=value), 400, "ERR_INVALID_UPLOAD_LENGTH")
    head = tus.head(path)
    assert (head.offset, head.headers.get("upload-defer-length")) == (5, "1")
    assert stored(shared_server, path) == b"hello"


def test_d05_body_longer_than_the_declared_length(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(None, b"hello")
    assert_refused(tus.patch(path, 5, b"world", Upload_Length=9), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert (tus.offset(path), stored(shared_server, path)) == (5, b"hello")


def test_d06_declared_beyond_the_max_size(limited: TusClient) -> None:
    path = limited.create(None, b"hello")
    assert_refused(limited.patch(path, 5, b"", Upload_Length=1001), 413, "ERR_MAX_SIZE_EXCEEDED")
    assert limited.head(path).headers.get("upload-defer-length") == "1"
    assert declare(limited, path, 5, 1000) == (204, 5)


@pytest.mark.parametrize("length", [pytest.param(10, id="D07-unfinished"), pytest.param(5, id="D07-finished")])
@pytest.mark.parametrize("other", [4, 9, 11])
def test_d07_declared_again(tus: TusClient, length: int, other: int) -> None:
    path = tus.create(None, b"hello")
    assert declare(tus, path, 5, length) == (204, 5)
    assert_refused(tus.patch(path, 5, b"", Upload_Length=other), 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert declare(tus, path, 5, length) == (204, 5)
    head = tus.head(path)
    assert (head.offset, head.headers["upload-length"]) == (5, str(length))


@pytest.mark.parametrize(("before", "announced"), [(b"", 1001), (b"x" * 500, 501), (b"x" * 1000, 1), (b"", 10_000_000)])
def test_d08_undeclared_and_beyond_the_max_size(
    limited: TusClient, limited_server: ServerProcess, before: bytes, announced: int
) -> None:
    path = limited.create(None, before)
    with limited.connect() as connection:
        connection.send_head("PATCH", path, {"Upload-Offset": len(before), "Content-Length": announced, **BODY})
        answer = connection.answer()
        assert answer.status == 413
        assert answer.text.split(":")[0] in {"ERR_MAX_SIZE_EXCEEDED", "ERR_UPLOAD_SIZE_EXCEEDED"}
        assert_ended_orderly(connection)
    assert (limited.offset(path), stored(limited_server, path)) == (len(before), before)


def test_d08_up_to_the_max_size(limited: TusClient) -> None:
    path = limited.create(None, b"x" * 500)
    assert limited.patch(path, 500, b"y" * 500).offset == 1000
    assert declare(limited, path, 1000, 1000) == (204, 1000)


@pytest.mark.parametrize("before", [b"", b"x" * 500, b"x" * 1000])
def test_d09_undeclared_and_beyond_the_max_size_chunked(
    limited: TusClient, limited_server: ServerProcess, before: bytes
) -> None:
    path = limited.create(None, before)
    with limited.connect() as connection:
        connection.send_head("PATCH", path, {"Upload-Offset": len(before), "Transfer-Encoding": "chunked", **BODY})
        connection.send(chunked(b"y" * 400, b"y" * 400, b"y" * 400, end=False))
        answer = connection.answer()
        assert answer.status == 413
        assert answer.text.split(":")[0] in {"ERR_MAX_SIZE_EXCEEDED", "ERR_UPLOAD_SIZE_EXCEEDED"}
        assert_ended_orderly(connection)
    offset = limited.offset(path)
    assert len(before) <= offset <= 1000
    assert stored(limited_server, path) == (before + b"y" * 1200)[:offset]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_d08_d09_creation_with_a_body_beyond_the_max_size(
    limited: TusClient, limited_server: ServerProcess, framing: str
) -> None:
    before = uploads_on_disk(limited_server)
    with limited.connect() as connection:
        extra: dict[str, object] = {"Content-Length": 1001} if framing == "length" else {"Transfer-Encoding": "chunked"}
        connection.send_head("POST", "/files/", {"Upload-Defer-Length": 1, **extra, **BODY})
        if framing == "chunked":
            connection.send(chunked(b"y" * 1001, end=False))
        answer = connection.answer()
        assert answer.status == 413
        assert "location" not in answer.headers
        assert_ended_orderly(connection)
    assert uploads_on_disk(limited_server) == before


def test_d10_partial(tus: TusClient) -> None:
    path = tus.create(None, Upload_Concat="partial", Upload_Defer_Length=1)
    head = tus.head(path)
    assert (head.headers["upload-defer-length"], head.headers["upload-concat"]) == ("1", "partial")
    assert declare(tus, path, 0, 5, b"hello") == (204, 5)
    head = tus.head(path)
    assert (head.headers["upload-length"], head.headers["upload-concat"]) == ("5", "partial")
