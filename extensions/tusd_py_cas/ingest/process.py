"""The process that a server takes contents into its repository with: apart from it, so that uploads go on meanwhile.

    python -m tusd_py_cas.ingest.process REPOSITORY LEVEL THREADS DURABLE JOBS

Told by a line of JSON on its input, answers by one on its output (`messages`), logs by one on its error output. Ends when its
input does, at once and whatever is under way: the next one goes on with what is stored.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from threading import Event, Lock

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.ingest.engine import Cancelled, Engine
from tusd_py_cas.ingest.messages import Message, error_to_json, ingested_to_json, segments_from_json
from tusd_py_cas.ingest.priority import ignore_signals, yield_to_others
from tusd_py_cas.ingest.threads import started_pool
from tusd_py_cas.keeping.collecting import AlreadyCollecting, Collected, collect
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.repository import Repository

__all__ = ["main"]

_log = logging.getLogger("tusd_py.cas")

Send = Callable[[Message], None]


class Desk:
    """Does what it is asked for, `jobs` at once, and answers."""

    def __init__(self, repository: Repository, engine: Engine, jobs: int, send: Send) -> None:
        self._repository, self._engine, self._send = repository, engine, send
        self._pool = started_pool(jobs, "jobs")
        self._lock = Lock()
        self._cancelled: dict[int, Event] = {}  # by number, of what is under way

    def ask(self, message: Message) -> None:
        """Does not wait."""
        if message["op"] == "pace":
            self._engine.pace.set(message["share"])
            return
        if message["op"] == "hurry":
            self._repository.index.hurry()
            return
        number = message["id"]
        if message["op"] == "cancel":
            with self._lock:
                if number in self._cancelled:
                    self._cancelled[number].set()
            return
        with self._lock:
            cancelled = self._cancelled[number] = Event()
        self._pool.submit(self._answer, number, message, cancelled)

    def _answer(self, number: int, message: Message, cancelled: Event) -> None:
        try:
            answer = {"id": number, "ok": self._do(message, cancelled)}
        except Exception as error:  # the one who asked decides what becomes of it
            if not isinstance(error, Cancelled | StorageFailure | RepositoryError):
                _log.exception("ingest failed in a way that it should not")
            answer = {"id": number, "error": error_to_json(error)}
        with self._lock:
            del self._cancelled[number]
        self._send(answer)

    def _do(self, message: Message, cancelled: Event) -> Message:
        match message["op"]:
            case "take":
                return ingested_to_json(self._engine.ingest(segments_from_json(message["segments"]), cancelled.is_set))
            case "digest":
                return self._digest(bytes.fromhex(message["name"]), cancelled.is_set)
            case "collect":
                return self._collect(message["grace"])
            case other:
                raise StorageFailure(f"the ingest process is asked for {other!r}, which it does not know")

    def _collect(self, grace: float) -> Message:
        """Nothing where somebody does it just now, by hand perhaps: then it is being done."""
        try:
            return asdict(collect(self._repository, grace=grace, now=time.time()))
        except AlreadyCollecting:
            return asdict(Collected())

    def _digest(self, name: bytes, cancelled: Callable[[], bool]) -> Message:
        manifest = self._repository.index.find_manifest(name)
        if manifest is None:
            raise RepositoryError(f"the content {name.hex()} is gone")
        blake3, sha256 = self._engine.digest(manifest, cancelled)
        self._repository.index.set_digests(manifest, blake3=blake3, sha256=sha256)
        return {"blake3": blake3.hex(), "sha256": sha256.hex()}


class _ToParent(logging.Handler):
    """A line of JSON on the error output, which the parent logs."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        line: Message = {"level": record.levelno, "message": record.getMessage(), "fields": fields}
        with contextlib.suppress(OSError):  # the parent is gone
            _write_line(2, line)


def _write_line(fd: int, message: Message) -> None:
    data = memoryview(json.dumps(message, default=str).encode() + b"\n")
    while data:
        data = data[os.write(fd, data) :]


def _take_output() -> Send:
    """Answers go to the output; what else is printed by anything goes to the error output."""
    output, lock = os.dup(1), Lock()
    os.dup2(2, 1)

    def send(message: Message) -> None:
        with lock:
            _write_line(output, message)

    return send


def main(arguments: list[str]) -> int:
    """Does not return as long as there is input."""
    path, level, threads, durable, jobs = arguments
    ignore_signals()
    yield_to_others()
    send = _take_output()
    _log.addHandler(_ToParent())
    _log.setLevel(logging.INFO)
    try:
        repository = Repository.open(path, durable=durable == "1")
        desk = Desk(repository, Engine(repository, level=int(level), threads=int(threads)), int(jobs), send)
    except (RepositoryError, StorageFailure) as error:
        send({"error": error_to_json(error)})
        return 1
    send({"ready": True})
    for line in sys.stdin.buffer:
        desk.ask(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
