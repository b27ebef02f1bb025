"""What stock clients make of limits: they see the status, and do what the documentation says that they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.interop.clients import Event, JsClient, assert_stored, make_file, run_uppy
from tests.interop.test_tuspy import Tuspy
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tests.support.waiting import until

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "source.bin", 10 * MIB)


def error_of(client: JsClient) -> Event:
    event = client.until("error", "success")
    assert event["event"] == "error", client.events
    return event


def statuses(client: JsClient, method: str) -> list[int]:
    return [response["status"] for response in client.responses(method)]


# tus-js-client


@pytest.mark.parametrize("option", ["-quota=9MB", "-allowed-extensions=png"])
def test_tus_js_client_gives_up_where_trying_again_is_no_use(start_server: StartServer, source: Path, option: str) -> None:
    server = start_server(option)
    with JsClient(source, endpoint=server.url, metadata={"filename": "a.bin"}, retryDelays=[0, 0]) as client:
        status = error_of(client)["status"]
    assert status == (413 if "quota" in option else 415)
    assert statuses(client, "POST") == [status]


@pytest.mark.parametrize(
    "how", [{}, {"chunkSize": MIB}, {"uploadDataDuringCreation": True}], ids=["patch", "chunks", "creation"]
)
def test_tus_js_client_sees_that_its_bytes_are_refused(
    start_server: StartServer, tmp_path: Path, how: dict[str, object]
) -> None:
    """In the middle of a body that is still being sent."""
    source = tmp_path / "a.png"
    source.write_bytes(b"<!DOCTYPE html><script>" + bytes(30 * MIB))
    server = start_server("-allowed-types=image/*")
    metadata = {"filename": "a.png", "filetype": "image/png"}
    with JsClient(source, endpoint=server.url, metadata=metadata, retryDelays=[0, 0], **how) as client:
        assert error_of(client)["status"] == 415
    assert not [name for name in server.upload_dir.iterdir() if not name.name.startswith(".")]


def test_tus_js_client_gives_up_when_it_is_told_to_wait(start_server: StartServer, source: Path) -> None:
    """Unless its onShouldRetry says otherwise, as the documentation advises."""
    server = start_server("-max-uploads=1")
    path = server.client().create(5)
    with JsClient(source, endpoint=server.url, retryDelays=[0, 0]) as client:
        assert error_of(client)["status"] == 429
    assert statuses(client, "POST") == [429]
    server.client().patch(path, 0, b"12345")
    with JsClient(source, endpoint=server.url) as client:
        assert_stored(server.upload_dir, client.finish(), source)


@pytest.mark.root
def test_tus_js_client_tries_again_until_there_is_room(start_server: StartServer, tmp_path: Path, source: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=24m") as disk:
        server = start_server("-reserve-space", upload_dir=disk)
        path = server.client().create(16 * MIB)
        with JsClient(source, endpoint=server.url, retryDelays=[100] * 100) as client:
            client.until("response")
            assert statuses(client, "POST") == [507]
            server.client().delete(path)
            assert_stored(disk, client.finish(), source)
        server.terminate()


def test_parallel_uploads_of_tus_js_client(start_server: StartServer, source: Path) -> None:
    """Four places, and twice the room."""
    server = start_server("-max-uploads-per-owner=4", "-create-rate=4", "-quota=20MiB", "-allowed-extensions=bin")
    metadata = {"filename": "whole.bin"}
    with JsClient(source, endpoint=server.url, parallelUploads=4, metadata=metadata) as client:
        assert_stored(server.upload_dir, client.finish(), source)


# Uppy


def uppy_file(source: Path) -> list[dict[str, str]]:
    return [{"name": "a.bin", "type": "application/octet-stream", "path": str(source)}]


@pytest.mark.parametrize("option", ["-quota=9MB", "-allowed-extensions=png"])
def test_uppy_gives_up_where_trying_again_is_no_use(start_server: StartServer, source: Path, option: str) -> None:
    server = start_server(option)
    result = run_uppy(server.url, uppy_file(source), retryDelays=[0, 0])
    assert result["successful"] == [] and len(result["failed"]) == 1


def test_uppy_tries_again_when_it_is_told_to_wait(start_server: StartServer, source: Path) -> None:
    """A rate that lets the second creation through a second after the first."""
    server = start_server("-create-rate=60")
    client = server.client()

    def used_up() -> bool:
        return client.request("POST", client.base, {"Upload-Length": 5}).status == 429

    until(used_up)
    result = run_uppy(server.url, uppy_file(source), retryDelays=[1000, 2000, 3000])
    assert result["failed"] == []
    assert_stored(server.upload_dir, result["successful"][0]["url"], source)


# tuspy


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
@pytest.mark.parametrize(
    ("option", "status"),
    [("-quota=9MB", 413), ("-max-uploads=1", 429), ("-allowed-extensions=png", 415), ("-min-free-space=1PB", 507)],
)
def test_tuspy_tells_the_status(start_server: StartServer, source: Path, how: str, option: str, status: int) -> None:
    server = start_server(option)
    if status == 429:
        server.client().create(5)
    outcome = Tuspy(how).try_upload(server.url, source, retries=2, retry_delay=0, metadata={"filename": "a.bin"})
    assert outcome.error == status


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_tuspy_sees_that_its_bytes_are_refused(start_server: StartServer, tmp_path: Path, how: str) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(b"<!DOCTYPE html><script>" + bytes(10 * MIB))
    server = start_server("-allowed-types=image/*")
    outcome = Tuspy(how).try_upload(server.url, source)
    assert outcome.error == 415
