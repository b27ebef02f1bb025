"""Hooks that are told what has happened, through a server: in order, again after failures, and after a crash as well."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until
from tests.wire import assert_refused, uploads_on_disk
from tests.wire.hooking import WAYS, Hooking, programs

QUICK = ("-events-backoff=50ms", "-events-max-backoff=200ms", "-progress-hooks-interval=50ms")


@pytest.fixture(params=WAYS)
def hooks(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hooking]:
    (tmp_path / "hooks" / "told").mkdir(parents=True)
    with WAYS[request.param](tmp_path / "hooks") as hooking:
        hooking.way = request.param
        yield hooking


@pytest.fixture
def server(hooks: Hooking, start_server: StartServer) -> ServerProcess:
    return start_server(*hooks.arguments, *QUICK, env=hooks.environment)


def ids(hooks: Hooking, kind: str) -> list[str]:
    return [message.get("EventID", "") for message in hooks.told(kind)]


def test_an_upload_is_told_from_its_beginning_to_its_end(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    path = tus.create(10, upload_metadata="filename YQ==")
    tus.patch(path, 0, b"hello")
    tus.patch(path, 5, b"world")
    hooks.wait("post-finish")
    tus.delete(path)
    hooks.wait("post-terminate")
    kinds = [kind for kind in hooks.kinds() if kind != "post-receive"]
    assert kinds == ["pre-create", "post-create", "post-finish", "post-terminate"]
    names = [message["Event"]["Upload"]["ID"] for message in hooks.told() if message["Type"] != "pre-create"]
    assert set(names) == {path.rsplit("/", 1)[1]}
    if hooks.way != "grpc":  # whose messages have no place for it
        events = [each for each in hooks.told() if each["Type"].startswith("post-")]
        assert len({each["EventID"] for each in events}) == len(events)


def test_an_unfinished_upload_is_not_told_to_be_finished(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    path = tus.create(10, body=b"hello")
    tus.delete(path)
    hooks.wait("post-terminate")
    assert not hooks.told("post-finish")


def test_a_failed_event_is_told_again_under_the_same_id(server: ServerProcess, hooks: Hooking) -> None:
    hooks.fail("post-finish", "not now")
    path = server.client().create(5, body=b"hello")
    hooks.wait("post-finish", 2)
    assert server.client().offset(path) == 5, "the client is not concerned"
    hooks.recover("post-finish")
    server.client().delete(path)
    hooks.wait("post-terminate")
    assert hooks.kinds()[-1] == "post-terminate", "after the finish, which came first"
    if hooks.way != "grpc":
        assert len(set(ids(hooks, "post-finish"))) == 1 and ids(hooks, "post-finish")[0]
    assert hooks.told("post-finish")[0] == hooks.told("post-finish")[-1]


def test_what_was_not_told_before_a_crash_is_told_after_it(
    server: ServerProcess, hooks: Hooking, start_server: StartServer
) -> None:
    hooks.fail("post-create", "not now")
    hooks.fail("post-finish", "not now")
    path = server.client().create(5, body=b"hello", x_custom="1")
    hooks.wait("post-create", 1)
    server.kill()
    hooks.recover("post-create")
    hooks.recover("post-finish")
    start_server(*hooks.arguments, *QUICK, env=hooks.environment)
    (finished,) = hooks.wait("post-finish")
    assert finished["Event"]["Upload"]["ID"] == path.rsplit("/", 1)[1]
    assert finished["Event"]["Upload"]["Offset"] == 5
    assert finished["Event"]["HTTPRequest"]["Header"]["X-Custom"] == ["1"]
    if hooks.way != "grpc":
        assert len(set(ids(hooks, "post-create"))) == 1, "the same event before and after"


def test_progress_can_stop_an_upload(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    path = tus.create(1000)
    hooks.wait("post-create")
    hooks.answer(
        "post-receive", StopUpload=True, HTTPResponse={"StatusCode": 402, "Body": "enough\n", "Header": {"X-Why": "quota"}}
    )
    with begin_patch(tus, path, 0, 1000) as connection:
        connection.send(b"hello")
        answer = connection.answer("PATCH")
    assert (answer.status, answer.text, answer.headers["x-why"]) == (402, "enough\n", "quota")
    (gone,) = hooks.wait("post-terminate")
    assert gone["Event"]["Upload"]["ID"] == path.rsplit("/", 1)[1]
    assert tus.head(path).status == 404
    assert uploads_on_disk(server) == set()
    assert not hooks.told("post-finish") and not hooks.told("pre-terminate")


def test_a_stop_without_a_response_looks_like_tusds(server: ServerProcess, hooks: Hooking) -> None:
    tus = server.client()
    path = tus.create(1000)
    hooks.answer("post-receive", StopUpload=True)
    with begin_patch(tus, path, 0, 1000) as connection:
        connection.send(b"hello")
        answer = connection.answer("PATCH")
    assert_refused(answer, 400, "ERR_UPLOAD_STOPPED")
    assert answer.text == "ERR_UPLOAD_STOPPED: upload has been stopped by server\n"


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Hooking]:
    (tmp_path / "hooks" / "told").mkdir(parents=True)
    with programs(tmp_path / "hooks") as hooking:
        yield hooking


def test_only_enabled_hooks_are_asked(told: Hooking, start_server: StartServer) -> None:
    server = start_server(*told.arguments, "-hooks-enabled-events=post-finish")
    server.client().create(5, body=b"hello")
    told.wait("post-finish")
    server.terminate()
    assert told.kinds() == ["post-finish"]


def test_other_answers_of_events_count_for_nothing(told: Hooking, start_server: StartServer) -> None:
    server = start_server(*told.arguments, *QUICK)
    for kind in ("post-create", "post-finish"):
        told.answer(kind, StopUpload=True, RejectUpload=True, RejectTermination=True, HTTPResponse={"StatusCode": 500})
    tus = server.client()
    path = tus.create(5)
    assert tus.patch(path, 0, b"hello").status == 204
    told.wait("post-finish")
    assert tus.delete(path).status == 204


def test_fire_and_forget_tells_once(told: Hooking, start_server: StartServer) -> None:
    server = start_server(*told.arguments, *QUICK, "-events=fire-and-forget")
    told.fail("post-finish", "not now")
    path = server.client().create(5, body=b"hello")
    told.wait("post-finish")
    server.client().delete(path)
    told.wait("post-terminate")
    assert len(told.told("post-finish")) == 1


def test_several_workers_tell_each_event_once(told: Hooking, start_server: StartServer) -> None:
    server = start_server(*told.arguments, *QUICK, "-workers=2", "-hooks-enabled-events=post-finish")
    for _ in range(8):
        server.client().create(5, body=b"hello")
    told.wait("post-finish", 8)
    server.terminate()
    assert len(told.told()) == len(set(ids(told, "post-finish"))) == 8


def test_a_client_that_goes_away_takes_its_question_along(told: Hooking, start_server: StartServer) -> None:
    """A pre-create hook whose client hung up: whatever becomes of the hook, no process stays behind the server's end."""
    server = start_server(*told.arguments, "-shutdown-timeout=1s")
    script = told.directory / "pre-create"
    script.write_text("#!/bin/sh\necho $$ > pid\nexec sleep 1000\n")
    connection = server.client().connect()
    connection.send_head("POST", "/files/", {"Upload-Length": 5, "Content-Length": 0})
    pid = int(until(lambda: (told.directory / "pid").exists() and (told.directory / "pid").read_text().strip()))
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.sock.close()
    server.terminate()
    until(lambda: not Path(f"/proc/{pid}").exists(), what="the hook's process")


def test_what_the_start_says(told: Hooking, start_server: StartServer) -> None:
    server = start_server(*told.arguments, "-hooks-enabled-events=post-finish,pre-create")
    assert f"Using '{told.directory}' for hooks" in server.log
    assert "Enabled hook events: post-finish, pre-create" in server.log
