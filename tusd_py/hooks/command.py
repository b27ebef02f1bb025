"""Hooks that are programs in a directory, named like the hook (`-hooks-dir`). The message is their stdin, stdout the answer.

As in tusd: a missing program is success, an empty output an empty answer, and a status other than 0 a failure. Unlike in tusd,
a program has a time limit, and takes its children along when it exceeds it; what it starts in the background and leaves behind
when it ends in time lives on, and does not keep anybody waiting.
"""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tusd_py.hooks.answers import quoted, read_answer
from tusd_py.hooks.pipes import Pipes, TooMuchOutput
from tusd_py.hooks.processes import start
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import build_hook_message
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["CommandHooks"]

MAX_PROCESSES = 64
"""Programs that run at once, of one server process: enough to keep any number of cores busy with them, and few enough that a
burst of uploads does not take the machine's memory and process table."""

MAX_OUTPUT = 1024 * 1024
"""Bytes of output: answers are a few hundred; a program that writes more takes stdout for its log."""

LINGER = 1.0
"""Seconds that the output of a program that has ended may stay open (a background job holds it) before it is taken as it is."""

STARTERS = 2
"""Threads that start programs: a start takes a millisecond or two, and one that a slow disk holds up shall not be all."""


class CommandHooks:
    """Runs `directory`/<type> for each hook of `types`; `timeout` in seconds covers waiting for a free slot as well."""

    def __init__(self, directory: Path, types: frozenset[HookType], *, timeout: float) -> None:
        self.types = types
        self._directory, self._timeout = directory, timeout
        self._slots = asyncio.Semaphore(MAX_PROCESSES)
        self._starters = ThreadPoolExecutor(STARTERS, "hook-start")

    def __repr__(self) -> str:
        return f"<CommandHooks {str(self._directory)!r}>"

    async def invoke(self, event: HookEvent) -> HookAnswer:
        path = self._directory / event.type
        if not _is_there(path):
            return HookAnswer()
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                status, output = await self._run(path, build_hook_message(event), _environment(event))
        except TimeoutError:
            raise HookFailure(f"the {event.type} hook took longer than {self._timeout:g} seconds and was killed") from None
        except TooMuchOutput:
            raise HookFailure(f"the {event.type} hook wrote more than {MAX_OUTPUT} bytes to its stdout") from None
        except OSError as error:
            raise HookFailure(_why_not_started(path, error)) from error
        if status:
            raise HookFailure(f"unexpected return code {_return_code(status)} from hook endpoint: {quoted(output)}")
        return read_answer(output) if output else HookAnswer()

    async def _run(self, path: Path, message: bytes, environment: dict[str, str]) -> tuple[int, bytes]:
        """Run a program to its end; returns its status, negative for a signal, and its output. Cancelled, it leaves nothing."""
        with Pipes(message, MAX_OUTPUT) as pipes:
            process = await start(self._starters, path, environment, pipes)
            try:
                pipes.started()
                pipes.begin()
                await asyncio.wait((process.exited, pipes.ended), return_when=asyncio.FIRST_COMPLETED)
                if pipes.ended.done():
                    pipes.ended.result()
                status = await asyncio.shield(process.exited)
                await asyncio.wait([pipes.ended], timeout=LINGER)
                if pipes.ended.done():
                    pipes.ended.result()
            except BaseException:
                await process.kill()
                raise
            return status, pipes.output

    async def close(self) -> None:
        """Whoever cancels a call gets rid of its process; there is nothing else to let go of."""
        self._starters.shutdown(wait=False)


def _is_there(path: Path) -> bool:
    """Whether there is such a name at all: one that can't be started is not the same as none."""
    return os.path.lexists(path)


def _environment(event: HookEvent) -> dict[str, str]:
    upload = event.upload
    ours = {"TUS_ID": upload.id, "TUS_SIZE": str(upload.length or 0), "TUS_OFFSET": str(upload.offset)}
    if event.id:
        ours["TUS_EVENT_ID"] = event.id
    return {**os.environ, **ours}


def _why_not_started(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"the hook {path} could not be started: it is not executable for this user (chmod +x)"
    if isinstance(error, FileNotFoundError) and path.exists():
        return f"the hook {path} could not be started: the interpreter in its first line does not exist"
    return f"the hook {path} could not be started: {error.strerror or error}"


def _return_code(status: int) -> str:
    """The status as Go gives it, with the signal where there was one."""
    if status > 0:
        return str(status)
    try:
        return f"-1 ({signal.Signals(-status).name})"
    except ValueError:
        return f"-1 (signal {-status})"
