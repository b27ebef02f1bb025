"""A server's end of its ingest process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.ingest.child import Child
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.ingest.messages import Message, ingested_from_json, segments_to_json
from tusd_py_cas.model import Manifest
from tusd_py_cas.options import DEFAULT_LEVEL

__all__ = ["JOBS", "IngestProcess"]

JOBS = 16
"""Jobs at once: small ones wait for the disk most of the time, and share what they wait for."""

IDLE = 60.0
"""Seconds without a job after which the process ends; starting it takes a quarter of one."""

CLOSE = 5.0
"""Seconds that a process has for its end."""


class IngestProcess:
    """Starts the process when there is something to do, and again after it has died; ends it when there has been nothing for
    `idle` seconds. For one event loop. `threads` is the number of threads that compute, 0 for one per processor.

    What is asked for fails with `StorageFailure` if the process dies; the files of a job have to stay open until it has been
    answered. Who is cancelled waits until the process does not read them any more.
    """

    def __init__(
        self,
        repository_path: str,
        *,
        level: int = DEFAULT_LEVEL,
        threads: int = 0,
        durable: bool = True,
        concurrency: int = JOBS,
        idle: float = IDLE,
    ) -> None:
        # -P and not -I: like the server, but without the directory that this happens to be started in.
        interpreter = [sys.executable, "-I" if sys.flags.isolated else "-P", "-m", "tusd_py_cas.ingest.process"]
        settings = [os.path.abspath(repository_path), str(level), str(threads), str(int(durable)), str(concurrency)]
        self._command = [*interpreter, *settings]
        self._slots = asyncio.Semaphore(concurrency)
        self._idle = idle
        self._starting: asyncio.Task[Child] | None = None  # or started
        self._busy = 0
        self._share: float | None = None
        self._hurried = False
        self.working = asyncio.Event()
        """Set while there is something to do."""
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<IngestProcess {self.pid or 'not running'}, {self._busy} jobs>"

    @property
    def pid(self) -> int | None:
        """Of the process that is running, if one is."""
        task = self._starting
        return task.result().pid if task is not None and task.done() and _is_usable(task) else None

    async def take(self, segments: Sequence[Segment]) -> Ingested:
        """Store a content; durable on return, but collected after the grace period if nobody makes it a version."""
        return ingested_from_json(await self._ask("take", segments=segments_to_json(segments)))

    async def digest(self, manifest: Manifest) -> tuple[bytes, bytes]:
        """BLAKE3 and SHA-256 of a composed content, read from its chunks and noted in the index (`Index.set_digests`)."""
        answer = await self._ask("digest", name=manifest.name.hex())
        return bytes.fromhex(answer["blake3"]), bytes.fromhex(answer["sha256"])

    async def collect(self, *, grace: float) -> Mapping[str, Any]:
        """Collect what nothing refers to: the fields of `keeping`'s `Collected`."""
        return await self._ask("collect", grace=grace)

    def pace(self, share: float | None) -> None:
        """Have it take no more than `share` processors for contents that are not small, or as many as there are."""
        if share != self._share:
            self._share = share
            task = self._starting
            if task is not None and task.done() and _is_usable(task):
                task.result().tell("pace", share=share)

    def hurry(self) -> None:
        """Let it not wait long for others who keep the index locked, from now on: what is asked for fails instead."""
        self._hurried = True
        task = self._starting
        if task is not None and task.done() and _is_usable(task):
            task.result().tell("hurry")

    async def close(self) -> None:
        """End the process; what is still asked for fails. Takes at most 10 s. Never raises; idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._retire()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _ask(self, op: str, **fields: Any) -> Message:
        async with self._slots:
            if self._closed:
                raise StorageFailure("the ingest process has been closed")
            self._begin()
            try:
                child = await self._running()
                return await child.ask(op, **fields)
            finally:
                self._finish()

    async def _running(self) -> Child:
        task = self._starting
        if task is None or (task.done() and not _is_usable(task)):
            task = self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(task)

    async def _start(self) -> Child:
        child = await Child.start(self._command, _environment())
        child.tell("pace", share=self._share)
        if self._hurried:
            child.tell("hurry")
        return child

    def _begin(self) -> None:
        self._busy += 1
        self.working.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self) -> None:
        self._busy -= 1
        if not self._busy:
            self.working.clear()
        if not self._busy and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._idle, self._retire)

    def _retire(self) -> None:
        """Whoever comes from now on starts another one."""
        task, self._starting = self._starting, None
        if task is not None:
            ending = asyncio.create_task(_end(task))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


def _is_usable(task: asyncio.Task[Child]) -> bool:
    return not task.cancelled() and task.exception() is None and task.result().is_usable


async def _end(starting: asyncio.Task[Child]) -> None:
    await asyncio.wait([starting], timeout=CLOSE)
    if not starting.done():
        starting.cancel()
    elif not starting.cancelled() and starting.exception() is None:
        await starting.result().end()


def _environment() -> dict[str, str]:
    """What a Python needs to find its modules, and nothing that a server may have in its own: passwords, for one."""
    passed = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
    ours = {name: value for name, value in os.environ.items() if name in passed or name.startswith(("LC_", "PYTHON"))}
    # Threads that come and go would otherwise each keep freed memory for themselves: glibc's mallopt(3).
    return {"MALLOC_ARENA_MAX": "2", **ours}
