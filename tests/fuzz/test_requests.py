"""Mutated requests to a whole server: whatever comes, it answers 2xx to 4xx or closes, and goes on serving.

Its log must have no error: that is what the watchdog reads (tests/support/server.py), and at the end this test.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.support.server import ServerProcess
from tests.support.waiting import reset
from tests.support.wire import Connection, checksum, chunked, path_of

PROFILE = settings(
    max_examples=1500,
    deadline=None,  # other processes share the machine
    derandomize=bool(os.environ.get("CI")),
    database=None,
    print_blob=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
ERROR = re.compile(r"level=ERROR event=(?!BodyReadError )")  # tusd logs broken bodies at this level
HOST = b"Host: localhost\r\n"
TUS = HOST + b"Tus-Resumable: 1.0.0\r\n"
STREAM = TUS + b"Content-Type: application/offset+octet-stream\r\n"
DIGEST = checksum("sha1", b"hello").encode()

# Valid requests. OPEN is an upload of 5 of 100 bytes, DONE a finished partial of 5.
CORPUS = [
    b"OPTIONS /files/ HTTP/1.1\r\n" + HOST + b"Origin: http://a.example\r\n\r\n",
    b"POST /files/ HTTP/1.1\r\n"
    + TUS
    + b"Upload-Length: 10\r\nUpload-Metadata: filename YQ==,empty\r\nContent-Length: 0\r\n\r\n",
    b"POST /files/ HTTP/1.1\r\n" + STREAM + b"Upload-Defer-Length: 1\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /files/ HTTP/1.1\r\n"
    + STREAM
    + b"Upload-Length: 5\r\nUpload-Checksum: "
    + DIGEST
    + b"\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /files/ HTTP/1.1\r\n" + TUS + b"Upload-Concat: final;DONE http://localhostDONE\r\nContent-Length: 0\r\n\r\n",
    b"POST /files/ HTTP/1.1\r\n" + TUS + b"Upload-Concat: partial\r\nUpload-Length: 3\r\nContent-Length: 0\r\n\r\n",
    b"HEAD OPEN HTTP/1.1\r\n" + TUS + b"\r\n",
    b"GET DONE HTTP/1.1\r\n" + HOST + b'Range: bytes=1-3\r\nIf-Range: "x"\r\nIf-None-Match: W/"a", *\r\n\r\n',
    b"GET DONE HTTP/1.1\r\n" + HOST + b"If-Modified-Since: Wed, 25 Jun 2014 16:00:00 GMT\r\n\r\n",
    b"PATCH OPEN HTTP/1.1\r\n" + STREAM + b"Upload-Offset: 5\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"PATCH OPEN HTTP/1.1\r\n"
    + STREAM
    + b"Upload-Offset: 5\r\nTransfer-Encoding: chunked\r\nTrailer: Upload-Checksum\r\n\r\n"
    + chunked(b"hel", b"lo", trailers={"Upload-Checksum": DIGEST.decode()}),
    b"POST OPEN HTTP/1.1\r\n" + STREAM + b"X-HTTP-Method-Override: PATCH\r\nUpload-Offset: 5\r\nContent-Length: 1\r\n\r\n!",
    b"DELETE OPEN HTTP/1.1\r\n" + TUS + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"GET /files/../../etc/passwd HTTP/1.0\r\n\r\n",
]

WORDS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"%00",
        b"%2e%2e",
        b"//",
        b"?",
        b"#",
        b"\xff",
        b"\xc3\xa9",
        b"-1",
        b"+5",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 5\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Trailer: Upload-Checksum\r\n",
        b"Upload-Length: 7\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    ),
    *(
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"HTTP/9.9",
        b"PUT",
        b"CONNECT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*",
        b"http://x/",
        b"0\r\n\r\n",
    ),
]
NUMBERS = [
    b"0",
    b"-0",
    b"00",
    b"1e9",
    b"0x10",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"9" * 5000,
]


@dataclass(frozen=True)
class Mutation:
    """One change, at a place given as a part of a thousand."""

    kind: str
    place: int
    extra: bytes = b""

    def apply(self, data: bytes) -> bytes:
        at = len(data) * self.place // 1000
        lines = data.split(b"\r\n")
        line = len(lines) * self.place // 1000
        match self.kind:
            case "flip" if data:
                at = min(at, len(data) - 1)
                return data[:at] + bytes([data[at] ^ (self.extra or b"\x01")[0]]) + data[at + 1 :]
            case "insert":
                return data[:at] + self.extra + data[at:]
            case "cut":
                return data[:at] + data[at + 1 + len(self.extra) :]
            case "end":
                return data[:at]
            case "repeat":
                lines.insert(line, lines[min(line, len(lines) - 1)])
            case "drop":
                del lines[line : line + 1]
            case "swap":
                lines = lines[:line][::-1] + lines[line:]
            case "number":
                numbers = list(re.finditer(rb"\d+", data))
                if numbers:
                    found = numbers[len(numbers) * self.place // 1000]
                    return data[: found.start()] + self.extra + data[found.end() :]
            case "huge":
                lines[min(line, len(lines) - 1)] += b"x" * (self.place * 2000)
            case "twice":
                return data + data
        return b"\r\n".join(lines)


places = st.integers(0, 999)
mutations = st.one_of(
    st.builds(Mutation, st.sampled_from(["flip", "cut"]), places, st.binary(max_size=8)),
    st.builds(Mutation, st.just("insert"), places, st.one_of(st.sampled_from(WORDS), st.binary(max_size=5))),
    st.builds(Mutation, st.just("number"), places, st.sampled_from(NUMBERS)),
    st.builds(Mutation, st.just("number"), places, st.just(b"9" * 5000)),  # Python refuses to read so many digits
    st.builds(Mutation, st.sampled_from(["repeat", "drop", "swap", "end", "twice"]), places),
    st.builds(Mutation, st.just("huge"), places.filter(lambda place: place % 7 == 0)),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("fuzz") / "data", "-behind-proxy", "-max-size=1000000000000") as server:
        yield server


@pytest.fixture(scope="module")
def canary(server: ServerProcess) -> Iterator[Connection]:
    """A well-behaved client beside the others."""
    with server.client().connect() as connection:
        yield connection


def upload(canary: Connection, **headers: object) -> bytes:
    head = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = canary.request("POST", "/files/", {"Content-Type": "application/offset+octet-stream", **head}, b"hello")
    assert answer.status == 201
    return path_of(answer.headers["location"]).encode()


@pytest.mark.timeout(600)
@PROFILE
@given(
    st.lists(st.sampled_from(CORPUS), min_size=1, max_size=2),
    st.lists(mutations, max_size=4),
    st.lists(places, max_size=4),
    st.sampled_from(["half-close", "half-close", "half-close", "close", "reset"]),
)
def test_no_request_harms_the_server(
    server: ServerProcess, canary: Connection, requests: list[bytes], changes: list[Mutation], splits: list[int], end: str
) -> None:
    data = b"".join(requests)
    data = data.replace(b"OPEN", upload(canary, upload_length=100))
    data = data.replace(b"DONE", upload(canary, upload_length=5, upload_concat="partial"))
    for change in changes:
        data = change.apply(data)
    cuts = sorted(len(data) * split // 1000 for split in splits)
    answers = exchange(server, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)], end)
    statuses = [int(status) for status in STATUS.findall(answers)]
    note(f"{data[:2000]!r} -> {statuses} {answers[:300]!r}")
    assert all(100 <= status < 500 for status in statuses), statuses
    assert canary.request("OPTIONS", "/files/").status == 200
    assert not ERROR.search(server.log[-2000:])


def exchange(server: ServerProcess, pieces: list[bytes], end: str) -> bytes:
    """Send the pieces, end as told, and return all that is answered. The server has to end the connection, too."""
    connection = server.client().connect()
    with contextlib.closing(connection.sock):
        with contextlib.suppress(OSError):  # refused, and closed, while we were still sending
            for piece in pieces:
                connection.send(piece)
            if end == "half-close":
                connection.sock.shutdown(1)
        if end == "half-close":
            return connection.until_closed()
        if end == "reset":
            reset(connection)
    return b""


def test_nothing_was_logged_as_an_error(server: ServerProcess) -> None:
    """Last, of all that has come."""
    assert not ERROR.search(server.log)
