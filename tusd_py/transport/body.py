"""A request's body on our own transport: `tusd_py.ports.body.Body` without a copy, a task or a thread too many.

Three ways in, chosen by what the client does:

- What came with the head is there when `pump` is called: written at once, and a small upload never waits for anything.
- Small pieces now and then (slow clients): written on the event loop as the transport delivers them. Nothing is held for such
  a request but this object; a thousand of them cost no thread.
- Data that flows: the transport is paused and a thread reads the socket itself, 1 MiB at a time, until nothing has come for a
  moment. This is what makes bulk uploads as cheap as a bare loop around `recv` and `write`.

All state changes happen on the event loop, except that `_absorb` and what it uses belong to the thread while one is at work.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Mapping

from tusd_py.ports.body import BodyEnd, Sink
from tusd_py.transport import threads
from tusd_py.transport.framing import Framing

__all__ = ["HIGH_WATER", "Connection", "TransportBody"]

HIGH_WATER = 256 * 1024
"""Bytes kept for a request that is not reading yet (waiting for a lock, a hook); then its connection is paused."""

FLOW_BYTES = 64 * 1024
"""A delivery of this size means that the client sends faster than we read: a thread takes over."""

IDLE_MS = 10
"""A thread that has waited this long goes back to the pool, and the event loop watches the connection again."""

LAST_BYTES = 4 << 20
"""When stopped, what has already arrived is still kept, up to this: a client that keeps sending must not delay the next."""


class Connection:
    """What a body needs of the connection it comes in on. The protocol class implements it."""

    def send_continue(self) -> None:
        """Send `100 Continue` if the client waits for it."""
        raise NotImplementedError

    def pause(self) -> None:
        """Deliver nothing for now."""
        raise NotImplementedError

    def resume(self) -> None:
        """Deliver again."""
        raise NotImplementedError

    def socket_fd(self) -> int | None:
        """The socket's descriptor, if plain bytes can be read from it (not so under TLS)."""
        raise NotImplementedError


