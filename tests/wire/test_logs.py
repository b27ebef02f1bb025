"""The log of a real server: every event of tusd's that there is here, in both forms, with one worker and with two."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until, until_delivered, until_offset
from tests.support.wire import OFFSET_STREAM, TusClient
from tests.wire.hooking import Hooking, programs

Record = dict[str, Any]

FORMS = pytest.mark.parametrize("form", ["text", "json"])
STAMP = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} ")


def parse_text(line: str) -> Record:
    """A line of the text form: `key=value`, where values may be quoted."""
    assert STAMP.match(line), line
    rest, found = STAMP.sub("", line), Record()
    while rest:
        key, rest = rest.split("=", 1)
        if rest.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:].removeprefix(" ")
        else:
            value, _, rest = rest.partition(" ")
        found[key] = value
    return found


def parse_json(line: str) -> Record:
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d", found.pop("time"))
    found["event"] = found.pop("msg")
    return {key: str(value) for key, value in found.items()}


def records(server: ServerProcess) -> list[Record]:
    """What has been logged so far, as texts by the names of the fields."""
    lines = [line for line in server.log.splitlines(keepends=True) if line.endswith("\n")]
    if "-log-format=json" in server.args:
        return [parse_json(line) for line in lines if line.startswith("{")]
    return [parse_text(line[:-1]) for line in lines if " level=" in line]


def wait_for(server: ServerProcess, event: str, count: int = 1, **facts: str) -> list[Record]:
    """Records of this event that have these fields, once there are so many."""

    def found() -> list[Record]:
        matching = [one for one in records(server) if one["event"] == event and facts.items() <= one.items()]
        return matching if len(matching) >= count else []

    return until(found, what=f"{event} {facts} in {server.log}")


@pytest.fixture
def hooks(tmp_path: Path) -> Hooking:
    (tmp_path / "hooks" / "told").mkdir(parents=True)
    with programs(tmp_path / "hooks") as hooking:
        return hooking


def create(client: TusClient, body: bytes, **headers: object) -> str:
    return client.create(len(body), body, **headers).rpartition("/")[2]


@FORMS
def test_an_upload_from_creation_to_termination(start_server: StartServer, form: str) -> None:
    server = start_server(f"-log-format={form}")
    client = server.client()
    upload_id = create(client, b"hello", X_Request_ID="r-1")
    client.delete(f"/files/{upload_id}")
    wait_for(server, "ResponseOutgoing", method="DELETE")
    about = {"method": "POST", "path": "", "requestId": "r-1"}
    named = {**about, "id": upload_id}
    deleted = {"method": "DELETE", "path": upload_id, "requestId": ""}
    assert [one for one in records(server) if "method" in one] == [
        {"level": "INFO", "event": "RequestIncoming", **about},
        {"level": "INFO", "event": "UploadCreated", **named, "size": "5", "url": f"{server.url}{upload_id}"},
        {"level": "INFO", "event": "ChunkWriteStart", **named, "maxSize": "5", "offset": "0"},
        {"level": "INFO", "event": "ChunkWriteComplete", **named, "bytesWritten": "5"},
        {"level": "INFO", "event": "UploadFinished", **named, "size": "5"},
        {"level": "INFO", "event": "ResponseOutgoing", **named, "status": "201", "body": ""},
        {"level": "INFO", "event": "RequestIncoming", **deleted},
        {"level": "INFO", "event": "UploadTerminated", **deleted, "id": upload_id},
        {"level": "INFO", "event": "ResponseOutgoing", **deleted, "id": upload_id, "status": "204", "body": ""},
    ]


@FORMS
def test_the_fields_are_in_tusds_order(start_server: StartServer, form: str) -> None:
    server = start_server(f"-log-format={form}")
    create(server.client(), b"hello")
    wait_for(server, "ResponseOutgoing")
    orders = {one["event"]: list(one) for one in records(server)}
    about = ["level", "event", "method", "path", "requestId"] if form == "text" else ["level", "method", "path", "requestId"]
    tail = [] if form == "text" else ["event"]  # which the test has put there
    assert orders["RequestIncoming"] == [*about, *tail]
    assert orders["UploadCreated"] == [*about, "id", "size", "url", *tail]
    assert orders["ResponseOutgoing"] == [*about, "id", "status", "body", *tail]


def test_an_append_to_an_upload_of_deferred_length(start_server: StartServer) -> None:
    server = start_server()
    client = server.client()
    path = client.create()
    client.patch(path, 0, b"hello", Upload_Length=5)
    upload_id = path.rpartition("/")[2]
    (created,) = wait_for(server, "UploadCreated")
    assert created["size"] == "0"
    for event in ("ChunkWriteStart", "ChunkWriteComplete", "UploadFinished", "ResponseOutgoing"):
        (one,) = wait_for(server, event, method="PATCH")
        assert (one["path"], one["id"]) == (upload_id, upload_id)


@FORMS
def test_a_refusal_with_its_text(start_server: StartServer, form: str) -> None:
    server = start_server(f"-log-format={form}")
    path = server.client().create(5)
    server.client().patch(path, 3, b"lo")
    server.client().head("/files/" + "0" * 32)
    (one,) = wait_for(server, "ResponseOutgoing", status="409")
    assert one["body"] == "ERR_MISMATCHED_OFFSET: mismatched offset\n"
    (one,) = wait_for(server, "ResponseOutgoing", status="404")
    assert one["body"] == ""


def test_a_body_that_breaks_off(start_server: StartServer) -> None:
    server = start_server()
    client = server.client()
    path = client.create(10)
    with begin_patch(client, path, 0, 10) as connection:
        connection.send(b"hello")
        until_delivered(connection)
    (one,) = wait_for(server, "BodyReadError")
    assert (one["level"], one["error"]) == ("ERROR", "ERR_UNEXPECTED_EOF: server expected to receive more bytes")
    (one,) = wait_for(server, "ChunkWriteComplete")
    assert one["bytesWritten"] == "5"


def test_a_request_that_another_one_interrupts(start_server: StartServer) -> None:
    server = start_server()
    client = server.client()
    path = client.create(10)
    with begin_patch(client, path, 0, 10) as connection:
        connection.send(b"hello")
        until_offset(client, path, 5)
        assert client.offset(path) == 5
        assert connection.answer("PATCH").status == 400
    (one,) = wait_for(server, "UploadInterrupted")
    assert one == {"level": "INFO", "event": "UploadInterrupted", "id": path.rpartition("/")[2]}
    (one,) = wait_for(server, "BodyReadError")
    assert one["error"].startswith("ERR_UPLOAD_INTERRUPTED: ")


@FORMS
def test_hooks(start_server: StartServer, hooks: Hooking, form: str) -> None:
    hooks.fail("post-finish", "no\nluck")
    server = start_server(*hooks.arguments, f"-log-format={form}")
    upload_id = create(server.client(), b"hello")
    (one,) = wait_for(server, "HookInvocationStart", type="pre-create")
    assert (one["level"], one["id"]) == ("DEBUG", "")
    assert wait_for(server, "HookInvocationFinish", type="pre-create")[0]["level"] == "DEBUG"
    assert wait_for(server, "HookInvocationFinish", type="post-create")[0]["id"] == upload_id
    one = wait_for(server, "HookInvocationError", type="post-finish")[0]
    assert (one["level"], one["id"]) == ("ERROR", upload_id)
    assert "no\nluck" in one["error"]


def test_without_verbose_hooks_are_silent_unless_they_fail(start_server: StartServer, hooks: Hooking) -> None:
    hooks.fail("post-finish", "no")
    server = start_server(*hooks.arguments, "-verbose=false")
    create(server.client(), b"hello")
    wait_for(server, "HookInvocationError", type="post-finish")
    events = {one["event"] for one in records(server)}
    assert not events & {"HookInvocationStart", "HookInvocationFinish"}
    assert {"RequestIncoming", "UploadCreated", "ResponseOutgoing"} <= events


def test_a_gate_that_fails_is_an_internal_error(start_server: StartServer, hooks: Hooking) -> None:
    hooks.fail("pre-create", "no")
    server = start_server(*hooks.arguments)
    answer = server.client().request("POST", "/files/", {"Upload-Length": 5})
    assert answer.status == 500
    (one,) = wait_for(server, "InternalServerError")
    assert (one["level"], one["method"]) == ("ERROR", "POST")
    assert one["message"]


def test_a_hook_that_stops_an_upload(start_server: StartServer, hooks: Hooking) -> None:
    hooks.answer("post-receive", StopUpload=True)
    server = start_server(*hooks.arguments, "-progress-hooks-interval=10ms")
    client = server.client()
    path = client.create(10)
    with begin_patch(client, path, 0, 10) as connection:
        connection.send(b"hello")
        assert connection.answer("PATCH").status == 400
    (one,) = wait_for(server, "HookStopUpload")
    assert one == {"level": "INFO", "event": "HookStopUpload", "id": path.rpartition("/")[2]}
    assert wait_for(server, "BodyReadError")[0]["error"].startswith("ERR_UPLOAD_STOPPED: ")
    assert wait_for(server, "UploadTerminated")[0]["id"] == path.rpartition("/")[2]


@FORMS
def test_a_client_can_forge_no_line(start_server: StartServer, form: str) -> None:
    server = start_server(f"-log-format={form}")
    client = server.client()
    forged = "%0d%0a2024/02/20 15:33:45.474497 level=INFO event=Forged".replace(" ", "%20")
    client.request("HEAD", f"/files/{forged}", {"X-Request-ID": 'x" event=Forged'})
    wait_for(server, "ResponseOutgoing")
    assert "Forged" not in {one["event"] for one in records(server)}
    assert wait_for(server, "RequestIncoming")[0]["requestId"] == 'x" event=Forged'


@FORMS
def test_two_workers_write_whole_lines(start_server: StartServer, form: str) -> None:
    server = start_server(f"-log-format={form}", "-workers=2")
    ids = {create(server.client(), os.urandom(10)) for _ in range(100)}
    finished = wait_for(server, "UploadFinished", 100)
    assert {one["id"] for one in finished} == ids
    assert len(wait_for(server, "ResponseOutgoing", 100, status="201")) == 100


def test_nothing_is_lost_when_the_server_stops(start_server: StartServer) -> None:
    server = start_server()
    with server.client().connect() as connection:
        for _ in range(50):
            connection.request("POST", "/files/", {"Upload-Length": 5, "Content-Type": OFFSET_STREAM}, b"hello")
    assert server.terminate() == 0
    found = records(server)
    assert sum(one["event"] == "ResponseOutgoing" for one in found) == 50
    assert found[-1]["event"] == "ShutdownComplete"


def test_a_reader_that_stalls_stops_no_upload(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tusd_py", "-host=127.0.0.1", "-port=0", f"-upload-dir={tmp_path / 'data'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
        assert server.stdout is not None
        try:
            started = next(line for line in server.stdout if b"You can now upload" in line)  # and nothing is read after it
            client = TusClient(("127.0.0.1", int(started.rpartition(b":")[2].split(b"/")[0])))
            with client.connect() as connection:
                for _ in range(300):  # six lines each: more than a pipe takes
                    head = {"Upload-Length": 5, "Content-Type": OFFSET_STREAM}
                    assert connection.request("POST", "/files/", head, b"hello").status == 201
        finally:
            server.kill()


def test_nobody_reads_what_a_server_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tusd_py", "-host=127.0.0.1", "-port=0", f"-upload-dir={tmp_path / 'data'}"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    with server:
        assert server.stdout is not None and server.stderr is not None
        started = next(line for line in server.stdout if b"You can now upload" in line)
        server.stdout.close()
        client = TusClient(("127.0.0.1", int(started.rpartition(b":")[2].split(b"/")[0])))
        for _ in range(3):
            client.create(5, b"hello")
        server.terminate()
        assert server.stderr.read() == b""
        assert server.wait(20) == 0
