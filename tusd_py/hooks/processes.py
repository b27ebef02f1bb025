"""Child processes, each in a process group of its own, that are started and waited for without blocking the event loop.

asyncio's subprocesses are not used: on uvloop a start forks the whole server on the loop, with everything that is done around
forks (the log is flushed, for one). `subprocess.Popen`, in a thread, does not copy the server at all; and a pidfd, where the
kernel has them, says that a process has ended without signals and without a thread that waits.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tusd_py.hooks.pipes import Pipes

__all__ = ["Process", "start"]

_log = logging.getLogger("tusd_py.hooks")

REAP_TIME = 5.0
"""Seconds until a killed process is gone; only the kernel's waiting for a broken device takes longer."""


class Process:
    """A process that runs, made by `start`. `exited` becomes its status, negative for a signal."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int]
        try:
            self._pidfd = os.pidfd_open(popen.pid)
        except (AttributeError, OSError):  # another system, an old kernel
            self.exited = asyncio.ensure_future(asyncio.to_thread(popen.wait))
        else:
            self.exited = self._loop.create_future()
            self._loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._popen.wait()  # it has ended: this only collects the status
        if not self.exited.done():
            self.exited.set_result(status)

    async def kill(self) -> None:
        """Kill it with all of its group, and reap it."""
        if self.exited.done():
            return  # the number may be somebody else's by now
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        await _to_end(self.exited)
        if not self.exited.done():
            _log.error("process %d of a hook was killed and does not end", self._popen.pid)


async def start(pool: Executor, program: Path, environment: dict[str, str], pipes: Pipes) -> Process:
    """Start a program, in its own directory, by a thread of `pool`. Cancelled, it leaves nothing. Raises OSError."""
    job = pool.submit(_open, program, environment, pipes.child_in, pipes.child_out)
    starting = asyncio.wrap_future(job)
    try:
        return Process(await asyncio.shield(starting))
    except asyncio.CancelledError:
        if job.cancel():
            raise
        await _to_end(starting)
        if starting.done():
            await _kill_started(starting)
        else:
            starting.add_done_callback(lambda done: asyncio.ensure_future(_kill_started(done)))
        raise


def _open(program: Path, environment: dict[str, str], stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    def popen(command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, cwd=program.parent, env=environment, start_new_session=True
        )

    try:
        return popen([str(program)])
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # No program, and a script without a first line that names its interpreter: the shell's, as for shells.
    return popen(["/bin/sh", str(program)])


async def _kill_started(starting: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        await Process(starting.result()).kill()


async def _to_end(work: asyncio.Future[Any]) -> None:
    """Wait for `work` in spite of cancellations, which are on their way up already, for as long as it may take at most."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + REAP_TIME
    while not work.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work], timeout=left)
