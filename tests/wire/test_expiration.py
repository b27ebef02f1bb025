"""Expiration, rows X01 to X10.

Expiry follows the modification time of an upload's files, so most tests age the files instead of waiting.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, Answer, Connection, TusClient

HOUR = 3600
IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
)
EVERY_REQUEST = [
    ("HEAD", {}, None),
    ("PATCH", {"Upload-Offset": 4, "Content-Type": OFFSET_STREAM}, b"more"),
    ("GET", {}, None),
    ("DELETE", {}, None),
]
BY_METHOD = pytest.mark.parametrize(
    ("method", "headers", "body"), EVERY_REQUEST, ids=[method for method, _, _ in EVERY_REQUEST]
)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server where uploads expire after an hour and no sweep comes along during the tests."""
    with ServerProcess(tmp_path_factory.mktemp("keeping"), "-expiry=1h", "-expiry-sweep-interval=1h") as server:
        yield server


@pytest.fixture(scope="module")
def sweeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server where uploads expire after an hour and are swept away as soon as they have."""
    with ServerProcess(tmp_path_factory.mktemp("sweeping"), "-expiry=1h", "-expiry-sweep-interval=100ms") as server:
        yield server


def files_of(server: ServerProcess, path: str) -> list[Path]:
    """The record and the bytes of an upload."""
    name = path.rstrip("/").rsplit("/", 1)[1]
    return [server.upload_dir / f"{name}.info", server.upload_dir / name]


def age(server: ServerProcess, path: str, seconds: float) -> None:
    """Make the files of an upload look as if their last change had been longer ago."""
    for file in files_of(server, path):
        with suppress(FileNotFoundError):  # a sweep may be quicker than we are
            then = file.stat().st_mtime - seconds
            os.utime(file, (then, then))


def is_swept(server: ServerProcess, path: str) -> bool:
    return not any(file.exists() for file in files_of(server, path))


def let_a_sweep_pass(server: ServerProcess) -> None:
    """Return once a whole sweep has begun and ended: two uploads made to be swept, one after the other, are gone."""
    for _ in range(2):
        sentinel = server.client().create(9)
        age(server, sentinel, 2 * HOUR)
        until(lambda sentinel=sentinel: is_swept(server, sentinel))  # type: ignore[misc]


def expires(answer: Answer) -> datetime:
    value = answer.headers["upload-expires"]
    assert IMF_FIXDATE.fullmatch(value), value
    return parsedate_to_datetime(value)


def begin_patch(connection: Connection, path: str, offset: int, length: int, body: bytes) -> None:
    """Send a PATCH of `length` bytes, of which only `body` for now."""
    connection.send_head("PATCH", path, {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM, "Content-Length": length})
    connection.send(body)


def extensions(client: TusClient) -> list[str]:
    return client.request("OPTIONS", client.base).headers["tus-extension"].split(",")


def test_x01_announced_when_configured(keeping: ServerProcess) -> None:
    assert "expiration" in extensions(keeping.client())


def test_x01_not_announced_otherwise(tus: TusClient) -> None:
    assert "expiration" not in extensions(tus)


def test_x01_no_upload_expires_unless_configured(tus: TusClient) -> None:
    created = tus.request("POST", tus.base, {"Upload-Length": 9})
    path = created.headers["location"].split(tus.base, 1)[1]
    answers = [created, tus.patch(tus.base + path, 0, b"some"), tus.head(tus.base + path)]
    assert [answer.status for answer in answers] == [201, 204, 200]
    assert not any("upload-expires" in answer.headers for answer in answers)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Upload-Length": 9}, None),
        ({"Upload-Defer-Length": 1}, None),
        ({"Upload-Length": 9, "Upload-Concat": "partial"}, None),
        ({"Upload-Length": 9, "Content-Type": OFFSET_STREAM}, b"some"),
    ],
    ids=["plain", "deferred", "partial", "with-upload"],
)
def test_x02_creation_says_when(keeping: ServerProcess, headers: dict[str, object], body: bytes | None) -> None:
    before = time.time()
    answer = keeping.client().request("POST", "/files/", headers, body)
    assert answer.status == 201
    assert int(before) + HOUR <= expires(answer).timestamp() <= time.time() + HOUR + 1


def test_x03_x07_value_moves_with_each_patch(keeping: ServerProcess) -> None:
    client = keeping.client()
    path = client.create(9)
    age(keeping, path, HOUR / 2)
    aged = expires(client.head(path)).timestamp()
    assert aged <= time.time() + HOUR / 2 + 1
    before = time.time()
    patched = client.patch(path, 0, b"some")
    assert patched.status == 204
    assert int(before) + HOUR <= expires(patched).timestamp() <= time.time() + HOUR + 1


def test_x03_refused_patch_does_not_move_it(keeping: ServerProcess) -> None:
    client = keeping.client()
    path = client.create(9)
    age(keeping, path, HOUR / 2)
    before = expires(client.head(path))
    assert client.patch(path, 3, b"some").status == 409
    assert expires(client.head(path)) == before


def test_x04_gone_once_finished(keeping: ServerProcess) -> None:
    client = keeping.client()
    path = client.create(4)
    patched = client.patch(path, 0, b"some")
    assert (patched.status, patched.offset) == (204, 4)
    assert "upload-expires" not in patched.headers
    assert "upload-expires" not in client.head(path).headers


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Upload-Length": 0}, None), ({"Upload-Length": 4, "Content-Type": OFFSET_STREAM}, b"some")],
    ids=["empty", "whole-upload"],
)
def test_x04_creation_of_a_finished_upload_has_none(
    keeping: ServerProcess, headers: dict[str, object], body: bytes | None
) -> None:
    answer = keeping.client().request("POST", "/files/", headers, body)
    assert answer.status == 201
    assert "upload-expires" not in answer.headers


def test_x04_creation_of_a_final_upload_has_none(keeping: ServerProcess) -> None:
    client = keeping.client()
    partial = client.create(4, b"some", upload_concat="partial")
    answer = client.request("POST", "/files/", {"Upload-Concat": f"final;{partial}"})
    assert (answer.status, answer.headers.get("upload-expires")) == (201, None)


def test_x05_head_says_when(keeping: ServerProcess) -> None:
    client = keeping.client()
    created = client.request("POST", "/files/", {"Upload-Length": 9})
    path = "/files/" + created.headers["location"].rsplit("/", 1)[1]
    assert client.head(path).headers["upload-expires"] == created.headers["upload-expires"]


@BY_METHOD
def test_x06_gone_before_the_sweep(keeping: ServerProcess, method: str, headers: dict[str, object], body: bytes | None) -> None:
    client = keeping.client()
    path = client.create(9, b"some")
    age(keeping, path, 2 * HOUR)
    answer = client.request(method, path, headers, body)
    assert answer.status == 410
    assert method == "HEAD" or answer.text.startswith("ERR_UPLOAD_EXPIRED: ")
    assert answer.offset is None


def test_x06_expired_upload_takes_no_bytes(keeping: ServerProcess) -> None:
    client = keeping.client()
    path = client.create(9, b"some")
    age(keeping, path, 2 * HOUR)
    assert client.patch(path, 4, b"other").status == 410
    data = files_of(keeping, path)[1]
    assert not data.exists() or data.read_bytes() == b"some"
    assert client.head(path).status == 410


@BY_METHOD
def test_x06_gone_after_the_sweep(sweeping: ServerProcess, method: str, headers: dict[str, object], body: bytes | None) -> None:
    client = sweeping.client()
    path = client.create(9, b"some")
    age(sweeping, path, 2 * HOUR)
    until(lambda: is_swept(sweeping, path))
    answer = client.request(method, path, headers, body)
    assert answer.status == 410
    assert method == "HEAD" or answer.text.startswith("ERR_UPLOAD_EXPIRED: ")
    assert is_swept(sweeping, path)


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_x06_gone_after_a_restart(start_server: StartServer, end: str) -> None:
    first = start_server("-expiry=1h", "-expiry-sweep-interval=100ms")
    path = first.client().create(9, b"some")
    age(first, path, 2 * HOUR)
    until(lambda: is_swept(first, path))
    assert first.client().head(path).status == 410
    getattr(first, end)()
    second = start_server("-expiry=1h", "-expiry-sweep-interval=1h")
    assert second.client().head(path).status == 410
    assert second.client().patch(path, 4, b"more").text.startswith("ERR_UPLOAD_EXPIRED: ")


def test_x06_expired_while_the_server_was_down(start_server: StartServer) -> None:
    first = start_server("-expiry=1h", "-expiry-sweep-interval=1h")
    path = first.client().create(9, b"some")
    assert first.terminate() == 0
    age(first, path, 2 * HOUR)
    second = start_server("-expiry=1h", "-expiry-sweep-interval=100ms")
    until(lambda: is_swept(second, path))
    assert second.client().head(path).status == 410


def test_x06_never_known_is_404(sweeping: ServerProcess) -> None:
    assert sweeping.client().head("/files/" + "0" * 32).status == 404


def test_x06_terminated_is_not_expired(sweeping: ServerProcess) -> None:
    client = sweeping.client()
    path = client.create(9)
    assert client.delete(path).status == 204
    answer = client.get(path)
    assert answer.status in (404, 410)
    assert not answer.text.startswith("ERR_UPLOAD_EXPIRED")


def test_x06_x08_by_the_clock(start_server: StartServer) -> None:
    """Nothing aged by hand: an idle upload expires, while one whose PATCH trickles on all the time is kept."""
    server = start_server("-expiry=1s", "-expiry-sweep-interval=100ms")
    client = server.client()
    busy, idle = client.create(100_000), client.create(9)
    assert client.head(idle).status == 200
    with client.connect() as patch:
        begin_patch(patch, busy, 0, 100_000, b"")
        sent = 0
        deadline = time.monotonic() + 15
        while not is_swept(server, idle):
            assert time.monotonic() < deadline
            patch.send(b"x")
            sent += 1
            time.sleep(0.05)
        patch.send(b"x" * (100_000 - sent))
        answer = patch.answer("PATCH")
    assert (answer.status, answer.offset) == (204, 100_000)
    assert client.head(idle).status == 410
    assert files_of(server, busy)[1].read_bytes() == b"x" * 100_000


def test_x08_running_patch_is_not_swept(sweeping: ServerProcess) -> None:
    """A PATCH whose client has stalled, on files that look two hours old: only the lock protects them."""
    client = sweeping.client()
    path = client.create(9)
    with client.connect() as patch:
        begin_patch(patch, path, 0, 9, b"some")
        until(lambda: files_of(sweeping, path)[1].stat().st_size == 4)
        age(sweeping, path, 2 * HOUR)
        let_a_sweep_pass(sweeping)
        patch.send(b"thing")
        answer = patch.answer("PATCH")
    assert (answer.status, answer.offset) == (204, 9)
    assert client.get(path).body == b"something"


def test_x09_finished_uploads_survive(sweeping: ServerProcess) -> None:
    client = sweeping.client()
    partial = client.create(4, b"part", upload_concat="partial")
    survivors = {client.create(4, b"some"): b"some", client.create(0): b"", partial: b"part"}
    survivors[client.create(upload_concat=f"final;{partial}")] = b"part"
    for path in survivors:
        age(sweeping, path, 1000 * HOUR)
    let_a_sweep_pass(sweeping)
    for path, data in survivors.items():
        assert (client.head(path).status, client.offset(path), client.get(path).body) == (200, len(data), data)


def test_x10_expired_partial_fails_the_unfinished_final(sweeping: ServerProcess) -> None:
    client = sweeping.client()
    done, open_ = client.create(4, b"some", upload_concat="partial"), client.create(5, upload_concat="partial")
    final = client.create(upload_concat=f"final;{done} {open_}")
    assert client.head(final).status == 200
    age(sweeping, open_, 2 * HOUR)
    until(lambda: is_swept(sweeping, open_))
    until(lambda: client.head(final).status == 410)
    assert client.get(final).text.startswith("ERR_UPLOAD_FAILED: ")
    assert client.get(done).body == b"some"


def test_x10_unfinished_final_lives_as_long_as_its_partials_are_fed(sweeping: ServerProcess) -> None:
    client = sweeping.client()
    open_ = client.create(5, upload_concat="partial")
    final = client.create(upload_concat=f"final;{open_}")
    age(sweeping, final, 2 * HOUR)
    assert client.patch(open_, 0, b"par").status == 204
    let_a_sweep_pass(sweeping)
    assert client.head(final).status == 200
    assert client.patch(open_, 3, b"ts").status == 204
    until(lambda: client.get(final).body == b"parts")
