"""Stock clients that have to show a permission, and whose session ends in the middle of an upload."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.interop.clients import HERE, JsClient, assert_stored, make_file, run_uppy, stored
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import path_of
from tusd_py.authorization.intents import read_keys, signed_url
from tusd_py.authorization.keys import write_new_key_file

MIB = 1024 * 1024
ALICE, OTHER = "alice-alice-alice-alice", "other-other-other-other"
SESSION = {"Authorization": f"Bearer {ALICE}"}


def bare(url: str) -> str:
    return url.partition("?")[0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "source.bin", 10 * MIB + 77)


class Sessions:
    """A server that knows alice, until she is logged out."""

    def __init__(self, start_server: StartServer, directory: Path, *, capabilities: bool) -> None:
        self.tokens = directory / "tokens"
        self.tokens.write_text(f"{ALICE} alice\n{OTHER} other\n")
        self.tokens.chmod(0o600)
        write_new_key_file(directory / "url-secret")
        more = ("-url-capabilities", f"-auth-url-secret={directory / 'url-secret'}") if capabilities else ()
        self.server = start_server(f"-auth-tokens={self.tokens}", *more)

    def log_out(self) -> None:
        """Returns when the token is refused."""
        self.tokens.write_text(f"{OTHER} other\n")
        client = self.server.client()
        headers: dict[str, object] = {**SESSION, "Upload-Length": 1}
        until(lambda: client.request("POST", client.base, headers).status == 401, what="the token is refused")


@pytest.fixture(params=[True, False], ids=["capabilities", "plain-urls"])
def sessions(request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path) -> tuple[Sessions, bool]:
    return Sessions(start_server, tmp_path, capabilities=request.param), request.param


def test_tus_js_client_goes_on_when_its_session_has_ended(sessions: tuple[Sessions, bool], source: Path) -> None:
    """Without capabilities in URLs, its upload is lost: that is what they are for."""
    world, capabilities = sessions
    with JsClient(source, pause_at=3 * MIB, endpoint=world.server.url, headers=SESSION) as client:
        url = client.until("url")["url"]
        client.until("paused")
        until(lambda: stored(world.server.upload_dir, bare(url)).stat().st_size > 0, what="the first bytes are stored")
        client.tell("abort")
        client.until("aborted")
        world.log_out()
        client.tell("start")
        if capabilities:
            assert client.finish() == url
        else:
            assert client.until("success", "error")["status"] == 401
    methods = [request["method"] for request in client.requests()]
    assert methods == ["POST", "PATCH", "HEAD", "PATCH" if capabilities else "POST"]
    if capabilities:
        assert int(client.requests("PATCH")[1]["headers"]["upload-offset"]) > 0
        assert_stored(world.server.upload_dir, bare(url), source)


def tuspy(how: str, endpoint: str, file: Path, storage: Path, *, stop_at: int | None = None, **headers: str) -> dict[str, Any]:
    task = {"how": how, "endpoint": endpoint, "file": str(file), "stop_at": stop_at, "storage": str(storage)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "tuspy_upload.py")],
        input=json.dumps({**task, "headers": headers, "options": {"chunk_size": MIB}}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_tuspy_goes_on_when_its_session_has_ended(start_server: StartServer, source: Path, tmp_path: Path, how: str) -> None:
    world = Sessions(start_server, tmp_path, capabilities=True)
    storage = tmp_path / "urls.json"
    begun = tuspy(how, world.server.url, source, storage, stop_at=3 * MIB, **SESSION)
    assert (begun["error"], begun["offset"]) == (None, 3 * MIB)
    world.log_out()
    resumed = tuspy(how, world.server.url, source, storage, **SESSION)
    assert (resumed["error"], resumed["url"], resumed["begun_at"]) == (None, begun["url"], 3 * MIB)
    assert_stored(world.server.upload_dir, bare(resumed["url"]), source)


@pytest.fixture(scope="module")
def by_intent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, bytes]]:
    directory = tmp_path_factory.mktemp("intents")
    write_new_key_file(directory / "secret")
    with ServerProcess(directory / "data", f"-auth-intents={directory / 'secret'}", "-url-capabilities") as server:
        yield server, read_keys(directory / "secret")[0]


@pytest.mark.parametrize(
    "options", [{}, {"chunkSize": 3 * MIB}, {"uploadDataDuringCreation": True}, {"overridePatchMethod": True}], ids=str
)
def test_tus_js_client_uploads_by_an_intent(
    by_intent: tuple[ServerProcess, bytes], source: Path, options: dict[str, Any]
) -> None:
    server, secret = by_intent
    endpoint = signed_url(server.url, secret, owner="alice", max_size=source.stat().st_size)
    with JsClient(source, endpoint=endpoint, **options) as client:
        assert_stored(server.upload_dir, bare(client.finish()), source)
    with JsClient(source, endpoint=endpoint, **options) as client:
        assert client.until("success", "error")["status"] == 403, "an intent is for one upload"


def test_tus_js_client_uploads_in_parallel_by_a_reusable_intent(by_intent: tuple[ServerProcess, bytes], source: Path) -> None:
    server, secret = by_intent
    endpoint = signed_url(server.url, secret, owner="alice", reusable=True)
    with JsClient(source, endpoint=endpoint, parallelUploads=3) as client:
        assert_stored(server.upload_dir, bare(client.finish()), source)
    assert "capability=" in client.requests("POST")[-1]["headers"]["upload-concat"]


def test_tus_js_client_terminates_by_its_url(by_intent: tuple[ServerProcess, bytes], source: Path) -> None:
    server, secret = by_intent
    with JsClient(source, pause_at=3 * MIB, endpoint=signed_url(server.url, secret)) as client:
        url = client.until("url")["url"]
        client.until("paused")
        client.tell("terminate")
        client.until("aborted")
    assert [response["status"] for response in client.responses("DELETE")] == [204]
    assert server.client().head(path_of(url)).status == 404


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_tuspy_uploads_by_an_intent(by_intent: tuple[ServerProcess, bytes], source: Path, tmp_path: Path, how: str) -> None:
    server, secret = by_intent
    outcome = tuspy(how, signed_url(server.url, secret), source, tmp_path / "urls.json")
    assert outcome["error"] is None, outcome
    assert_stored(server.upload_dir, bare(outcome["url"]), source)


def test_uppy_uploads_by_a_reusable_intent(by_intent: tuple[ServerProcess, bytes], source: Path) -> None:
    server, secret = by_intent
    files = [{"path": str(source), "name": "a.bin", "type": "application/octet-stream"}]
    result = run_uppy(signed_url(server.url, secret, reusable=True), files)
    assert not result["failed"] and len(result["successful"]) == 1, result
    assert_stored(server.upload_dir, bare(result["successful"][0]["url"]), source)
