"""Rounds of: start the server, check everything against the ledger, put it under the mix, stop it at a random moment."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.crash.ledger import Audit, Promise, Upload, check_end
from tests.crash.mix import Mix
from tests.support.server import ServerProcess
from tests.support.waiting import until

SEED_VARIABLE = "TUSD_PY_TEST_SEED"
TICKS = (1, 10, 60, 250, 700)  # how far a round goes: a round's limit is drawn from these, then a number below it
TRIGGER_TIMEOUT = 60.0
STUMBLES = 0.15  # of the starts are preceded by one that is killed on the way


def new_seed() -> str:
    """Of this run; set the variable to a seed that a failure has shown, to draw the same uploads and moments again."""
    return os.environ.get(SEED_VARIABLE) or random.SystemRandom().randbytes(4).hex()


def _start_in_vain(server: ServerProcess) -> None:
    with suppress(RuntimeError):
        server.start()


class Soak:
    """`stop` ends the server the hard way; `recover` is called once it and all clients are at rest. With `taken_over`, finished
    uploads need not be in files of their own."""

    def __init__(
        self,
        directory: Path,
        promise: Promise,
        *args: str,
        stop: Callable[[ServerProcess], None] = ServerProcess.kill,
        recover: Callable[[], None] = lambda: None,
        taken_over: bool = False,
    ) -> None:
        self.taken_over = taken_over
        self.directory, self.promise, self.args, self.stop, self.recover = directory, promise, args, stop, recover
        self.seed = new_seed()
        self.rng = random.Random(self.seed)
        self.uploads: list[Upload] = []
        self.planned: list[Upload] = []
        self.server = ServerProcess(directory, *args)

    def run(self, rounds: int) -> None:
        """So many rounds, then everything is brought to its end and compared."""
        number = 0
        try:
            for number in range(rounds):
                self._round(number)
            self._finish()
        except (AssertionError, RuntimeError, OSError) as failure:
            raise AssertionError(
                f"{SEED_VARIABLE}={self.seed}, round {number}, {' '.join(self.args)}:\n{failure}\n"
                f"end of the server's log:\n{self.server.log[-3000:]}"
            ) from failure
        finally:
            self.server.kill()

    def _start(self) -> None:
        """A server on what the last one has left; everything that it may not have lost is there."""
        if self.rng.random() < STUMBLES:
            self._stumble()
        self.server = ServerProcess(self.directory, *self.args).start()
        audit = Audit(self.server.client(), self.directory, self.promise, taken_over=self.taken_over)
        alive = audit.check(self.uploads)
        there = set(map(id, alive))
        self.uploads = [upload for upload in alive if upload.finished or self._has_parts(upload, there)]
        self.planned = [upload for upload in self.planned if self._has_parts(upload, there)]

    def _stumble(self) -> None:
        """A server that is killed while it starts."""
        server = ServerProcess(self.directory, *self.args)
        starting = threading.Thread(target=_start_in_vain, args=(server,))
        starting.start()
        until(lambda: server.process, what="no process")
        threading.Event().wait(self.rng.random() * 0.3)
        server.kill()
        starting.join()

    @staticmethod
    def _has_parts(upload: Upload, there: set[int]) -> bool:
        return all(not part.path or id(part) in there for part in upload.parts)

    def _round(self, number: int) -> None:
        self._start()
        mix = Mix(
            self.server.client(),
            f"{self.seed}/{number}",
            self.uploads,
            self.planned,
            ticks=self.rng.randint(1, self.rng.choice(TICKS)),
        )
        mix.start()
        assert mix.trigger.fired.wait(TRIGGER_TIMEOUT), "the clients make no progress"
        threading.Event().wait(self.rng.random() * 0.004)  # so that it hits what happens between two ticks, too
        if not mix.failures:
            mix.deaf.set()
            self.stop(self.server)
        mix.join()
        self.server.kill()
        self.recover()

    def _finish(self) -> None:
        self._start()
        mix = Mix(self.server.client(), f"{self.seed}/end", self.uploads, self.planned, ticks=None)
        mix.start()
        mix.join()
        check_end(self.server.client(), self.directory, self.uploads, taken_over=self.taken_over)
