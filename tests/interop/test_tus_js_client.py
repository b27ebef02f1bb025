"""tus-js-client 4.3.1 under Node: every mode it has, and what it does when the network, the server or the user breaks off."""

from __future__ import annotations

import base64
import signal
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.interop.clients import JsClient, assert_stored, make_file, stored
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import path_of

MIB = 1024 * 1024
PATIENT = [0, 100, 200, 300, 500, 800, 1000, 1000, 2000, 3000, 5000, 5000]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "source.bin", 10 * MIB + 77)


@pytest.mark.parametrize(
    ("options", "patches"),
    [
        pytest.param({}, 1, id="default"),
        pytest.param({"chunkSize": 3 * MIB}, 4, id="chunkSize"),
        pytest.param({"uploadDataDuringCreation": True}, 0, id="uploadDataDuringCreation"),
        pytest.param({"uploadDataDuringCreation": True, "chunkSize": 4 * MIB}, 2, id="uploadDataDuringCreation-chunkSize"),
        pytest.param({"overridePatchMethod": True}, 0, id="overridePatchMethod"),
        pytest.param({"overridePatchMethod": True, "chunkSize": 4 * MIB}, 0, id="overridePatchMethod-chunkSize"),
    ],
)
def test_upload(shared_server: ServerProcess, source: Path, options: dict[str, object], patches: int) -> None:
    with JsClient(source, endpoint=shared_server.url, **options) as client:
        url = client.finish()
    assert len(client.requests("PATCH")) == patches
    assert all(200 <= response["status"] < 300 for response in client.responses())
    assert_stored(shared_server.upload_dir, url, source)


def test_parallel_uploads_are_concatenated(shared_server: ServerProcess, source: Path) -> None:
    metadata = {"filename": "whole.bin"}
    with JsClient(source, endpoint=shared_server.url, parallelUploads=4, metadata=metadata) as client:
        url = client.finish()
    values = [request["headers"].get("upload-concat") for request in client.requests("POST")]
    assert values[:4] == ["partial"] * 4 and values[4].startswith("final;") and len(values) == 5
    assert_stored(shared_server.upload_dir, url, source)
    head = shared_server.client().head(path_of(url))
    assert head.headers["upload-concat"].startswith("final;")
    assert head.headers["upload-metadata"] == "filename " + base64.b64encode(b"whole.bin").decode()


# The client hangs on a stream that ends on a chunk boundary, whatever the server does, so none of these does.
@pytest.mark.parametrize("during_creation", [False, True], ids=["empty-creation", "uploadDataDuringCreation"])
@pytest.mark.parametrize("size", [5, 2 * MIB - 1, 7 * MIB + 5])
def test_stream_of_unknown_length(shared_server: ServerProcess, tmp_path: Path, size: int, during_creation: bool) -> None:
    source = make_file(tmp_path / "stream.bin", size)
    options = {"uploadLengthDeferred": True, "chunkSize": 2 * MIB, "uploadDataDuringCreation": during_creation}
    with JsClient(source, kind="stream", endpoint=shared_server.url, **options) as client:
        url = client.finish()
    assert client.requests("POST")[0]["headers"]["upload-defer-length"] == "1"
    assert client.responses("POST")[0]["headers"].get("upload-offset") is not None
    assert_stored(shared_server.upload_dir, url, source)
    head = shared_server.client().head(path_of(url))
    assert head.headers["upload-length"] == str(size) and "upload-defer-length" not in head.headers


# The client cannot upload an empty *file* with uploadDataDuringCreation: it asks Node for the bytes 0 to -1.
@pytest.mark.parametrize(("kind", "during_creation"), [("file", False), ("buffer", False), ("buffer", True)])
def test_empty_file(shared_server: ServerProcess, tmp_path: Path, kind: str, during_creation: bool) -> None:
    source = make_file(tmp_path / "empty", 0)
    with JsClient(source, kind=kind, endpoint=shared_server.url, uploadDataDuringCreation=during_creation) as client:
        url = client.finish()
    assert [request["method"] for request in client.requests()] == ["POST"]
    assert_stored(shared_server.upload_dir, url, source)


def test_metadata_beyond_ascii(shared_server: ServerProcess, source: Path) -> None:
    metadata = {"filename": "Übergröße 文件 🎉.bin", "filetype": "application/x-test", "empty": ""}
    with JsClient(source, endpoint=shared_server.url, metadata=metadata) as client:
        url = client.finish()
    head = shared_server.client().head(path_of(url))
    pairs = (pair.partition(" ") for pair in head.headers["upload-metadata"].split(","))
    assert {key: base64.b64decode(value).decode() for key, _, value in pairs} == metadata
    assert_stored(shared_server.upload_dir, url, source)


def test_request_ids(shared_server: ServerProcess, source: Path) -> None:
    with JsClient(source, endpoint=shared_server.url, addRequestId=True, chunkSize=4 * MIB) as client:
        url = client.finish()
    ids = [request["headers"]["x-request-id"] for request in client.requests()]
    assert len(ids) == 4 and len(set(ids)) == 4
    assert_stored(shared_server.upload_dir, url, source)


def test_abort_and_terminate(shared_server: ServerProcess, source: Path) -> None:
    with JsClient(source, pause_at=3 * MIB, endpoint=shared_server.url) as client:
        url = client.until("url")["url"]
        client.until("paused")
        client.tell("terminate")
        client.until("aborted")
    assert [response["status"] for response in client.responses("DELETE")] == [204]
    assert shared_server.client().head(path_of(url)).status in (404, 410)
    assert not stored(shared_server.upload_dir, url).exists()


