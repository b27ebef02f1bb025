"""Servers that tell a web service of uploads, and are killed at random moments, again and again."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.mounts import LoopDisk, requires_mounts
from tests.support.receiver import Receiver, Told
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import TusClient
from tusd_py.outbox.administration import Administration, Selection

KILLS = 28  # times two ways to run the server
KILLS_SLOW = 120
POWER_CUTS = 8
CLIENTS = 4

FLAGS = (
    "-hooks-enabled-events=post-create,post-receive,post-finish,post-terminate",
    "-hooks-http-retry=0",
    "-events-backoff=20ms",
    "-events-max-backoff=200ms",
    "-verbose=false",
)


class Clients:
    """What clients were told, whose server dies now and then."""

    def __init__(self, seed: object) -> None:
        self._random, self._lock = random.Random(str(seed)), threading.Lock()
        self.created: set[str] = set()
        self.unfinished: dict[str, int] = {}  # paths with their lengths
        self.answers = 0
        self.enough = threading.Event()
        self.listening = True

    def run(self, tus: TusClient, answers: int) -> None:
        """Upload until there were `answers` of them, and then until the server is gone."""
        self._limit = self.answers + answers
        self.enough.clear()
        self.listening = True
        with suppress(OSError, AssertionError, EOFError):
            while True:
                self._step(tus)

    def _step(self, tus: TusClient) -> None:
        with self._lock:
            resumed = self.unfinished.popitem() if self.unfinished and self._random.random() < 0.4 else None
            dice = [self._random.random() for _ in range(4)]
        if resumed is None:
            length = int(dice[0] * 3000) if dice[0] > 0.1 else 0
            first = int(length * dice[1]) if dice[2] < 0.7 else length
            path = tus.create(length, bytes(first) if dice[3] < 0.5 else None)
            self._note(path)
            if self.listening:
                self.created.add(path)
        else:
            path, length = resumed
        if dice[1] < 0.2:
            self.unfinished[path] = length
            return
        try:
            self._finish(tus, path, length)
        except BaseException:
            self.unfinished[path] = length
            raise

    def _finish(self, tus: TusClient, path: str, length: int) -> None:
        offset = tus.offset(path)
        self._note(path)
        for end in sorted({(offset + length) // 2, length}):
            if offset < end:
                assert tus.patch(path, offset, bytes(end - offset)).status == 204
                offset = end
                self._note(path)

    def _note(self, path: str) -> None:
        self.answers += 1
        if self.answers >= self._limit:
            self.enough.set()


def soak(directory: Path, kills: int, *flags: str, disk: LoopDisk | None = None) -> None:
    """Upload, kill, start again, `kills` times; with `disk` its power is cut just before. Then everything has to arrive."""
    chance, clients = random.Random(str((kills, flags))), Clients(flags)
    with Receiver(failing=0.1) as receiver:
        server = ServerProcess(directory, f"-hooks-http={receiver.url}", *FLAGS, *flags)
        for _ in range(kills):
            with server, ThreadPoolExecutor(CLIENTS) as pool:
                for _ in range(CLIENTS):
                    pool.submit(clients.run, server.client(), chance.randint(1, 60))
                assert clients.enough.wait(30)
                if disk is not None:
                    clients.listening = False
                    disk.cut_power()
                server.kill()
            if disk is not None:
                disk.replug()
        receiver.failing = 0.0
        with server:
            names = [path.stem for path in directory.glob("*.info")]
            found = {upload_id: _is_finished(server.client(), upload_id) for upload_id in names}
            finished = {upload_id: is_finished for upload_id, is_finished in found.items() if is_finished is not None}
            _until_told(finished, receiver, directory)
    assert {path.rsplit("/", 1)[1] for path in clients.created} <= finished.keys()
    assert sum(finished.values()) > kills and not all(finished.values())
    _check(finished, receiver.by_upload(), in_order=disk is None)


def _until_told(finished: dict[str, bool], receiver: Receiver, directory: Path) -> None:
    """Wait for all that has come true to be accepted; what is missing is told with what the outbox knows of it."""
    try:
        until(lambda: not _missing(finished, receiver.by_upload()), 30)
    except AssertionError:
        missing = _missing(finished, receiver.by_upload())
        with Administration.open(f"{directory}/.tusd-py") or pytest.fail("there is no database") as administration:
            known = [one for upload_id, _ in missing[:3] for one in administration.list(Selection(upload=upload_id), 10)]
        raise AssertionError(f"{len(missing)} never arrived, such as {missing[:3]}; the outbox has {known}") from None


def _is_finished(tus: TusClient, upload_id: str) -> bool | None:
    """None for what a kill in the middle of a creation has left: no bytes, or half a record."""
    answer = tus.head(f"{tus.base}{upload_id}")
    if answer.status != 200:
        return None
    return answer.headers["upload-offset"] == answer.headers["upload-length"]


def _missing(finished: dict[str, bool], told: dict[str, list[Told]]) -> list[tuple[str, str]]:
    """The events that have come true and that the receiver has not accepted."""
    wanted = [(upload_id, "post-create") for upload_id in finished]
    wanted += [(upload_id, "post-finish") for upload_id, is_finished in finished.items() if is_finished]
    accepted = {(one.upload, one.type) for all_told in told.values() for one in all_told if one.accepted}
    return [each for each in wanted if each not in accepted]


def _check(finished: dict[str, bool], told: dict[str, list[Told]], *, in_order: bool) -> None:
    """A power cut may take back that something was told: then the story is told from there once more, under the same ids."""
    for upload_id, events in told.items():
        story = [(one.type, one.event_id, one.offset, one.accepted) for one in events]
        types = list(dict.fromkeys(one.type for one in events))
        assert types[0] == "post-create", f"{upload_id} begins otherwise: {story}"
        for kind in ("post-create", "post-finish"):
            ids = {one.event_id for one in events if one.type == kind}
            assert len(ids) <= 1 and "" not in ids, f"{kind} of {upload_id} has several ids: {story}"
        if "post-finish" in types:
            assert finished[upload_id], f"{upload_id} never finished: {story}"
        if "post-finish" in types and in_order:
            end = next(number for number, one in enumerate(events) if one.type == "post-finish")
            assert {one.type for one in events[end:]} == {"post-finish"}, f"{upload_id} goes on after its end: {story}"
            first = next(number for number, one in enumerate(events) if one.type == "post-create" and one.accepted)
            assert first < end, f"{upload_id} ends before its beginning was accepted: {story}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_event_arrives_whenever_the_server_is_killed(tmp_path: Path, workers: int) -> None:
    soak(tmp_path / "data", KILLS, f"-workers={workers}")


@pytest.mark.root
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_every_event_arrives_after_power_cuts(kind: str) -> None:
    """What was answered as the power went is no promise (tests/outbox/test_power.py)."""
    requires_mounts(kind)
    with LoopDisk(kind) as disk:
        soak(disk.path / "data", POWER_CUTS, "-durability=every-patch", disk=disk)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", ["none", "every-patch"])
def test_every_event_arrives_after_many_kills(tmp_path: Path, durability: str) -> None:
    soak(tmp_path / "data", KILLS_SLOW, "-workers=2", f"-durability={durability}")
