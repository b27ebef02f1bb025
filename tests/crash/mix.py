"""A mix of uploads from several threads at once, which goes on until a trigger fires, and on the next server after that.

Each thread takes an upload, sends one request of it, takes another. Which kinds there are comes from a seeded generator.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.crash.client import OneClient
from tests.crash.ledger import Lost, Upload, take_source
from tests.support.wire import TusClient

KINDS = ("plain", "plain", "with-upload", "deferred", "verified", "verified", "doomed", "family", "early family")
LENGTHS = (0, 1, 300, 4096, 70_000, 300_000, 1 << 20, 3 << 20, 5 << 20)
JOIN_TIMEOUT = 40.0  # for threads whose server is dead; a request of theirs waits 15 s at most


class Trigger:
    """Fires at the n-th tick of all threads together: at a random moment that does not depend on the machine's speed."""

    def __init__(self, ticks: int | None) -> None:
        self.left, self.fired, self.lock = ticks, threading.Event(), threading.Lock()

    def tick(self) -> None:
        with self.lock:
            if self.left is not None:
                self.left -= 1
                if self.left <= 0:
                    self.fired.set()


class Stopped(Exception):
    """The server was stopped on purpose while this thread was at work."""


@dataclass
class Mix:
    """Runs until the trigger fires; without ticks, until nothing is left to do.

    `uploads` is the ledger: what was answered 201. `planned` has what was not: of those, nobody knows where they are. What is
    answered once `deaf` is set counts as lost on its way: a power cut by an ioctl takes milliseconds in which the process goes
    on, and a sync of ext4 that is under way then may report success.
    """

    client: TusClient
    seed: str
    uploads: list[Upload]
    planned: list[Upload]
    ticks: int | None
    threads: int = 5
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trigger, self.deaf = Trigger(self.ticks), threading.Event()
        self.todo = deque(upload for upload in [*self.planned, *self.uploads] if upload.unfinished)
        self.workers = [
            threading.Thread(target=self._work, args=(random.Random(f"{self.seed}/{n}"),), name=f"mix-{n}", daemon=True)
            for n in range(self.threads)
        ]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def join(self) -> None:
        """Wait for the threads and raise the first thing that went wrong in one of them."""
        for worker in self.workers:
            worker.join(JOIN_TIMEOUT)
            assert not worker.is_alive(), f"{worker.name} hangs"
        if self.failures:
            raise self.failures[0]

    def _work(self, rng: random.Random) -> None:
        try:
            while not self.trigger.fired.is_set() and (upload := self._next(rng)) is not None:
                self._advance(upload, rng)
        except Stopped:
            pass
        except BaseException as failure:
            self.failures.append(failure)
            self.trigger.fired.set()

    def _advance(self, upload: Upload, rng: random.Random) -> None:
        client = OneClient(self.client, upload, rng, self.trigger.tick, self.deaf)
        new = not upload.path
        try:
            client.step()
        except OSError as error:
            upload.note(type(error).__name__)
            upload.unknown = bool(upload.path)
            if self.trigger.fired.is_set():
                raise Stopped from None
            raise Lost(f"a connection failed though nobody stopped the server: {error!r}\n  upload: {upload}") from error
        except Lost:
            if self.trigger.fired.is_set() and client.last is not None and client.last.status >= 400:
                raise Stopped from None  # refusals are no promises; a dead disk gives plenty
            raise
        if new and upload.path:
            self.planned.remove(upload)
            self.uploads.append(upload)
        if upload.unfinished:
            self.todo.append(upload)

    def _next(self, rng: random.Random) -> Upload | None:
        """Something to do: the next upload in turn, a new one, or, without ticks, None when the others do the rest."""
        while not self.trigger.fired.is_set():
            if upload := self._take():
                return upload
            if self.ticks is not None:
                new = list(invent(rng))
                self.planned.extend(new)
                self.todo.extend(new)
            elif not self.todo:
                break
            else:
                self.trigger.fired.wait(0.01)  # only finals are left, whose parts are in other threads' hands
        return None

    def _take(self) -> Upload | None:
        for _ in range(len(self.todo)):
            try:
                upload = self.todo.popleft()
            except IndexError:  # another thread was faster
                return None
            if upload.path or upload.can_be_created:
                return upload
            self.todo.append(upload)
        return None


def invent(rng: random.Random) -> Iterator[Upload]:
    """One new upload, or a few partial ones and their final."""
    kind = rng.choice(KINDS)
    length = rng.choice(LENGTHS)
    length = rng.randint(length // 2, length)
    if "family" not in kind:
        yield Upload(kind, take_source(rng, length), verified=kind == "verified", deferred=kind == "deferred")
        return
    whole, start, parts = take_source(rng, length), 0, []
    for end in [*sorted(rng.randint(0, length) for _ in range(rng.randint(0, 3))), length]:
        parts.append(Upload("part", whole[start:end], partial=True, verified=rng.random() < 0.2))
        start = end
    yield from parts
    yield Upload(kind, whole, parts=tuple(parts))