class TransportBody:
    """One request's body. `feed`, `cut` and `end` are the protocol's side; the rest is the application's."""

    __slots__ = (
        "_buffered",
        "_connection",
        "_cut",
        "_end",
        "_event",
        "_framing",
        "_last_byte",
        "_length",
        "_loop",
        "_pieces",
        "_room",
        "_sink",
        "_stopping",
        "_thread",
        "_timeout",
        "_timer",
        "_waiter",
        "handed_out",
    )

    def __init__(
        self, connection: Connection, framing: Framing, length: int | None, loop: asyncio.AbstractEventLoop, timeout: float
    ) -> None:
        self._connection, self._framing, self._length = connection, framing, length
        self._loop, self._timeout = loop, timeout
        self._pieces: list[bytes] = []  # delivered and not yet asked for
        self._buffered = 0
        self._cut = False  # the client sends no more
        self._stopping = False
        self._end: BodyEnd | None = None
        self._sink: Sink | None = None
        self._room = 0
        self._waiter: asyncio.Future[BodyEnd] | None = None  # of pump
        self._event: asyncio.Event | None = None  # of receive
        self._thread: asyncio.Future[BodyEnd | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_byte = 0.0
        self.handed_out = False  # `receive` has told the application that this is all

    # What the application sees

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def ready(self) -> bool:
        return self._length is not None and self._length <= self._buffered <= FLOW_BYTES

    @property
    def trailers(self) -> Mapping[bytes, bytes]:
        return self._framing.trailers

    @property
    def complete(self) -> bool:
        """Whether nothing of the body is left on the connection."""
        return self._framing.finished

    async def pump(self, sink: Sink, limit: int) -> BodyEnd:
        if self._framing.finished:
            return BodyEnd.COMPLETE
        self._sink, self._room = sink, limit
        self._connection.send_continue()
        if (end := self._take_what_is_here()) is not None:
            return end
        assert self._waiter is not None
        try:
            return await self._waiter
        finally:
            await self._leave()

    def _take_what_is_here(self) -> BodyEnd | None:
        """Write what came before `pump` was called, and have the rest brought. A function of its own: what it holds in hand
        is gone before the wait for a slow client begins."""
        pieces, self._pieces = self._pieces, []
        buffered, self._buffered = self._buffered, 0
        if buffered > FLOW_BYTES and not self._cut:
            self._start_waiting()
            self._hand_over(pieces)
            return None
        for piece in pieces:
            if (end := self._absorb(memoryview(piece))) is not None:
                return end
        if self._cut:
            return BodyEnd.CUT
        if self._stopping:
            return BodyEnd.STOPPED
        self._start_waiting()
        self._connection.resume()
        return None

    def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._waiter is not None and self._thread is None:
            self._keep_what_arrived()

    async def receive_piece(self) -> tuple[bytes, bool] | None:
        """For ASGI's `receive`: the next payload and whether more follows; None where the rest will never come."""
        self._connection.send_continue()
        while not self._framing.finished:
            if self._framing.malformed:
                return None
            if self._pieces:
                data = memoryview(b"".join(self._pieces))
                self._pieces.clear()
                self._buffered = 0
                payload = b"".join(self._framing.feed(data))
                return payload, not self._framing.finished
            if self._cut:
                return None
            self._event = self._event or asyncio.Event()
            self._event.clear()
            self._connection.resume()
            await self._event.wait()
        return b"", False

    # What the protocol tells

    def feed(self, data: bytes) -> None:
        """Bytes of the connection, in order, while the body is not finished."""
        if self._waiter is None or self._thread is not None:
            self._pieces.append(data)
            self._buffered += len(data)
            if self._buffered >= HIGH_WATER:
                self._connection.pause()
            if self._event is not None:
                self._event.set()
        elif len(data) >= FLOW_BYTES:
            self._hand_over([data])
        else:
            self._last_byte = self._loop.time()
            self._try(lambda: self._absorb(memoryview(data)))

    def cut(self) -> None:
        """The client sends no more: it closed, half-closed or reset the connection."""
        self._cut = True
        if self._event is not None:
            self._event.set()
        if self._waiter is not None and self._thread is None:
            self._settle(BodyEnd.CUT)

    def leftover(self) -> bytes:
        """What came behind the body and belongs to the next request."""
        return self._framing.leftover

    # Inside

    def _absorb(self, data: memoryview) -> BodyEnd | None:
        """Give the payload in `data` to the sink; returns why the body ends here, if it does. Raises what the sink raises."""
        assert self._sink is not None
        for piece in self._framing.feed(data):
            if len(piece) > self._room:
                self._sink.write(piece[: self._room])
                self._room = 0
                return BodyEnd.EXCESS
            self._sink.write(piece)
            self._room -= len(piece)
        if self._framing.malformed:
            return BodyEnd.MALFORMED
        return BodyEnd.COMPLETE if self._framing.finished else None

    def _try(self, step: Callable[[], BodyEnd | None]) -> None:
        """One step on the event loop; its end or failure becomes `pump`'s."""
        assert self._waiter is not None
        if self._waiter.done():
            return
        try:
            end = step()
        except BaseException as failure:
            self._waiter.set_exception(failure)
        else:
            if end is not None:
                self._waiter.set_result(end)

    def _settle(self, end: BodyEnd) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(end)

    def _start_waiting(self) -> None:
        self._waiter = self._loop.create_future()
        self._last_byte = self._loop.time()
        self._timer = self._loop.call_later(self._timeout, self._check_stall)

    def _check_stall(self) -> None:
        """One timer a request, not one a piece: it looks when the last byte came and sleeps again for the difference."""
        left = self._last_byte + self._timeout - self._loop.time()
        if self._thread is not None or left > 0:
            self._timer = self._loop.call_later(left if left > 0 else self._timeout, self._check_stall)
        else:
            self._settle(BodyEnd.STALLED)

    async def _leave(self) -> None:
        """`pump` is over, perhaps cancelled: nobody may touch the sink any more."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        while self._thread is not None:
            try:
                await asyncio.wait((self._thread,))
            except asyncio.CancelledError:
                continue
        self._waiter = None

    def _keep_what_arrived(self) -> None:
        """Stopped while the event loop was watching: take what the kernel has, and end."""

        def last_read() -> BodyEnd:
            fd = self._connection.socket_fd()
            end = None if fd is None else self._read_rest(fd, memoryview(bytearray(FLOW_BYTES)))
            return end or BodyEnd.STOPPED

        self._try(last_read)

    # In a thread

    def _hand_over(self, pieces: list[bytes]) -> None:
        """Let a thread write `pieces` and read on from the socket."""
        self._connection.pause()
        fd = self._connection.socket_fd()
        try:
            own = None if fd is None else os.dup(fd)  # the transport may close its own while the thread is reading
        except OSError:  # no descriptor to spare: the loop reads, the thread writes
            own = None
        self._thread = threads.run(lambda: self._drain(pieces, own))
        self._thread.add_done_callback(self._take_back)

    def _take_back(self, thread: asyncio.Future[BodyEnd | None]) -> None:
        self._thread = None
        self._last_byte = self._loop.time()
        if self._waiter is None or self._waiter.done():
            thread.exception()
            return
        self._try(thread.result)
        if self._waiter.done():
            return
        if self._pieces:  # delivered before the pause took effect
            pieces, self._pieces, self._buffered = self._pieces, [], 0
            self._hand_over(pieces)
        elif self._cut:
            self._settle(BodyEnd.CUT)
        elif self._stopping:
            self._keep_what_arrived()
        else:
            self._connection.resume()

    def _drain(self, pieces: list[bytes], fd: int | None) -> BodyEnd | None:
        """Move the body from the socket to the sink while data flows; None when it stopped flowing, or this turn is over."""
        try:
            for piece in pieces:
                if (end := self._absorb(memoryview(piece))) is not None:
                    return end
            return None if fd is None else self._drain_socket(fd, threads.thread_buffer())
        finally:
            if fd is not None:
                os.close(fd)

    def _drain_socket(self, fd: int, buffer: memoryview) -> BodyEnd | None:
        readable = select.poll()
        readable.register(fd, select.POLLIN)
        moved = 0
        while not self._stopping:
            end, got = self._read(fd, buffer)
            if end is not None:
                return end
            if not got and not readable.poll(IDLE_MS):
                return None
            moved += got
            if moved >= threads.TURN_BYTES and threads.others_wait():
                return None
        return self._read_rest(fd, buffer) or BodyEnd.STOPPED

    def _read_rest(self, fd: int, buffer: memoryview) -> BodyEnd | None:
        taken = 0
        while taken < LAST_BYTES:
            end, got = self._read(fd, buffer)
            if end is not None or not got:
                return end
            taken += got
        return None

    def _read(self, fd: int, buffer: memoryview) -> tuple[BodyEnd | None, int]:
        """Read once without waiting; returns why the body ends, if it does, and how many bytes came."""
        try:
            got = os.readv(fd, [buffer[: self._framing.wanted]])
        except BlockingIOError:
            return None, 0
        except OSError:  # reset, timed out, unreachable: nothing more will come
            return BodyEnd.CUT, 0
        if not got:
            return BodyEnd.CUT, 0
        return self._absorb(buffer[:got]), got
