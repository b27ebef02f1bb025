"""A body on its way from a real socket into a sink: inline and in a thread, ended in every way in every state."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from tusd_py.ports.body import BodyEnd
from tusd_py.ports.failures import OutOfSpace
from tusd_py.transport import body as body_module
from tusd_py.transport import threads
from tusd_py.transport.body import FLOW_BYTES, HIGH_WATER, Connection, TransportBody
from tusd_py.transport.framing import ChunkedFraming, LengthFraming

AGES = 30.0
"""Seconds that no test waits for, unless something is broken."""

MOMENT = 0.03
"""A network timeout that is meant to pass."""

MIB = 1 << 20
LARGE = random.Random(1).randbytes(5 * MIB + 321)


class Sink:
    """Keeps what it is given, and who gave it; may fail after `room` bytes, and be held up in threads."""

    def __init__(self, room: int = 1 << 60) -> None:
        self.data = bytearray()
        self.threads: set[str] = set()
        self.room = room
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        name = threading.current_thread().name
        self.threads.add(name)
        self.entered.set()
        if name != threading.main_thread().name:
            assert self.open.wait(AGES)
        if len(self.data) + len(data) > self.room:
            raise OutOfSpace("full")
        self.data += data

    @property
    def in_thread(self) -> bool:
        return any(name.startswith("tusd-py-transport") for name in self.threads)

    @property
    def in_loop(self) -> bool:
        return threading.main_thread().name in self.threads


class Pair(Connection):
    """A connection over a socket pair, as a transport would serve it; `peer` is the client's end."""

    def __init__(self, *, plain: bool = True) -> None:
        self._loop = asyncio.get_running_loop()
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        self._plain = plain
        self._reading = False
        self.body: TransportBody
        self.calls: list[str] = []

    def make(self, length: int | None, timeout: float = AGES) -> TransportBody:
        framing = ChunkedFraming() if length is None else LengthFraming(length)
        self.body = TransportBody(self, framing, length, self._loop, timeout)
        return self.body

    def send_continue(self) -> None:
        self.calls.append("continue")

    def pause(self) -> None:
        self.calls.append("pause")
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.sock)

    def resume(self) -> None:
        self.calls.append("resume")
        if not self._reading and self.sock.fileno() >= 0:
            self._reading = True
            self._loop.add_reader(self.sock, self.deliver)

    def socket_fd(self) -> int | None:
        return self.sock.fileno() if self._plain and self.sock.fileno() >= 0 else None

    def deliver(self) -> None:
        """What a transport does with a readable socket."""
        try:
            data = self.sock.recv(256 * 1024)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            self.body.feed(data)
        else:
            self.pause()
            self.body.cut()

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def close(self) -> None:
        self.pause()
        self.sock.close()
        self.peer.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(AGES):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.001)


def sending(pair: Pair, data: bytes) -> asyncio.Future[None]:
    """A client that sends with blocking calls, in a thread of its own."""
    return asyncio.get_running_loop().run_in_executor(None, pair.peer.sendall, data)


def pumping(body: TransportBody, sink: Sink, limit: int = 1 << 60) -> asyncio.Task[BodyEnd]:
    return asyncio.create_task(body.pump(sink, limit))


def chunked(data: bytes, size: int = 300_000) -> bytes:
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# All of it is here already


async def test_a_small_body_that_is_all_here_waits_for_nothing(pair: Pair) -> None:
    body, sink = pair.make(5), Sink()
    assert (body.length, body.ready) == (5, False)
    body.feed(b"hello")
    assert body.ready
    coroutine = body.pump(sink, 5)
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value is BodyEnd.COMPLETE
    assert sink.data == b"hello" and body.complete
    assert pair.calls == ["continue"] and not sink.in_thread


async def test_an_empty_body(pair: Pair) -> None:
    assert await pair.make(0).pump(Sink(), 0) is BodyEnd.COMPLETE
    assert pair.calls == [], "no 100 Continue for nothing"


async def test_what_is_here_of_a_chunked_body_may_not_be_all(pair: Pair) -> None:
    body = pair.make(None)
    body.feed(b"0\r\n\r\n")
    assert body.length is None and not body.ready
    assert await body.pump(Sink(), 0) is BodyEnd.COMPLETE


async def test_what_is_behind_the_body_is_the_next_requests(pair: Pair) -> None:
    body = pair.make(5)
    body.feed(b"helloGET /")
    assert await body.pump(Sink(), 5) is BodyEnd.COMPLETE
    assert body.leftover() == b"GET /"


