"""Events of a real server, with a web service that is there, away, or asks for them once more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.receiver import Receiver
from tests.support.server import ServerProcess
from tests.support.waiting import until

FLAGS = ("-hooks-http-retry=0", "-events-backoff=20ms", "-events-max-backoff=100ms")
STORY = ["post-create", "post-receive", "post-finish", "post-terminate"]


def server_for(receiver: Receiver, directory: Path, *flags: str) -> ServerProcess:
    events = f"-hooks-enabled-events={','.join(STORY)}"
    return ServerProcess(directory, f"-hooks-http={receiver.url}", events, *FLAGS, *flags, watchdog=True)


def administer(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "tusd_py", "events", *arguments, f"--upload-dir={directory}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def types(receiver: Receiver, path: str) -> list[str]:
    return [one.type for one in receiver.by_upload().get(path.rsplit("/", 1)[1], []) if one.accepted]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_story_of_an_upload_in_order(tmp_path: Path, workers: int) -> None:
    with Receiver() as receiver, server_for(receiver, tmp_path / "data", f"-workers={workers}") as server:
        tus = server.client()
        paths = [tus.create(9) for _ in range(20)]
        for path in paths:
            assert tus.patch(path, 0, b"x" * 9).status == 204
            assert tus.delete(path).status == 204
        for path in paths:
            until(lambda path=path: types(receiver, path)[-1:] == ["post-terminate"], what=path)
            told = types(receiver, path)
            assert told in (STORY, [one for one in STORY if one != "post-receive"])
        assert len({one.event_id for one in receiver.told}) == len(receiver.told)


def test_a_service_that_is_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    with Receiver(failing=1.0) as receiver:
        with server_for(receiver, tmp_path / "data") as server:
            path = server.client().create(9, b"x" * 9)
            until(lambda: receiver.told)
            server.kill()
        first = receiver.told[0].event_id
        receiver.failing = 0.0
        with server_for(receiver, tmp_path / "data"):
            until(lambda: "post-finish" in types(receiver, path))
        accepted = [one for one in receiver.told if one.accepted]
        assert accepted[0].event_id == first, "the id stays, over attempts and restarts"


def test_nothing_is_told_again_after_an_orderly_restart(tmp_path: Path) -> None:
    with Receiver() as receiver:
        for number in range(3):
            with server_for(receiver, tmp_path / "data") as server:
                path = server.client().create(1, b"x")
                until(lambda path=path: "post-finish" in types(receiver, path))
                assert server.terminate() == 0
            assert len(receiver.by_upload()) == number + 1
        ids = [one.event_id for one in receiver.told]
        assert len(ids) == len(set(ids))


def test_a_running_server_notices_what_is_replayed(tmp_path: Path) -> None:
    with Receiver() as receiver, server_for(receiver, tmp_path / "data") as server:
        path = server.client().create(1, b"x")
        upload_id = path.rsplit("/", 1)[1]
        until(lambda: "post-finish" in types(receiver, path))
        before = receiver.by_upload()[upload_id]
        until(lambda: "delivered" in administer(tmp_path / "data", "list", f"--upload={upload_id}", "--type=post-finish"))
        assert administer(tmp_path / "data", "replay", f"--upload={upload_id}", "--type=post-finish").startswith("1 event ")
        until(lambda: types(receiver, path).count("post-finish") == 2)
        ids = {one.event_id for one in receiver.by_upload()[upload_id] if one.type == "post-finish"}
        assert ids == {one.event_id for one in before if one.type == "post-finish"}


def test_fire_and_forget_tells_once(tmp_path: Path) -> None:
    with Receiver(failing=1.0) as receiver, server_for(receiver, tmp_path / "data", "-events=fire-and-forget") as server:
        server.tolerate = ("given up",)
        first, second = (server.client().create(1, b"x") for _ in range(2))
        until(lambda: {one.upload for one in receiver.told} == {path.rsplit("/", 1)[1] for path in (first, second)})
        until(lambda: server.log.count("an event was given up") >= 4)
        assert not (tmp_path / "data" / ".tusd-py" / "events.db").exists()
        assert len({(one.type, one.upload) for one in receiver.told}) == len(receiver.told)
