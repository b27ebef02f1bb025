"""Status and events over real sockets: of what this process receives, and of what another one does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until, visible_offset
from tests.support.wire import Answer, Connection, TusClient

MIB = 1024 * 1024
FAST = "-status-interval=100ms"


def page(path: str, kind: str = ".status") -> str:
    return path.replace("/files/", f"/files/{kind}/")


def shown(tus: TusClient, path: str) -> dict[str, Any]:
    answer = tus.get(page(path))
    assert answer.status == 200, answer.text
    found: dict[str, Any] = json.loads(answer.body)
    return found


class Events:
    """A stream of events on a connection of its own."""

    def __init__(self, tus: TusClient, target: str, **headers: str) -> None:
        self.connection = tus.connect()
        pairs: dict[str, object] = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.send_head("GET", target, {**pairs, "Accept": "text/event-stream"}, tus=False)
        head = self.connection._until(b"\r\n\r\n").decode()
        self.head, self.text = head, b""

    def close(self) -> None:
        self.connection.sock.close()

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """Name and data of the next event; None at the end of the stream."""
        while True:
            while b"\n\n" not in self.text:
                size = int(self.connection._until(b"\r\n"), 16)
                if not size:
                    return None
                self.text += self.connection._exactly(size)
                self.connection._until(b"\r\n")
            event, self.text = self.text.split(b"\n\n", 1)
            fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
            if "data" in fields:
                return fields["event"], json.loads(fields["data"])

    def until(self, condition: Callable[[str, dict[str, Any]], bool]) -> tuple[str, dict[str, Any]]:
        while (event := self.next()) is not None:
            if condition(*event):
                return event
        raise AssertionError("the stream has ended")


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    return start_server(FAST)


def test_status_and_events_of_an_upload(server: ServerProcess) -> None:
    tus = server.client()
    path = tus.create(4 * MIB, upload_metadata="filename d29ybGQ=")
    with closing(Events(tus, page(path, ".events"))) as events:
        assert events.head.startswith("HTTP/1.1 200 OK") and "text/event-stream" in events.head
        name, data = events.next() or ("", {})
        assert (name, data["state"], data["offset"], data["metadata"]) == ("progress", "paused", 0, {"filename": "world"})
        with begin_patch(tus, path, 0, 4 * MIB) as patch:
            patch.send(b"x" * MIB)
            events.until(lambda name, data: data["offset"] == MIB)
            status = shown(tus, path)
            assert (status["state"], status["offset"]) == ("receiving", MIB)
            assert status["started_at"] and status["bytes_per_second"] > 0
            patch.send(b"x" * (3 * MIB))
            assert patch.answer("PATCH").status == 204  # watching has not interrupted it
        name, data = events.until(lambda name, data: data["offset"] == 4 * MIB and name != "progress")
        assert (name, data["finished"]) == ("finished", True)
        assert events.next() is None
    assert shown(tus, path)["state"] == "finished"


def test_offsets_are_live_for_verified_bodies_too(server: ServerProcess) -> None:
    """What comes with a checksum is no part of the upload before it is verified; its progress is seen all the same."""
    tus = server.client()
    path = tus.create(10)
    with begin_patch(tus, path, 0, 10, upload_checksum="sha1 " + "A" * 27 + "=") as patch:
        patch.send(b"hello")
        until(lambda: shown(tus, path)["offset"] == 5)
        assert visible_offset(tus, path) == 0
        patch.send(b"world")
        assert patch.answer("PATCH").status == 460
    until(lambda: shown(tus, path)["offset"] == 0)


def test_another_process_sees_what_arrives(start_server: StartServer) -> None:
    """Two servers on one directory are as two workers of one server."""
    receiving, watching = start_server(FAST), start_server(FAST)
    path = receiving.client().create(4 * MIB)
    other = watching.client()
    with closing(Events(other, page(path, ".events"))) as events:
        events.next()
        with begin_patch(receiving.client(), path, 0, 4 * MIB) as patch:
            for count in range(1, 5):
                patch.send(b"x" * MIB)
                if count < 4:
                    _, data = events.until(lambda _, data: data["offset"] == count * MIB)  # noqa: B023
                    assert data["state"] == "receiving"
                    assert shown(other, path)["offset"] == count * MIB
            assert patch.answer("PATCH").status == 204
        assert events.until(lambda name, _: name != "progress")[0] == "finished"


def test_what_pauses_is_told(server: ServerProcess) -> None:
    tus = server.client()
    path = tus.create(10)
    with closing(Events(tus, page(path, ".events"))) as events:
        assert tus.patch(path, 0, b"hello").status == 204
        events.until(lambda _, data: (data["state"], data["offset"]) == ("paused", 5))
    until(lambda: shown(tus, path)["state"] == "paused")


def test_what_is_deleted_is_told(server: ServerProcess) -> None:
    tus = server.client()
    path = tus.create(10)
    with closing(Events(tus, page(path, ".events"))) as events:
        events.next()
        assert tus.delete(path).status == 204
        assert events.until(lambda name, _: name != "progress")[1]["state"] == "terminated"
        assert events.next() is None
    assert tus.get(page(path)).status == 404


@pytest.mark.parametrize("target", [".uploads", ".events", ".status", ".status/unknown", ".events/unknown", ".tusd-py/peers"])
def test_what_is_not_there(tus: TusClient, target: str) -> None:
    assert tus.get("/files/" + target).status == 404


def test_nothing_but_get(tus: TusClient) -> None:
    path = tus.create(10)
    for method in ("POST", "PATCH", "DELETE"):
        assert tus.request(method, page(path)).status == 405
    assert tus.offset(path) == 0


def test_streams_do_not_hold_up_a_stop(start_server: StartServer) -> None:
    server = start_server("-shutdown-timeout=100s")
    tus = server.client()
    path = tus.create(10)
    with closing(Events(tus, page(path, ".events"))) as events:
        events.next()
        assert server.terminate() == 0
        assert events.next() is None


def test_who_reads_nothing_holds_up_nobody(server: ServerProcess) -> None:
    tus = server.client()
    path = tus.create(10 * MIB)
    with closing(Events(tus, page(path, ".events"))):
        assert tus.patch(path, 0, b"x" * (10 * MIB)).status == 204
    assert server.terminate() == 0


def open_sockets(server: ServerProcess) -> int:
    names = []
    for fd in os.listdir(f"/proc/{server.pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{server.pid}/fd/{fd}"))
        except FileNotFoundError:  # the one that is listed with
            continue
    return sum(name.startswith("socket:") for name in names)


def test_who_has_left_is_forgotten(server: ServerProcess) -> None:
    tus = server.client()
    path = tus.create(10**6)
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(Events(tus, page(path, ".events")))) for _ in range(20)]
        for stream in streams:
            stream.next()
        assert open_sockets(server) >= 20
    for offset in range(5):  # what is written to a connection that is gone tells that it is
        tus.patch(path, offset, b"x")
        until(lambda: shown(tus, path)["offset"] == offset + 1)  # noqa: B023
    until(lambda: open_sockets(server) < 10)


def test_curl_reads_events(server: ServerProcess) -> None:
    tus = server.client()
    path = tus.create(5, b"hello")
    url = f"http://127.0.0.1:{server.port}{page(path, '.events')}"
    done = subprocess.run(["curl", "--silent", "--no-buffer", url], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith("retry: 2000\n\nevent: finished\nid: end\ndata: {") and done.stdout.endswith("}\n\n")


def test_a_connection_can_be_used_again(tus: TusClient) -> None:
    """After a stream that has ended, and after status pages."""
    path = tus.create(5, b"hello")
    with tus.connect() as connection:
        for target in (page(path), page(path, ".events"), page(path)):
            assert request(connection, target).status == 200


def request(connection: Connection, target: str) -> Answer:
    return connection.request("GET", target, tus=False)


@pytest.fixture
def guarded(start_server: StartServer, tmp_path: Any) -> ServerProcess:
    tokens = tmp_path / "tokens"
    tokens.write_text("annstokenannstokenannstoken ann\nbobstokenbobstokenbobstoken bob\n")
    tokens.chmod(0o600)
    return start_server(FAST, f"-auth-tokens={tokens}")


ANN, BOB = ({"Authorization": f"Bearer {name}stoken{name}stoken{name}stoken"} for name in ("ann", "bob"))


def test_lists_and_streams_of_an_owner(guarded: ServerProcess) -> None:
    tus = guarded.client()
    assert tus.get("/files/.uploads").status == 401 and tus.get("/files/.events").status == 401
    path = tus.create(10, **ANN)
    tus.create(10, **BOB)
    listed = json.loads(tus.get("/files/.uploads", **ANN).body)
    assert [each["id"] for each in listed["uploads"]] == [path.rsplit("/", 1)[1]] and listed["next"] is None
    assert tus.get(page(path), **ANN).status == 200
    assert tus.get(page(path), **BOB).status == 403
    assert tus.get("/files/.uploads?limit=0", **ANN).status == 400
    with closing(Events(tus, "/files/.events", **ANN)) as events:
        assert tus.patch(path, 0, b"helloworld", **ANN).status == 204
        name, data = events.until(lambda name, _: name != "progress")
        assert (name, data["id"], data["owner"]) == ("finished", path.rsplit("/", 1)[1], "ann")