async def test_a_request_that_does_not_read_holds_the_client_back(pair: Pair) -> None:
    body = pair.make(HIGH_WATER + 1)
    body.feed(b"x" * (HIGH_WATER - 1))
    assert "pause" not in pair.calls
    body.feed(b"x")
    assert "pause" in pair.calls


async def test_much_that_is_here_already_is_written_by_a_thread(pair: Pair) -> None:
    body, sink = pair.make(HIGH_WATER), Sink()
    body.feed(LARGE[:HIGH_WATER])
    assert not body.ready
    assert await body.pump(sink, HIGH_WATER) is BodyEnd.COMPLETE
    assert sink.data == LARGE[:HIGH_WATER] and sink.in_thread and not sink.in_loop


# Slow and fast clients


async def test_a_slow_client_costs_no_thread(pair: Pair) -> None:
    body, sink = pair.make(300), Sink()
    pump = pumping(body, sink)
    for number in range(3):
        pair.peer.send(b"x" * 100)
        await until(lambda: len(sink.data) == 100 * (number + 1))  # noqa: B023 - awaited here
    assert await pump is BodyEnd.COMPLETE
    assert not sink.in_thread


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_fast_client_gets_a_thread(pair: Pair, is_chunked: bool) -> None:
    body, sink = pair.make(None if is_chunked else len(LARGE)), Sink()
    pump = pumping(body, sink)
    await sending(pair, chunked(LARGE) if is_chunked else LARGE)
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE and sink.in_thread
    assert body.leftover() == b"" and body.complete


async def test_a_thread_reads_nothing_of_the_next_request(pair: Pair) -> None:
    body, sink = pair.make(len(LARGE)), Sink()
    pump = pumping(body, sink)
    await sending(pair, LARGE + b"GET / HTTP/1.1")
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE
    assert body.leftover() + pair.sock.recv(100) == b"GET / HTTP/1.1"


async def test_a_client_that_is_fast_and_slow_by_turns(pair: Pair) -> None:
    body, sink = pair.make(len(LARGE)), Sink()
    pump = pumping(body, sink)
    start = 0
    for size in (10, 2 * MIB, 10, MIB, 7, 10 * MIB):
        piece = LARGE[start : start + size]
        start += len(piece)
        await sending(pair, piece)
        await until(lambda: len(sink.data) == start)  # noqa: B023 - awaited here
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE and sink.in_thread and sink.in_loop