def test_abort_and_start_again(shared_server: ServerProcess, source: Path) -> None:
    with JsClient(source, pause_at=3 * MIB, endpoint=shared_server.url) as client:
        url = client.until("url")["url"]
        client.until("paused")
        until(lambda: stored(shared_server.upload_dir, url).stat().st_size > 0, what="the first bytes are stored")
        client.tell("abort")
        client.until("aborted")
        client.tell("start")
        assert client.finish() == url
    assert [request["method"] for request in client.requests()] == ["POST", "PATCH", "HEAD", "PATCH"]
    assert int(client.requests("PATCH")[1]["headers"]["upload-offset"]) > 0
    assert_stored(shared_server.upload_dir, url, source)


def test_resume_by_url_in_another_process(shared_server: ServerProcess, source: Path) -> None:
    tus = shared_server.client()
    with JsClient(source, pause_at=3 * MIB, endpoint=shared_server.url) as client:
        url = client.until("url")["url"]
        client.until("paused")
        until(lambda: stored(shared_server.upload_dir, url).stat().st_size >= 3 * MIB, what="all that was sent is stored")
    with JsClient(source, uploadUrl=url) as client:
        assert client.finish() == url
    assert [request["method"] for request in client.requests()] == ["HEAD", "PATCH"]
    assert int(client.requests("PATCH")[0]["headers"]["upload-offset"]) == 3 * MIB
    assert tus.offset(path_of(url)) == source.stat().st_size
    assert_stored(shared_server.upload_dir, url, source)


def test_resume_of_a_finished_upload_sends_nothing(shared_server: ServerProcess, source: Path) -> None:
    with JsClient(source, endpoint=shared_server.url) as client:
        url = client.finish()
    with JsClient(source, uploadUrl=url) as client:
        assert client.finish() == url
    assert [request["method"] for request in client.requests()] == ["HEAD"]


def test_resume_while_the_old_connection_is_still_open(shared_server: ServerProcess, source: Path) -> None:
    """A second client takes over from one whose connection hangs in mid-body."""
    with JsClient(source, pause_at=3 * MIB, endpoint=shared_server.url) as stuck:
        url = stuck.until("url")["url"]
        stuck.until("paused")
        with JsClient(source, uploadUrl=url, retryDelays=PATIENT) as client:
            assert client.finish() == url
    assert_stored(shared_server.upload_dir, url, source)


@pytest.mark.parametrize("options", [{}, {"chunkSize": 2 * MIB}], ids=["one-patch", "chunkSize"])
def test_server_killed_in_mid_upload_and_restarted(start_server: StartServer, source: Path, options: dict[str, object]) -> None:
    server = start_server()
    with JsClient(source, pause_at=5 * MIB, endpoint=server.url, retryDelays=PATIENT, **options) as client:
        url = client.until("url")["url"]
        client.until("paused")
        server.kill()
        start_server(f"-port={server.port}")
        assert client.finish() == url
    assert len(client.requests("POST")) == 1, "it began a new upload instead of resuming"
    assert_stored(server.upload_dir, url, source)


def test_server_stopped_in_mid_upload_and_restarted(start_server: StartServer, source: Path) -> None:
    """SIGTERM: what has arrived is kept, and the client goes on with it."""
    server = start_server()
    with JsClient(source, pause_at=5 * MIB, endpoint=server.url, retryDelays=PATIENT) as client:
        url = client.until("url")["url"]
        client.until("paused")
        until(lambda: stored(server.upload_dir, url).stat().st_size >= 5 * MIB, what="all that was sent is stored")
        server.terminate()
        start_server(f"-port={server.port}")
        assert client.finish() == url
    assert len(client.requests("POST")) == 1, "it began a new upload instead of resuming"
    assert int(client.requests("PATCH")[-1]["headers"]["upload-offset"]) == 5 * MIB
    assert_stored(server.upload_dir, url, source)


def test_upload_that_is_gone_is_created_anew(shared_server: ServerProcess, source: Path) -> None:
    gone = shared_server.url + "0123456789abcdef0123456789abcdef"
    with JsClient(source, endpoint=shared_server.url, uploadUrl=gone) as client:
        url = client.finish()
    assert [request["method"] for request in client.requests()] == ["HEAD", "POST", "PATCH"] and url != gone
    assert_stored(shared_server.upload_dir, url, source)


def test_head_423_is_repeated_until_the_upload_is_free(start_server: StartServer, source: Path) -> None:
    """Two servers on one directory; the one that receives the upload is stopped and cannot let go of it."""
    holder, other = start_server(), start_server("-acquire-lock-timeout=500ms")
    with JsClient(source, pause_at=3 * MIB, endpoint=holder.url) as stuck:
        url = stuck.until("url")["url"]
        stuck.until("paused")
        until(lambda: stored(holder.upload_dir, url).stat().st_size >= 3 * MIB, what="all that was sent is stored")
        holder.signal(signal.SIGSTOP)
        elsewhere = other.url + url.rsplit("/", 1)[1]
        with JsClient(source, endpoint=other.url, uploadUrl=elsewhere, retryDelays=PATIENT) as client:
            refused = client.until("response")
            assert (refused["method"], refused["status"]) == ("HEAD", 423)
            holder.signal(signal.SIGCONT)
            assert client.finish() == elsewhere
    assert not client.requests("POST"), "it began a new upload instead of waiting"
    assert client.requests("PATCH")[0]["headers"]["upload-offset"] == str(3 * MIB)
    assert_stored(holder.upload_dir, url, source)
