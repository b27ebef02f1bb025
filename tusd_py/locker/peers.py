"""How the processes that serve one upload directory ask each other to let go of a lock: a socket for each, and lines of text.

    asker:   release <id>      please let go
    answer:  free              I don't have it
             held              I have it, and my holder has been told;
             released          ... and now has let go

Any number of questions on one connection, one at a time. The answers are hints: who has a lock only the kernel knows. When the
asker closes the connection it has the lock or no longer wants it; when the answerer does, it has died.
Knows no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
from collections.abc import Callable
from typing import cast

from tusd_py.fs.errors import translate
from tusd_py.protocol.ids import MAX_ID

__all__ = ["Asker", "PeerAnswer", "Peers", "Questions"]

_MAX_MESSAGE = len("release \n") + MAX_ID
_MESSAGE_TIMEOUT = 5.0
"""Seconds that an asker may take for its first line: it has nothing to think about."""

_BACKLOG = 1024
"""Askers that may queue up while this process is too busy to accept them; one that finds the queue full tries again."""

_MAX_ADDRESS = 100
"""Longest path of a socket that every system takes (Linux: 107 bytes)."""


class PeerAnswer(enum.Enum):
    """What a peer said last."""

    NONE = "nothing yet"
    FREE = "it doesn't have the lock"
    HELD = "it has told the holder"
    RELEASED = "the holder has let go"
    GONE = "it has closed the connection: it stopped or died"


_ANSWERS = {answer.name.lower().encode(): answer for answer in (PeerAnswer.FREE, PeerAnswer.HELD, PeerAnswer.RELEASED)}


class Asker(asyncio.Protocol):
    """A process that asks us. `done` is called when it has what it wanted, or wants it no more."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._received = b""
        self.done: Callable[[Asker], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._impatience = asyncio.get_running_loop().call_later(_MESSAGE_TIMEOUT, self._transport.abort)
        self._peers.askers.add(self)

    def data_received(self, data: bytes) -> None:
        self._impatience.cancel()
        self._received += data
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            self._question(line)
        if len(self._received) > _MAX_MESSAGE:
            self._transport.abort()

    def _question(self, line: bytes) -> None:
        self._finish()
        verb, _, upload_id = line.decode("ascii", "replace").partition(" ")
        if verb == "release":
            self._peers.on_question(upload_id, self)
        else:
            self._transport.abort()

    def answer(self, answer: PeerAnswer) -> None:
        self._transport.write(answer.name.lower().encode() + b"\n")

    def hang_up(self) -> None:
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._impatience.cancel()
        self._peers.askers.discard(self)
        self._finish()

    def _finish(self) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(self)


class _Question(asyncio.Protocol):
    """One peer, asked for one lock."""

    def __init__(self, message: bytes, changed: asyncio.Event) -> None:
        self._message, self._changed = message, changed
        self._received = b""
        self.answer = PeerAnswer.NONE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport.write(self._message)

    def ask_again(self) -> None:
        self.answer = PeerAnswer.NONE
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            self.answer = _ANSWERS.get(line, PeerAnswer.FREE)  # one we don't understand is of no help, and no harm
        if len(self._received) > _MAX_MESSAGE:
            self._transport.abort()
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.answer = PeerAnswer.GONE
        self._changed.set()

    def close(self) -> None:
        self._transport.abort()


class Questions:
    """All peers, asked for one lock; a context, at whose end the connections are closed."""

    def __init__(self, peers: Peers, upload_id: str) -> None:
        self._peers = peers
        self._message = f"release {upload_id}\n".encode()
        self._changed = asyncio.Event()
        self._asked: dict[str, _Question] = {}
        self._gone: set[str] = set()

    def __enter__(self) -> Questions:
        return self

    def __exit__(self, *exc: object) -> None:
        for question in self._asked.values():
            question.close()

    async def ask(self) -> None:
        """Ask those that were not asked yet, and again those that have answered. Those that are silent know already."""
        for name, question in list(self._asked.items()):
            if question.answer is PeerAnswer.GONE:
                del self._asked[name]
                self._gone.add(name)  # names are not used twice; one that hangs up on us must not keep us busy
            elif question.answer in (PeerAnswer.FREE, PeerAnswer.RELEASED):
                question.ask_again()
        for name in self._peers.others():
            if name not in self._asked and name not in self._gone:
                await self._connect(name)

    async def _connect(self, name: str) -> None:
        try:
            _, self._asked[name] = await asyncio.get_running_loop().create_unix_connection(
                lambda: _Question(self._message, self._changed), self._peers.address(name)
            )
        except ConnectionRefusedError:  # nobody listens and nobody ever will: the name is random, and listening precedes naming
            self._peers.forget(name)
        except OSError:  # it has just gone, or its queue is full: the next round will tell
            return

    async def settled(self, pause: float) -> bool:
        """Return True once somebody has let go, waiting for as long as anybody says that it will; else False after `pause`."""
        while True:
            answers = {question.answer for question in self._asked.values()}
            if answers & {PeerAnswer.RELEASED, PeerAnswer.GONE}:
                return True
            self._changed.clear()
            if PeerAnswer.HELD in answers:
                await self._changed.wait()
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                return False


class Peers:
    """This process among those that serve the same directory. `on_question` answers what they ask."""

    def __init__(self, directory: str, on_question: Callable[[str, Asker], None]) -> None:
        self._directory, self.on_question = directory, on_question
        self._fd = -1
        self._name = ""
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopped = False
        self.askers: set[Asker] = set()

    async def start(self) -> None:
        """Be there to be asked, from the first call on until `stop`."""
        if self._server is None and not self._stopped:
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)

    async def _start(self) -> None:
        name = os.urandom(8).hex()
        try:
            self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                listener.bind(self.address(f".{name}"))
                listener.listen(_BACKLOG)
                loop = asyncio.get_running_loop()
                self._server = await loop.create_unix_server(lambda: Asker(self), sock=listener, backlog=_BACKLOG)
            except BaseException:
                listener.close()
                raise
            # Only now may others find it: who finds a socket that nobody listens to removes it.
            os.rename(f"{self._directory}/.{name}", f"{self._directory}/{name}")
        except OSError as error:
            self._starting = None
            raise translate(error, f"listening in {self._directory!r}") from error
        self._name = name

    def stop(self) -> None:
        """Be asked no more. Who has asked already may still be answered."""
        self._stopped = True
        if self._server is not None:
            self.forget(self._name)
            self._server.close()
            os.close(self._fd)
            self._fd = -1

    def address(self, name: str) -> str:
        """A path to a socket that is short enough to be an address, wherever the directory is."""
        path = f"{self._directory}/{name}"
        return path if len(os.fsencode(path)) <= _MAX_ADDRESS else f"/proc/self/fd/{self._fd}/{name}"

    def others(self) -> list[str]:
        try:
            names = os.listdir(self._directory)
        except OSError as error:
            raise translate(error, f"listing {self._directory!r}") from error
        return [name for name in names if name != self._name and not name.startswith(".")]

    def forget(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(f"{self._directory}/{name}")
