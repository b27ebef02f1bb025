"""One running ingest process, as its parent sees it: questions, answers and what it logs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Self

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.ingest.messages import Message, error_from_json

__all__ = ["Child"]

_log = logging.getLogger("tusd_py.cas")

START = 60.0
"""Seconds until it has to be ready; it takes a quarter of one, but the disk may be busy and others go first."""

CANCEL = 10.0
"""Seconds until a job has to be left off: it looks whenever it has read 16 MiB."""

END = 5.0
"""Seconds that it has to end in, once it was told to, and once more when it was killed."""

LINE = 1 << 20
"""Bytes of a line that it says."""

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Child:
    """Made by `start`. Of all tasks, and of one event loop. When the process has ended, all that is asked fails.

    A socket is its input and its output, so it hears of its parent's end, however that comes; another is its error output.
    """

    def __init__(self, popen: subprocess.Popen[bytes], talk: _Stream, errors: _Stream) -> None:
        self._popen, self._writers = popen, (talk[1], errors[1])
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._ready: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._failure: Message | None = None  # once it can't answer any more
        self._listening = asyncio.create_task(self._listen(talk[0], asyncio.create_task(_relay(errors[0]))))

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Raises `StorageFailure`, and what the process says in the place of being ready: `RepositoryError`."""
        try:
            ours, theirs = _two_pairs()
        except OSError as error:
            raise _not_started(error) from error
        # In a thread: starting a process takes milliseconds, and on uvloop asyncio's own way copies the whole server.
        starting = asyncio.create_task(asyncio.to_thread(_popen, command, environment, *theirs))
        try:
            popen = await asyncio.shield(starting)
            child = cls(popen, *await _open(*ours))
        except BaseException as error:
            for each in ours:
                each.close()
            await _abandon(starting)
            if isinstance(error, OSError):
                raise _not_started(error) from error
            raise
        try:
            await child._wait_until_ready()
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def is_usable(self) -> bool:
        return self._failure is None

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def ask(self, op: str, **fields: Any) -> Message:
        """The answer. Raises the error that it is, `StorageFailure` if the process ends instead. Cancelled, it returns when the
        process has left off."""
        if self._failure is not None:
            _content(self._failure)
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "op": op, **fields})
        try:
            message = await asyncio.shield(answer)
        except asyncio.CancelledError:
            await self._cancel(number, answer)
            raise
        finally:
            del self._answers[number]
        return _content(message)

    def tell(self, op: str, **fields: Any) -> None:
        """What has no answer."""
        self._send({"op": op, **fields})

    async def _cancel(self, number: int, answer: asyncio.Future[Message]) -> None:
        self._send({"id": number, "op": "cancel"})
        try:
            await asyncio.wait_for(asyncio.shield(answer), CANCEL)
        except (TimeoutError, asyncio.CancelledError):
            self.kill()

    def kill(self) -> None:
        """At once: jobs are begun again by the next one."""
        if self._popen.returncode is None:
            self._popen.kill()

    async def end(self) -> None:
        """Tell it to end, which it does whatever it is doing, and see that it has. Never raises."""
        self._fail("is ending")
        self._writers[0].close()
        _, late = await asyncio.wait([self._listening], timeout=END)
        if late:
            self.kill()
            await asyncio.wait([self._listening], timeout=END)

    # Hearing what it says

    async def _wait_until_ready(self) -> None:
        try:
            _content(await asyncio.wait_for(asyncio.shield(self._ready), START))
        except TimeoutError:
            raise StorageFailure(f"the ingest process was not ready within {START:g} s") from None

    async def _listen(self, reader: asyncio.StreamReader, relaying: asyncio.Task[None]) -> None:
        try:
            while line := await reader.readline():
                self._hear(json.loads(line))
        except (OSError, ValueError) as error:
            _log.error("the ingest process can't be understood", extra={"fields": {"error": str(error)}})
            self.kill()
        await relaying  # what it had to say at last; its error output ends with it
        self._close()
        self._fail(f"has ended with status {await self._reap()}")

    def _hear(self, message: Message) -> None:
        answer = self._answers.get(message["id"]) if "id" in message else self._ready
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _reap(self) -> int | None:
        for _ in range(2):
            try:
                return await asyncio.to_thread(self._popen.wait, END)
            except subprocess.TimeoutExpired:
                self.kill()
        _log.error("the ingest process was killed and does not end", extra={"fields": {"pid": self._popen.pid}})
        return None

    def _fail(self, what: str) -> None:
        """From now on nothing is answered."""
        if self._failure is None:
            self._failure = {"error": {"kind": StorageFailure.__name__, "message": f"the ingest process {what}"}}
        for answer in (self._ready, *self._answers.values()):
            if not answer.done():
                answer.set_result(self._failure)

    def _send(self, message: Message) -> None:
        """What is not read yet is bounded: by how many ask at once, and how much an upload's metadata may have. Between its end
        and `_fail` nobody reads it, and uvloop raises RuntimeError where asyncio keeps quiet."""
        if self._failure is None and not self._writers[0].is_closing():
            self._writers[0].write(json.dumps(message).encode() + b"\n")


def _two_pairs() -> tuple[tuple[socket.socket, socket.socket], tuple[socket.socket, socket.socket]]:
    """Connected sockets: the ends of one side, and those of the other, for talk and for errors."""
    talk = socket.socketpair()
    try:
        errors = socket.socketpair()
    except OSError:
        for each in talk:
            each.close()
        raise
    return (talk[0], errors[0]), (talk[1], errors[1])


def _not_started(error: OSError) -> StorageFailure:
    return StorageFailure(f"the ingest process can't be started: {error.strerror}")


def _popen(
    command: Sequence[str], environment: Mapping[str, str], talk: socket.socket, errors: socket.socket
) -> subprocess.Popen[bytes]:
    """Closes the sockets, which nobody else may do: this goes on when whoever wanted the process does not any more, and by
    then their numbers would be those of other files."""
    with talk, errors:
        return subprocess.Popen(command, stdin=talk.fileno(), stdout=talk.fileno(), stderr=errors.fileno(), env=environment)


async def _abandon(starting: asyncio.Task[subprocess.Popen[bytes]]) -> None:
    """The process that is being started, or was, is not wanted. It would end by itself: nobody is at the other end."""
    await asyncio.wait([starting])
    if not starting.cancelled() and starting.exception() is None:
        popen = starting.result()
        popen.kill()
        await asyncio.to_thread(popen.wait)


async def _open(talk: socket.socket, errors: socket.socket) -> tuple[_Stream, _Stream]:
    first = await asyncio.open_unix_connection(sock=talk, limit=LINE)
    try:
        return first, await asyncio.open_unix_connection(sock=errors, limit=LINE)
    except BaseException:
        first[1].close()
        raise


def _content(message: Message) -> Message:
    if "error" in message:
        raise error_from_json(message["error"])
    content: Message = message.get("ok", {})
    return content


async def _relay(errors: asyncio.StreamReader) -> None:
    """Log what the process logs, and anything else that it prints."""
    while True:
        try:
            line = await errors.readline()
        except ValueError:  # longer than `LINE`, and dropped
            continue
        if not line:
            return
        try:
            record = json.loads(line)
            _log.log(record["level"], record["message"], extra={"fields": record["fields"]})
        except (ValueError, TypeError, KeyError):
            text = line.decode(errors="replace").rstrip()
            _log.warning("the ingest process says", extra={"fields": {"text": text}})
