"""What stock clients make of hooks that refuse, fail, hang and answer: through a server, each way of asking alike."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.interop.clients import JsClient, assert_stored, make_file, run_uppy
from tests.interop.hooking import WAYS, ClientHooking
from tests.interop.test_tuspy import Tuspy
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import path_of
from tests.wire import uploads_on_disk

MIB = 1 << 20
ENABLED = "-hooks-enabled-events="
AGAIN = ("-events-backoff=50ms", "-events-max-backoff=200ms")
PATIENT = [100] * 200
REFUSAL = {"StatusCode": 422, "Body": "this is no picture\n", "Header": {"X-Why": "content"}}


@pytest.fixture(params=WAYS)
def hooks(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ClientHooking]:
    (tmp_path / "hooks" / "told").mkdir(parents=True)
    with WAYS[request.param](tmp_path / "hooks") as hooking:
        hooking.way = request.param
        yield hooking


@pytest.fixture
def server(hooks: ClientHooking, start_server: StartServer) -> ServerProcess:
    """All hooks are on, gates too, and a hook that hangs is given up soon."""
    quick = ("-hooks-timeout=2s", "-hooks-http-timeout=2s", "-progress-hooks-interval=50ms")
    return start_server(*hooks.arguments, ENABLED, *quick, *AGAIN, env=hooks.environment)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "source.bin", 3 * MIB + 5)


def uppy_file(source: Path) -> list[dict[str, str]]:
    return [{"name": "a.bin", "type": "application/octet-stream", "path": str(source)}]


def told_id(message: dict[str, Any]) -> str:
    return str(message["Event"]["Upload"]["ID"])


# pre-create


def test_a_rejected_creation(server: ServerProcess, hooks: ClientHooking, source: Path) -> None:
    hooks.answer("pre-create", RejectUpload=True, HTTPResponse=REFUSAL)
    with JsClient(source, endpoint=server.url, retryDelays=[0, 0]) as client:
        assert client.until("error", "success")["status"] == 422
    (response,) = client.responses("POST")
    assert response["body"] == "this is no picture\n" and response["headers"]["x-why"] == "content"
    uppy = run_uppy(server.url, uppy_file(source), retryDelays=[0, 0])
    assert uppy["successful"] == [] and len(uppy["failed"]) == 1
    assert Tuspy("blocking").try_upload(server.url, source).error == 422
    assert uploads_on_disk(server) == set()
    assert set(hooks.kinds()) == {"pre-create"}


def test_a_creation_under_another_name(server: ServerProcess, hooks: ClientHooking, source: Path) -> None:
    changes = {"ID": "project/7", "MetaData": {"filename": "b.bin"}, "Storage": {"Path": "project/7.bin"}}
    hooks.answer("pre-create", ChangeFileInfo=changes, HTTPResponse={"Header": {"X-Why": "renamed"}})
    with JsClient(source, endpoint=server.url, metadata={"filename": "a.bin"}, chunkSize=MIB) as client:
        url = client.finish()
    assert url == f"{server.url}project/7"
    assert client.responses("POST")[0]["headers"]["x-why"] == "renamed"
    assert (server.upload_dir / "project/7.bin").read_bytes() == source.read_bytes()
    (finished,) = hooks.wait("post-finish")
    assert finished["Event"]["Upload"]["MetaData"] == {"filename": "b.bin"}


# pre-finish refuses


@pytest.mark.parametrize(
    "how", [{}, {"uploadDataDuringCreation": True}, {"chunkSize": MIB}], ids=["patch", "creation", "chunks"]
)
def test_tus_js_client_is_told_of_a_refused_finish(
    server: ServerProcess, hooks: ClientHooking, source: Path, how: dict[str, Any]
) -> None:
    """And does not report success when it asks again; told to resume that upload, it begins another."""
    hooks.answer("pre-finish", HTTPResponse=REFUSAL)
    with JsClient(source, endpoint=server.url, retryDelays=[0, 0], **how) as client:
        assert client.until("error", "success")["status"] == 422
    assert client.responses()[-1]["body"] == "this is no picture\n"
    (asked,) = hooks.told("pre-finish")
    refused = f"{server.url}{told_id(asked)}"
    gone = 404 if "uploadDataDuringCreation" in how else 410  # nobody knows the URL of a creation that was refused
    assert server.client().head(path_of(refused)).status == gone
    hooks.no_answer("pre-finish")
    with JsClient(source, endpoint=server.url, uploadUrl=refused, **how) as client:
        url = client.finish()
    assert url != refused
    assert_stored(server.upload_dir, url, source)
    assert [told_id(message) for message in hooks.wait("post-finish")] == [url.rsplit("/", 1)[1]]


def test_a_client_that_tries_again_after_a_refused_finish_sees_that_it_is_gone(
    server: ServerProcess, hooks: ClientHooking, source: Path
) -> None:
    hooks.answer("pre-finish", RejectUpload=True)
    uppy = run_uppy(server.url, uppy_file(source), retryDelays=[0, 0])
    assert uppy["successful"] == [] and len(uppy["failed"]) == 1
    for how in ("blocking", "asyncio"):
        outcome = Tuspy(how).try_upload(server.url, source, retries=3, retry_delay=0)
        assert outcome.error in (400, 410), outcome
    assert not hooks.told("post-finish")
    for message in hooks.told("pre-finish"):
        assert server.client().head(f"/files/{told_id(message)}").status == 410
    hooks.no_answer("pre-finish")
    for how in ("blocking", "asyncio"):
        assert_stored(server.upload_dir, Tuspy(how).upload(server.url, source).url, source)


def test_a_refused_final(server: ServerProcess, hooks: ClientHooking, source: Path) -> None:
    hooks.answer("pre-finish-final", HTTPResponse=REFUSAL)
    with JsClient(source, endpoint=server.url, parallelUploads=3, retryDelays=[0, 0]) as client:
        assert client.until("error", "success")["status"] == 422
    finals = [message for message in hooks.told("pre-finish") if message["Event"]["Upload"]["IsFinal"]]
    assert len(finals) == 1
    assert server.client().head(f"/files/{told_id(finals[0])}").status == 404, "nobody knows its URL"
    hooks.no_answer("pre-finish-final")
    with JsClient(source, endpoint=server.url, parallelUploads=3) as client:
        assert_stored(server.upload_dir, client.finish(), source)


# pre-finish fails


@pytest.mark.parametrize("trouble", ["fails", "answers 503", "hangs"])
def test_tus_js_client_waits_for_a_failed_finish(
    server: ServerProcess, hooks: ClientHooking, source: Path, trouble: str
) -> None:
    """Its next HEAD has the hook asked again, and success is reported once."""
    if trouble == "fails":
        hooks.fail("pre-finish", "the scanner is down")
    elif trouble == "hangs":
        hooks.hang("pre-finish")
    else:
        hooks.answer("pre-finish", HTTPResponse={"StatusCode": 503, "Body": "later\n"})
    with JsClient(source, endpoint=server.url, retryDelays=PATIENT) as client:
        while (response := client.until("response", "success"))["event"] == "response" and response["status"] < 500:
            pass
        assert response["event"] == "response", client.events
        if trouble == "fails":
            hooks.recover("pre-finish")
        elif trouble == "hangs":
            hooks.go_on("pre-finish")
        else:
            hooks.no_answer("pre-finish")
        url = client.finish()
    assert_stored(server.upload_dir, url, source)
    assert len([event for event in client.events if event["event"] == "success"]) == 1
    assert len(client.requests("POST")) == 1 and client.requests("HEAD")
    told = [told_id(message) for message in hooks.told("pre-finish")]
    assert len(told) >= 2 and set(told) == {url.rsplit("/", 1)[1]}
    assert [told_id(message) for message in hooks.wait("post-finish")] == [url.rsplit("/", 1)[1]]


@pytest.mark.parametrize("client", ["uppy", "blocking", "asyncio"])
def test_other_clients_wait_for_a_failed_finish(server: ServerProcess, hooks: ClientHooking, source: Path, client: str) -> None:
    def upload() -> str:
        if client == "uppy":
            result = run_uppy(server.url, uppy_file(source), retryDelays=PATIENT)
            assert result["failed"] == []
            return result["successful"][0]["url"]
        return Tuspy(client).upload(server.url, source, retries=100, retry_delay=1).url

    hooks.fail("pre-finish", "the scanner is down")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(upload)
        hooks.wait("pre-finish")
        hooks.recover("pre-finish")
        url = done.result(60)
    assert_stored(server.upload_dir, url, source)
    assert {told_id(message) for message in hooks.told("pre-finish")} == {url.rsplit("/", 1)[1]}
    assert len(hooks.wait("post-finish")) == 1


def test_a_client_that_leaves_while_the_hook_thinks(hooks: ClientHooking, start_server: StartServer, source: Path) -> None:
    """Who resumes waits for the hook, too, and is told then."""
    server = start_server(*hooks.arguments, ENABLED, env=hooks.environment)
    hooks.hang("pre-finish")
    with JsClient(source, endpoint=server.url) as client:
        url = client.until("url")["url"]
        hooks.wait("pre-finish")
    with JsClient(source, endpoint=server.url, uploadUrl=url, retryDelays=PATIENT) as client:
        client.until("request")
        hooks.go_on("pre-finish")
        assert client.finish() == url
    assert_stored(server.upload_dir, url, source)
    assert len(hooks.wait("post-finish")) == 1


# post-receive, pre-terminate


def test_a_stopped_upload(server: ServerProcess, hooks: ClientHooking, source: Path) -> None:
    hooks.answer("post-receive", StopUpload=True, HTTPResponse=REFUSAL)
    with JsClient(source, pause_at=MIB, endpoint=server.url, retryDelays=[0, 0]) as client:
        url = client.until("url")["url"]
        assert client.until("error", "success")["status"] == 422
    (response,) = client.responses("PATCH")
    assert response["body"] == "this is no picture\n" and response["headers"]["x-why"] == "content"
    assert told_id(hooks.wait("post-terminate")[0]) == url.rsplit("/", 1)[1]
    assert server.client().head(path_of(url)).status == 404
    assert uploads_on_disk(server) == set()
    assert not hooks.told("post-finish")


def test_a_termination_that_is_not_allowed(server: ServerProcess, hooks: ClientHooking, source: Path) -> None:
    hooks.answer("pre-terminate", RejectTermination=True, HTTPResponse=REFUSAL)
    with JsClient(source, pause_at=MIB, endpoint=server.url) as client:
        url = client.until("url")["url"]
        client.until("paused")
        client.tell("terminate")
        while (response := client.until("response", "aborted")).get("method") != "DELETE":
            assert response["event"] == "response"
    assert (response["status"], response["body"]) == (422, "this is no picture\n")
    with JsClient(source, endpoint=server.url, uploadUrl=url) as client:
        assert client.finish() == url
    assert_stored(server.upload_dir, url, source)
    assert not hooks.told("post-terminate")


def test_what_the_hook_says_reaches_the_client(server: ServerProcess, hooks: ClientHooking, source: Path) -> None:
    hooks.answer("pre-finish", HTTPResponse={"StatusCode": 200, "Body": '{"asset": 7}', "Header": {"X-Why": "asset"}})
    with JsClient(source, endpoint=server.url) as client:
        client.finish()
    (response,) = client.responses("PATCH")
    assert (response["status"], response["body"], response["headers"]["x-why"]) == (200, '{"asset": 7}', "asset")


# Order


def test_events_keep_their_order_and_ids_over_a_restart(
    server: ServerProcess, hooks: ClientHooking, start_server: StartServer, source: Path
) -> None:
    hooks.fail("post-create", "not now")
    with JsClient(source, pause_at=MIB, endpoint=server.url) as client:
        url = client.until("url")["url"]
        client.until("paused")
    (first, *_) = hooks.wait("post-create")
    server.kill()
    server = start_server(*hooks.arguments, ENABLED, *AGAIN, env=hooks.environment)
    url = f"{server.url}{url.rsplit('/', 1)[1]}"
    with JsClient(source, endpoint=server.url, uploadUrl=url) as client:
        assert client.finish() == url
    assert server.client().delete(path_of(url)).status == 204
    assert not hooks.told("post-finish") and not hooks.told("post-terminate")
    before = len(hooks.told())
    hooks.recover("post-create")
    hooks.wait("post-terminate")
    events = [message["Type"] for message in hooks.told()[before:] if message["Type"] != "post-receive"]
    assert events[-3:] == ["post-create", "post-finish", "post-terminate"] and set(events[:-3]) <= {"post-create"}
    assert {message["EventID"] for message in hooks.told("post-create")} == {first["EventID"]}


# Hooks that ask the server


CALLER = """
import urllib.error
import urllib.request
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import HookAnswer