async def test_a_turn_ends_when_others_wait(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0
    run = threads.run

    def counted(work: Callable[[], BodyEnd | None]) -> asyncio.Future[BodyEnd | None]:
        nonlocal runs
        runs += 1
        return run(work)

    monkeypatch.setattr(threads, "TURN_BYTES", 1)
    monkeypatch.setattr(threads, "others_wait", lambda: True)
    monkeypatch.setattr(threads, "run", counted)
    body, sink = pair.make(len(LARGE)), Sink()
    pump = pumping(body, sink)
    await sending(pair, LARGE)
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE and runs > 1


async def test_no_descriptor_is_left(pair: Pair) -> None:
    body, sink = pair.make(len(LARGE)), Sink()
    before = os.listdir("/proc/self/fd")
    pump = pumping(body, sink)
    await sending(pair, LARGE)
    await pump
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_without_a_descriptor_to_spare_the_loop_reads_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", none_left)
    body, sink = pair.make(len(LARGE)), Sink()
    pump = pumping(body, sink)
    await sending(pair, LARGE)
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE


async def test_under_tls_the_loop_reads_and_threads_write() -> None:
    pair = Pair(plain=False)
    body, sink = pair.make(len(LARGE)), Sink()
    pump = pumping(body, sink)
    await sending(pair, LARGE)
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE
    pair.close()


# Stop, in every state


async def test_stopped_before_it_began(pair: Pair) -> None:
    body, sink = pair.make(10), Sink()
    body.feed(b"hello")
    body.stop()
    body.stop()
    assert await body.pump(sink, 10) is BodyEnd.STOPPED
    assert sink.data == b"hello", "what was received is kept"


async def test_stopped_before_it_began_with_much_received(pair: Pair) -> None:
    body, sink = pair.make(len(LARGE)), Sink()
    body.feed(LARGE[:HIGH_WATER])
    pair.peer.send(LARGE[HIGH_WATER : HIGH_WATER + 1000])
    body.stop()
    assert await body.pump(sink, len(LARGE)) is BodyEnd.STOPPED
    assert sink.data == LARGE[: HIGH_WATER + 1000]


async def test_stopped_while_the_loop_is_watching(pair: Pair) -> None:
    body, sink = pair.make(100_000), Sink()
    pump = pumping(body, sink)
    pair.peer.send(LARGE[:10])
    await until(lambda: len(sink.data) == 10)
    pair.peer.send(LARGE[10:20])  # in the kernel, and not delivered yet
    body.stop()
    assert await pump is BodyEnd.STOPPED
    assert sink.data == LARGE[:20]


async def test_what_the_kernel_has_may_be_the_rest(pair: Pair) -> None:
    body, sink = pair.make(20), Sink()
    pump = pumping(body, sink)
    await until(lambda: "resume" in pair.calls)
    pair.peer.send(LARGE[:20])
    body.stop()
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE[:20]


async def test_stopped_under_tls() -> None:
    pair = Pair(plain=False)
    body, sink = pair.make(20), Sink()
    pump = pumping(body, sink)
    await until(lambda: "resume" in pair.calls)
    body.stop()
    assert await pump is BodyEnd.STOPPED
    pair.close()


@pytest.mark.parametrize("held", [True, False])
async def test_stopped_while_a_thread_is_at_work(pair: Pair, held: bool) -> None:
    body, sink = pair.make(1 << 40), Sink()
    if held:
        sink.open.clear()
    pump = pumping(body, sink)
    send = sending(pair, LARGE)
    await until(lambda: sink.in_thread)
    body.stop()
    sink.open.set()
    assert await pump is BodyEnd.STOPPED
    assert len(sink.data) > 0 and LARGE.startswith(bytes(sink.data)), "no gap, nothing twice"
    pair.close()  # the client may not be done
    await asyncio.wait({send})
    send.exception()


async def test_a_client_that_never_stops_sending_does_not_delay_the_next(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "LAST_BYTES", 1000)
    body, sink = pair.make(1 << 40), Sink()
    pump = pumping(body, sink)
    await until(lambda: "resume" in pair.calls)
    pair.peer.setblocking(False)
    sent = pair.peer.send(LARGE)
    body.stop()
    assert await pump is BodyEnd.STOPPED
    assert 1000 <= len(sink.data) <= sent and LARGE.startswith(bytes(sink.data))


async def test_stopped_afterwards(pair: Pair) -> None:
    body = pair.make(5)
    body.feed(b"hello")
    await body.pump(Sink(), 5)
    body.stop()


# Cut, in every state: everything received is kept


@pytest.mark.parametrize("size", [10, FLOW_BYTES + 1])
async def test_cut_before_it_began(pair: Pair, size: int) -> None:
    body, sink = pair.make(1 << 40), Sink()
    body.feed(LARGE[:size])
    body.cut()
    assert await body.pump(sink, 1 << 40) is BodyEnd.CUT
    assert sink.data == LARGE[:size]


async def test_a_whole_body_is_whole_though_the_client_is_gone(pair: Pair) -> None:
    body, sink = pair.make(5), Sink()
    body.feed(b"hello")
    body.cut()
    assert await body.pump(sink, 5) is BodyEnd.COMPLETE


@pytest.mark.parametrize("size", [0, 10, len(LARGE)])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_cut_by_a_client_that_closes(pair: Pair, size: int, is_chunked: bool) -> None:
    body, sink = pair.make(None if is_chunked else 1 << 40), Sink()
    pump = pumping(body, sink)
    await sending(pair, chunked(LARGE[:size])[: -len("0\r\n\r\n")] if is_chunked else LARGE[:size])
    pair.peer.close()
    assert await pump is BodyEnd.CUT
    assert sink.data == LARGE[:size]


async def test_cut_while_a_thread_is_writing(pair: Pair) -> None:
    """The loop hears of it first: what the kernel still has is kept all the same."""
    body, sink = pair.make(1 << 40), Sink()
    sink.open.clear()
    pump = pumping(body, sink)
    pair.peer.setblocking(False)
    sent = pair.peer.send(LARGE)
    await until(lambda: sink.in_thread)
    pair.peer.close()
    body.cut()
    sink.open.set()
    assert await pump is BodyEnd.CUT
    assert sink.data == LARGE[:sent]


async def test_a_reset_seen_by_a_thread() -> None:
    pair = Pair()
    pair.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        pair.peer = socket.create_connection(server.getsockname())
        pair.sock, _ = server.accept()
    pair.sock.setblocking(False)
    body, sink = pair.make(1 << 40), Sink()
    body.feed(LARGE[:HIGH_WATER])
    sink.open.clear()
    pump = pumping(body, sink)
    await until(lambda: sink.in_thread)
    pair.reset()
    sink.open.set()
    assert await pump is BodyEnd.CUT
    assert sink.data == LARGE[:HIGH_WATER]
    pair.close()


async def test_the_transport_may_close_its_socket_while_a_thread_reads(pair: Pair) -> None:
    body, sink = pair.make(1 << 40), Sink()
    sink.open.clear()
    pump = pumping(body, sink)
    pair.peer.setblocking(False)
    sent = pair.peer.send(LARGE)
    await until(lambda: sink.in_thread)
    pair.peer.close()
    pair.sock.close()
    body.cut()
    sink.open.set()
    assert await pump is BodyEnd.CUT
    assert sink.data == LARGE[:sent]


async def test_pieces_delivered_while_a_thread_works_come_after_its_own(pair: Pair) -> None:
    body, sink = pair.make(3 * FLOW_BYTES), Sink()
    sink.open.clear()
    pump = pumping(body, sink)
    await until(lambda: "resume" in pair.calls)
    body.feed(LARGE[:FLOW_BYTES])
    await until(lambda: sink.in_thread)
    body.feed(LARGE[FLOW_BYTES : FLOW_BYTES + 5])
    body.feed(LARGE[FLOW_BYTES + 5 : 3 * FLOW_BYTES])
    sink.open.set()
    assert await pump is BodyEnd.COMPLETE
    assert sink.data == LARGE[: 3 * FLOW_BYTES]


# Limits, framing, failures


@pytest.mark.parametrize("size", [10, FLOW_BYTES + 10, len(LARGE)])
@pytest.mark.parametrize("buffered", [True, False])
async def test_excess(pair: Pair, size: int, buffered: bool) -> None:
    """Nothing beyond the limit reaches the sink, and everything up to it does."""
    body, sink = pair.make(size), Sink()
    if buffered:
        body.feed(LARGE[:size])
        pump = pumping(body, sink, size - 3)
    else:
        pump = pumping(body, sink, size - 3)
        await sending(pair, LARGE[:size])
    assert await pump is BodyEnd.EXCESS
    assert sink.data == LARGE[: size - 3]


@pytest.mark.parametrize("size", [0, 10, len(LARGE)])
async def test_broken_framing_keeps_what_came_before(pair: Pair, size: int) -> None:
    body, sink = pair.make(None), Sink()
    pump = pumping(body, sink)
    await sending(pair, chunked(LARGE[:size])[: -len("0\r\n\r\n")] + b"oops\r\n")
    assert await pump is BodyEnd.MALFORMED
    assert sink.data == LARGE[:size] and not body.complete


async def test_trailers(pair: Pair) -> None:
    body = pair.make(None)
    body.feed(b"5\r\nhello\r\n0\r\nUpload-Checksum: sha1 x\r\n\r\n")
    assert await body.pump(Sink(), 5) is BodyEnd.COMPLETE
    assert body.trailers == {b"upload-checksum": b"sha1 x"}


async def test_a_sink_that_fails_at_once(pair: Pair) -> None:
    body = pair.make(5)
    body.feed(b"hello")
    with pytest.raises(OutOfSpace):
        await body.pump(Sink(room=3), 5)


async def test_a_sink_that_fails_on_the_loop(pair: Pair) -> None:
    body, sink = pair.make(1000), Sink(room=15)
    pump = pumping(body, sink)
    for _ in range(2):
        pair.peer.send(b"0123456789")
        await asyncio.sleep(0.001)
    with pytest.raises(OutOfSpace):
        await pump
    assert sink.data == b"0123456789"
    body.feed(b"more")
    assert sink.data == b"0123456789", "nobody touches the sink any more"


async def test_a_sink_that_fails_in_a_thread(pair: Pair) -> None:
    body, sink = pair.make(len(LARGE)), Sink(room=MIB)
    pump = pumping(body, sink)
    send = sending(pair, LARGE)
    with pytest.raises(OutOfSpace):
        await pump
    assert LARGE.startswith(bytes(sink.data))
    pair.close()
    await asyncio.wait({send})
    send.exception()


async def test_pieces_after_the_end_are_dropped(pair: Pair) -> None:
    body, sink = pair.make(10), Sink()
    pump = pumping(body, sink, 3)
    await until(lambda: "resume" in pair.calls)
    body.feed(b"01234")
    body.feed(b"56789")
    body.cut()
    assert await pump is BodyEnd.EXCESS
    assert sink.data == b"012"


# Cancellation


async def test_cancelled_on_the_loop(pair: Pair) -> None:
    body, sink = pair.make(10), Sink()
    pump = pumping(body, sink)
    await until(lambda: "resume" in pair.calls)
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    body.feed(b"0123456789")
    assert sink.data == b""


@pytest.mark.parametrize("failing", [True, False])
async def test_cancellation_waits_for_the_thread(pair: Pair, failing: bool) -> None:
    body, sink = pair.make(HIGH_WATER), Sink(room=0 if failing else HIGH_WATER)
    body.feed(LARGE[:HIGH_WATER])
    sink.open.clear()
    pump = pumping(body, sink)
    await until(sink.entered.is_set)
    for _ in range(3):
        pump.cancel()
        await asyncio.sleep(0.001)
        assert not pump.done(), "a thread is in the sink"
    sink.open.set()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert sink.data == (b"" if failing else LARGE[:HIGH_WATER])


# Stalls


async def test_a_client_that_sends_nothing(pair: Pair) -> None:
    body, sink = pair.make(10, MOMENT), Sink()
    body.feed(b"01234")
    assert await body.pump(sink, 10) is BodyEnd.STALLED
    assert sink.data == b"01234"


async def test_a_client_that_stops_sending(pair: Pair) -> None:
    body, sink = pair.make(len(LARGE), MOMENT), Sink()
    pump = pumping(body, sink)
    await sending(pair, LARGE[:-1])
    assert await pump is BodyEnd.STALLED
    assert sink.data == LARGE[:-1]


async def test_bytes_put_a_stall_off(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that the test turns."""
    loop, now = asyncio.get_running_loop(), 1000.0
    checks: list[tuple[float, Callable[[], None]]] = []

    class Loop:
        create_future = loop.create_future

        def time(self) -> float:
            return now

        def call_later(self, delay: float, check: Callable[[], None]) -> asyncio.Handle:
            checks.append((now + delay, check))
            return loop.call_soon(int)

    body = TransportBody(pair, LengthFraming(10), 10, Loop(), 60.0)  # type: ignore[arg-type]
    pair.body, sink = body, Sink()
    pump = pumping(body, sink)
    await asyncio.sleep(0)
    assert checks[-1][0] == 1060
    now = 1050.0
    body.feed(b"x")
    now = 1060.0
    checks[-1][1]()
    assert checks[-1][0] == 1110, "60 s after the last byte"
    now = 1110.0
    checks[-1][1]()
    assert await pump is BodyEnd.STALLED


async def test_a_slow_disk_is_no_stalled_client(pair: Pair) -> None:
    body, sink = pair.make(HIGH_WATER + 1, MOMENT), Sink()
    body.feed(LARGE[:HIGH_WATER])
    sink.open.clear()
    pump = pumping(body, sink)
    await until(sink.entered.is_set)
    await asyncio.sleep(4 * MOMENT)
    assert not pump.done()
    pair.peer.send(LARGE[HIGH_WATER : HIGH_WATER + 1])
    sink.open.set()
    assert await pump is BodyEnd.COMPLETE


# For applications that don't know this body


async def test_pieces_for_plain_applications(pair: Pair) -> None:
    body = pair.make(10)
    body.feed(b"012")
    body.feed(b"34")
    assert await body.receive_piece() == (b"01234", True)
    pair.peer.send(b"56789")
    assert await body.receive_piece() == (b"56789", False)
    assert await body.receive_piece() == (b"", False)
    assert pair.calls[0] == "continue"


async def test_a_chunked_body_for_plain_applications(pair: Pair) -> None:
    body, found = pair.make(None), b""
    send = sending(pair, chunked(LARGE))
    while True:
        piece = await body.receive_piece()
        assert piece is not None
        found += piece[0]
        if not piece[1]:
            break
    await send
    assert found == LARGE


async def test_a_client_that_leaves_a_plain_application(pair: Pair) -> None:
    body = pair.make(10)
    receiving = asyncio.create_task(body.receive_piece())
    await until(lambda: "resume" in pair.calls)
    pair.peer.close()
    assert await receiving is None
    assert await body.receive_piece() is None


async def test_a_plain_application_gets_what_came_before_the_client_left(pair: Pair) -> None:
    body = pair.make(10)
    body.feed(b"01234")
    body.cut()
    assert await body.receive_piece() == (b"01234", True)
    assert await body.receive_piece() is None


async def test_broken_framing_ends_a_plain_applications_body(pair: Pair) -> None:
    body = pair.make(None)
    body.feed(b"5\r\nhello\r\noops\r\n")
    assert await body.receive_piece() == (b"hello", True)
    assert await body.receive_piece() is None
    body.feed(b"more")
    assert await body.receive_piece() is None, "however much is sent behind it"
