"""Limits: what clients are answered, by one worker and by several. Rules are tested by tables elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until
from tests.support.wire import OFFSET_STREAM, Answer, TusClient, b64, chunked, path_of

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20_000)
HTML = b"<!DOCTYPE html><script>alert(1)</script>" + b" " * 20_000


@pytest.fixture(params=[1, 3], ids=["1-worker", "3-workers"])
def workers(request: pytest.FixtureRequest) -> str:
    return f"-workers={request.param}"


def post(client: TusClient, length: int | None, body: bytes | None = None, **metadata: str) -> Answer:
    headers: dict[str, object] = {"Upload-Defer-Length": 1} if length is None else {"Upload-Length": length}
    if metadata:
        headers["Upload-Metadata"] = ",".join(f"{key} {b64(value)}" for key, value in metadata.items())
    if body is not None:
        headers["Content-Type"] = OFFSET_STREAM
    return client.request("POST", client.base, headers, body)


def patch_with_length(client: TusClient, path: str, offset: int, length: int, body: bytes) -> Answer:
    return client.patch(path, offset, body, **{"Upload-Length": length})


def refused(answer: Answer, status: int, code: str) -> bool:
    return answer.status == status and answer.text.startswith(f"{code}: ")


def entries(server: ServerProcess) -> list[str]:
    """What of uploads is in the directory."""
    return sorted(name for name in os.listdir(server.upload_dir) if not name.startswith("."))


# Quota


def test_a_quota(start_server: StartServer, workers: str) -> None:
    client = start_server("-quota=100", workers).client()
    path = client.create(60)
    answer = post(client, 41)
    assert refused(answer, 413, "ERR_QUOTA_EXCEEDED") and "60 of 100 bytes are taken" in answer.text
    assert client.patch(path, 0, bytes(60)).status == 204, "who was admitted is not refused"
    assert post(client, 41).status == 413, "finished uploads count"
    assert client.delete(path).status == 204
    assert post(client, 100).status == 201


def test_a_race_for_a_quota(start_server: StartServer, workers: str) -> None:
    client = start_server("-quota=1000", workers).client()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(client, 30, bytes(30)).status, range(60)))
    assert answers.count(201) == 33 and set(answers) == {201, 413}


def test_a_length_that_is_declared_must_fit(start_server: StartServer) -> None:
    client = start_server("-quota=100").client()
    path = client.create()
    assert client.patch(path, 0, bytes(50)).status == 204
    assert refused(patch_with_length(client, path, 50, 101, bytes(51)), 413, "ERR_QUOTA_EXCEEDED")
    assert client.offset(path) == 50
    assert patch_with_length(client, path, 50, 100, bytes(50)).status == 204


def test_what_is_refused_for_another_reason_takes_no_room(start_server: StartServer) -> None:
    client = start_server("-quota=100", "-max-size=90").client()
    for _ in range(3):
        assert refused(post(client, 91), 413, "ERR_MAX_SIZE_EXCEEDED")
        answer = client.request(
            "POST",
            client.base,
            {"Upload-Length": 80, "Content-Type": OFFSET_STREAM, "Upload-Checksum": f"sha1 {b64(bytes(20))}"},
            bytes(80),
        )
        assert answer.status == 460
    assert post(client, 90).status == 201


def test_uploads_of_before_are_counted(start_server: StartServer) -> None:
    server = start_server()
    path = server.client().create(60)
    server.client().patch(path, 0, bytes(60))
    server.terminate()
    client = start_server("-quota=100").client()
    spare: list[str] = []

    def counted() -> bool:
        answer = post(client, 41)
        if answer.status == 201:
            spare.append(path_of(answer.headers["location"]))
            client.delete(spare[-1])
        return answer.status == 413

    until(counted)
    assert post(client, 40).status == 201


# Numbers and rates


def test_uploads_that_run_at_once(start_server: StartServer, workers: str) -> None:
    client = start_server("-max-uploads=2", workers).client()
    paths = [client.create(5), client.create(5)]
    answer = post(client, 5)
    assert refused(answer, 429, "ERR_TOO_MANY_UPLOADS") and answer.headers["retry-after"] == "5"
    assert client.patch(paths[0], 0, b"12345").status == 204
    third = client.create(5)
    assert client.patch(paths[1], 0, b"123").status == 204, "who was admitted is not refused"
    assert post(client, 5).status == 429
    assert client.delete(third).status == 204
    assert post(client, 5, b"12345").status == 201
    assert post(client, 5, b"12345").status == 201, "finished at once"


def test_without_owners_the_limit_of_each_is_everybodys(start_server: StartServer) -> None:
    client = start_server("-max-uploads-per-owner=1").client()
    client.create(5)
    assert refused(post(client, 5), 429, "ERR_TOO_MANY_UPLOADS")


def test_a_rate(start_server: StartServer, workers: str) -> None:
    client = start_server("-create-rate=3", workers).client()
    for _ in range(3):
        client.create(5)
    answer = post(client, 5)
    assert refused(answer, 429, "ERR_RATE_LIMITED")
    assert 1 <= int(answer.headers["retry-after"]) <= 20


def test_behind_a_proxy_each_client_has_a_rate(start_server: StartServer) -> None:
    client = start_server("-create-rate=1", "-behind-proxy").client()
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        client.create(5, X_Forwarded_For=address)
    for address in ("192.0.2.1", "198.51.100.7, 192.0.2.2", "2001:db8::2"):
        answer = client.request("POST", client.base, {"Upload-Length": 5, "X-Forwarded-For": address})
        assert refused(answer, 429, "ERR_RATE_LIMITED")


# Space


@pytest.mark.root
def test_what_does_not_fit_is_refused_before_its_first_byte(start_server: StartServer, tmp_path: Path, workers: str) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=16m") as disk:
        server = start_server("-min-free-space=4MiB", workers, upload_dir=disk)
        client = server.client()
        path = client.create(6 << 20)
        before = entries(server)
        answer = post(client, 8 << 20)
        assert refused(answer, 507, "ERR_INSUFFICIENT_STORAGE")
        assert entries(server) == before
        assert client.patch(path, 0, bytes(6 << 20)).status == 204
        second = client.create(4 << 20)
        assert post(client, 2 << 20).status == 507, "promised to the second"
        assert client.delete(second).status == 204
        server.terminate()


@pytest.mark.root
def test_a_final_that_is_put_together_is_promised_nothing_more(start_server: StartServer, tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=16m") as disk:
        server = start_server("-reserve-space", upload_dir=disk)
        client = server.client()
        paths = [client.create(2 << 20, bytes(2 << 20), upload_concat="partial") for _ in range(2)]
        client.create(upload_concat=f"final;{' '.join(paths)}")
        until(lambda: post(client, 6 << 20).status == 201)  # 8 MiB are taken, and the account knows of no more
        server.terminate()


# Types


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    options = ["-allowed-types=image/*,application/pdf", "-allowed-extensions=png,pdf"]
    with ServerProcess(tmp_path_factory.mktemp("images"), *options) as server:
        yield server


def test_declared_types(images: ServerProcess) -> None:
    client = images.client()
    before = entries(images)
    answer = post(client, 5, filename="a.png", filetype="text/html")
    assert refused(answer, 415, "ERR_TYPE_NOT_ALLOWED")
    assert "text/html is not allowed; allowed types are image/*, application/pdf" in answer.text
    assert refused(post(client, 5, filename="a.png.exe", filetype="image/png"), 415, "ERR_TYPE_NOT_ALLOWED")
    assert refused(post(client, 5), 415, "ERR_TYPE_NOT_ALLOWED")
    assert entries(images) == before
    assert post(client, 5, filename="a.PNG", filetype="image/png").status == 201


@pytest.mark.parametrize("kind", ["creation", "patch", "pieces", "chunked", "small", "checksum"])
def test_types_by_their_bytes(images: ServerProcess, kind: str) -> None:
    client = images.client()
    before = entries(images)
    data = HTML[:30] if kind == "small" else HTML
    name = {"filename": "a.png", "filetype": "image/png"}
    if kind == "creation":
        answer = post(client, len(data), data, **name)
    else:
        path = path_of(post(client, len(data), **name).headers["location"])
        extra: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM}
        body = data
        if kind == "pieces":
            for offset in (0, 1000, 2000):
                assert client.patch(path, offset, data[offset : offset + 1000]).status == 204
            extra["Upload-Offset"], body = 3000, data[3000:]
        if kind == "chunked":
            extra["Transfer-Encoding"], body = "chunked", chunked(data[:5000], data[5000:])
        if kind == "checksum":
            extra["Upload-Checksum"] = f"sha1 {b64(bytes(20))}"  # the type is known first
        answer = client.request("PATCH", path, extra, body)
        assert client.head(path).status == 404, "the upload is gone"
    assert refused(answer, 415, "ERR_TYPE_NOT_ALLOWED") and "looks like text/html" in answer.text
    assert entries(images) == before


def test_a_body_is_stopped_as_soon_as_its_type_is_known(images: ServerProcess) -> None:
    """It is refused while the client is still sending, and the connection closed."""
    client = images.client()
    path = path_of(post(client, 1 << 30, filename="a.png", filetype="image/png").headers["location"])
    with begin_patch(client, path, 0, 1 << 30) as connection:
        connection.send(HTML)
        answer = connection.answer("PATCH")
        assert refused(answer, 415, "ERR_TYPE_NOT_ALLOWED")
        assert connection.is_closed()


@pytest.mark.parametrize("kind", ["creation", "patch", "pieces"])
def test_what_is_allowed_arrives_whole(images: ServerProcess, kind: str) -> None:
    client = images.client()
    if kind == "creation":
        path = path_of(post(client, len(PNG), PNG, filename="a.png").headers["location"])
    else:
        path = path_of(post(client, len(PNG), filename="a.png", filetype="image/png").headers["location"])
        step = 700 if kind == "pieces" else len(PNG)
        for offset in range(0, len(PNG), step):
            assert client.patch(path, offset, PNG[offset : offset + step]).status == 204
    assert client.get(path).body == PNG


def test_a_type_that_is_known_only_when_the_length_is(images: ServerProcess) -> None:
    client = images.client()
    for data, status in ((PNG[:500], 204), (HTML[:500], 415)):
        path = path_of(post(client, None, data, filename="a.png").headers["location"])
        assert patch_with_length(client, path, 500, 500, b"").status == status
        assert client.head(path).status == (200 if status == 204 else 404)


@pytest.mark.parametrize(("data", "status"), [(PNG, 201), (HTML, 415)])
def test_a_final_is_judged_by_its_partials(images: ServerProcess, data: bytes, status: int) -> None:
    client = images.client()
    middle = len(data) // 2
    parts = [client.create(len(part), part, upload_concat="partial") for part in (data[:middle], data[middle:])]
    headers: dict[str, object] = {"Upload-Concat": f"final;{' '.join(parts)}", "Upload-Metadata": f"filename {b64('a.png')}"}
    answer = client.request("POST", client.base, headers)
    assert answer.status == status
    if status == 201:
        assert client.get(path_of(answer.headers["location"])).body == data
    else:
        assert refused(answer, 415, "ERR_TYPE_NOT_ALLOWED")


# Throughput


@pytest.mark.slow
def test_a_request_that_is_too_slow(start_server: StartServer) -> None:
    client = start_server("-min-throughput=1MB").client()
    path = client.create(1 << 20)
    with begin_patch(client, path, 0, 1 << 20) as connection:
        connection.sock.settimeout(60)
        connection.send(b"little")
        answer = connection.answer("PATCH")
    assert refused(answer, 500, "ERR_TOO_SLOW")
    assert client.offset(path) == 6, "what has arrived is kept"
    assert client.patch(path, 6, bytes((1 << 20) - 6)).status == 204