def ask(method, url, **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

class Hooks:
    def pre_finish(self, event):
        base = "http://" + event.request.header("Host") + "/files/"
        status, body = ask("GET", base + event.upload.id)
        results = [status, ask("HEAD", base + event.upload.id)[0]]
        other = event.upload.metadata.text("other")
        if other:
            results.append(ask("DELETE", base + other, **{"Tus-Resumable": "1.0.0"})[0])
        return HookAnswer(response=HttpResponse(status=200, body=f"{results} {len(body)}"))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hook_may_ask_the_server(start_server: StartServer, tmp_path: Path, source: Path, workers: int) -> None:
    """Of the upload that waits for it, and may delete another."""
    (tmp_path / "calling_hooks.py").write_text(CALLER)
    arguments = ("-hooks-python=calling_hooks:Hooks", ENABLED, f"-workers={workers}")
    server = start_server(*arguments, env={"PYTHONPATH": str(tmp_path)})
    other = server.client().create(5)
    with JsClient(source, endpoint=server.url, metadata={"other": other.rsplit("/", 1)[1]}) as client:
        url = client.finish()
    assert client.responses("PATCH")[0]["body"].startswith("[423, 423, 204] "), "it is not finished yet"
    until(lambda: server.client().head(other).status == 404)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == source.read_bytes()
