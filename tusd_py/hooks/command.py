"""Hooks that are programs in a directory, named like the hook (`-hooks-dir`). The message is their stdin, stdout the answer.

As in tusd: a missing program is success, an empty output an empty answer, and a status other than 0 a failure. Unlike in tusd,
a program has a time limit, and takes its children along when it exceeds it; what it starts in the background and leaves behind
when it ends in time lives on, and does not keep anybody waiting.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import Any

from tusd_py.hooks.answers import quoted, read_answer
from tusd_py.hooks.pipes import Pipes, TooMuchOutput
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import build_hook_message
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["CommandHooks"]

_log = logging.getLogger("tusd_py.hooks")

MAX_PROCESSES = 64
"""Programs that run at once, of one server process: enough to keep any number of cores busy with them, and few enough that a
burst of uploads does not take the machine's memory and process table."""

MAX_OUTPUT = 1024 * 1024
"""Bytes of output: answers are a few hundred; a program that writes more takes stdout for its log."""

LINGER = 1.0
"""Seconds that the output of a program that has ended may stay open (a background job holds it) before it is taken as it is."""

REAP_TIME = 5.0
"""Seconds until a killed process is gone; only the kernel's waiting for a broken device takes longer."""


class CommandHooks:
    """Runs `directory`/<type> for each hook of `types`; `timeout` in seconds covers waiting for a free slot as well."""

    def __init__(self, directory: Path, types: frozenset[HookType], *, timeout: float) -> None:
        self.types = types
        self._directory, self._timeout = directory, timeout
        self._slots = asyncio.Semaphore(MAX_PROCESSES)

    def __repr__(self) -> str:
        return f"<CommandHooks {str(self._directory)!r}>"

    async def invoke(self, event: HookEvent) -> HookAnswer:
        path = self._directory / event.type
        if not _is_there(path):
            return HookAnswer()
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                status, output = await _run(path, build_hook_message(event), _environment(event))
        except TimeoutError:
            raise HookFailure(f"the {event.type} hook took longer than {self._timeout:g} seconds and was killed") from None
        except TooMuchOutput:
            raise HookFailure(f"the {event.type} hook wrote more than {MAX_OUTPUT} bytes to its stdout") from None
        except OSError as error:
            raise HookFailure(_why_not_started(path, error)) from error
        if status:
            raise HookFailure(f"unexpected return code {_return_code(status)} from hook endpoint: {quoted(output)}")
        return read_answer(output) if output else HookAnswer()

    async def close(self) -> None:
        """There is nothing to let go of: whoever cancels a call gets rid of its process."""


def _is_there(path: Path) -> bool:
    """Whether there is such a name at all: one that can't be started is not the same as none."""
    return os.path.lexists(path)


def _environment(event: HookEvent) -> dict[str, str]:
    upload = event.upload
    ours = {"TUS_ID": upload.id, "TUS_SIZE": str(upload.length or 0), "TUS_OFFSET": str(upload.offset)}
    if event.id:
        ours["TUS_EVENT_ID"] = event.id
    return {**os.environ, **ours}


async def _run(path: Path, message: bytes, environment: dict[str, str]) -> tuple[int, bytes]:
    """Run a program to its end; returns its status, negative for a signal, and its output. Cancelled, it leaves nothing."""
    with Pipes(message, MAX_OUTPUT) as pipes:
        process = await _start(path, environment, pipes)
        try:
            pipes.started()
            pipes.begin()
            exited = asyncio.ensure_future(process.wait())
            await asyncio.wait((exited, pipes.ended), return_when=asyncio.FIRST_COMPLETED)
            if pipes.ended.done():
                pipes.ended.result()
            status = await exited
            await asyncio.wait([pipes.ended], timeout=LINGER)
            if pipes.ended.done():
                pipes.ended.result()
        except BaseException:
            await _kill(process)
            raise
        return status, pipes.output


async def _start(path: Path, environment: dict[str, str], pipes: Pipes) -> Process:
    """Start a program in a session, and so in a process group, of its own. A cancellation meanwhile kills it."""
    try:
        return await _start_command((str(path),), path.parent, environment, pipes)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # No program, and a script without a first line that names its interpreter: the shell's, as for shells and for uvloop.
    return await _start_command(("/bin/sh", str(path)), path.parent, environment, pipes)


async def _start_command(command: tuple[str, ...], directory: Path, environment: dict[str, str], pipes: Pipes) -> Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=pipes.child_in,
            stdout=pipes.child_out,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _to_end(starting)
        if not starting.cancelled() and starting.exception() is None:
            await _kill(starting.result())
        raise


async def _kill(process: Process) -> None:
    """Kill a process with all of its group, and reap it."""
    if process.returncode is not None:
        return  # the number may be somebody else's by now
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await _to_end(asyncio.ensure_future(process.wait()))
    if process.returncode is None:
        _log.error("process %d of a hook was killed and does not end", process.pid)


async def _to_end(work: asyncio.Future[Any]) -> None:
    """Wait for `work` in spite of cancellations, which are on their way up already, for as long as it may take at most."""
    deadline = asyncio.get_running_loop().time() + REAP_TIME
    while not work.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work], timeout=left)


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
