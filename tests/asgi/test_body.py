"""A body through `receive()`: every end, stopping, stalling, trailers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tusd_py.asgi.body import INLINE_BYTES, AsgiBody
from tusd_py.ports.body import BodyEnd
from tusd_py.ports.failures import OutOfSpace

AGES = 30.0

Message = dict[str, Any]


def request(data: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT: Message = {"type": "http.disconnect"}


class Script:
    """A `receive` that gives `messages`, and then nothing for ever; callables are called on the way."""

    def __init__(self, *messages: Message | Callable[[], object]) -> None:
        self._messages = iter(messages)
        self.calls = self.cancelled = 0

    async def __call__(self) -> Message:
        self.calls += 1
        for message in self._messages:
            if isinstance(message, dict):
                return message
            message()
        try:
            await asyncio.sleep(AGES)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("nobody stopped waiting")


class Sink:
    def __init__(self, room: int = 1 << 60) -> None:
        self.data = bytearray()
        self.room = room
        self.in_threads = False
        self.entered, self.open = threading.Event(), threading.Event()
        self.open.set()

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.in_threads = True
            self.entered.set()
            assert self.open.wait(AGES)
        if len(self.data) + len(data) > self.room:
            raise OutOfSpace("full")
        self.data += data


def make(script: Script, length: int | None = None, timeout: float = AGES) -> AsgiBody:
    return AsgiBody(script, length, [], {}, timeout)


ENDS: list[tuple[tuple[Message, ...], int, BodyEnd, bytes]] = [
    ((request(b"hello", False),), 10, BodyEnd.COMPLETE, b"hello"),
    ((request(b"he"), request(b""), request(b"llo"), request(b"", False)), 10, BodyEnd.COMPLETE, b"hello"),
    (({"type": "http.request"},), 10, BodyEnd.COMPLETE, b""),
    ((request(b"hello", False),), 5, BodyEnd.COMPLETE, b"hello"),
    ((request(b"hello", False),), 4, BodyEnd.EXCESS, b"hell"),
    ((request(b"he"), request(b"llo")), 3, BodyEnd.EXCESS, b"hel"),
    ((request(b"he"), request(b"l")), 2, BodyEnd.EXCESS, b"he"),
    ((request(b"he"), DISCONNECT), 10, BodyEnd.CUT, b"he"),
    ((DISCONNECT,), 10, BodyEnd.CUT, b""),
]


@pytest.mark.parametrize(("messages", "limit", "end", "data"), ENDS)
async def test_ends(messages: tuple[Message, ...], limit: int, end: BodyEnd, data: bytes) -> None:
    sink, body = Sink(), make(Script(*messages))
    assert body.length is None and not body.ready
    assert await body.pump(sink, limit) is end
    assert sink.data == data
    assert body.complete is (end is BodyEnd.COMPLETE)


async def test_an_empty_body_is_not_asked_for() -> None:
    script = Script()
    body = make(script, 0)
    assert (body.ready, body.length) == (True, 0)
    assert await body.pump(Sink(), 0) is BodyEnd.COMPLETE
    assert script.calls == 0


async def test_a_client_that_sends_nothing() -> None:
    script, sink = Script(request(b"he")), Sink()
    assert await make(script, timeout=0.01).pump(sink, 10) is BodyEnd.STALLED
    assert sink.data == b"he"
    await asyncio.sleep(0)
    assert script.cancelled == 1, "nobody waits for the next message any more"


async def test_stopped_before() -> None:
    script = Script(request(b"hello", False))
    body = make(script)
    body.stop()
    body.stop()
    assert await body.pump(Sink(), 10) is BodyEnd.STOPPED
    assert script.calls == 0


async def test_stopped_while_waiting() -> None:
    script, sink = Script(request(b"he")), Sink()
    body = make(script)
    pump = asyncio.create_task(body.pump(sink, 10))
    async with asyncio.timeout(AGES):
        while script.calls < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
    body.stop()
    assert await pump is BodyEnd.STOPPED
    assert sink.data == b"he"
    await asyncio.sleep(0)
    assert script.cancelled == 1


async def test_what_has_come_when_it_is_stopped_is_kept() -> None:
    sink = Sink()
    body = make(Script(request(b"he"), lambda: body.stop(), request(b"llo")))
    assert await body.pump(sink, 10) is BodyEnd.STOPPED
    assert sink.data == b"hello"


async def test_the_last_piece_completes_a_stopped_body() -> None:
    body = make(Script(lambda: body.stop(), request(b"hello", False)))
    assert await body.pump(Sink(), 10) is BodyEnd.COMPLETE


async def test_large_pieces_are_written_in_threads() -> None:
    small, large = b"s" * INLINE_BYTES, b"l" * (INLINE_BYTES + 1)
    sink = Sink()
    assert await make(Script(request(small, False))).pump(sink, 1 << 30) is BodyEnd.COMPLETE
    assert not sink.in_threads
    assert await make(Script(request(large, False))).pump(sink, 1 << 30) is BodyEnd.COMPLETE
    assert [sink.in_threads, bytes(sink.data)] == [True, small + large]


@pytest.mark.parametrize("size", [10, INLINE_BYTES + 1])
async def test_a_sink_that_fails(size: int) -> None:
    with pytest.raises(OutOfSpace):
        await make(Script(request(b"x" * size, False))).pump(Sink(room=5), 1 << 30)


async def test_a_server_that_fails() -> None:
    def fail() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await make(Script(request(b"x"), fail)).pump(Sink(), 10)


@pytest.mark.parametrize("failing", [True, False])
async def test_cancellation_waits_for_the_thread(failing: bool) -> None:
    sink = Sink(room=0 if failing else 1 << 30)
    sink.open.clear()
    pump = asyncio.create_task(make(Script(request(b"x" * (INLINE_BYTES + 1), False))).pump(sink, 1 << 30))
    async with asyncio.timeout(AGES):
        while not sink.entered.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for _ in range(3):
        pump.cancel()
        await asyncio.sleep(0.001)
        assert not pump.done(), "a thread is in the sink"
    sink.open.set()
    with pytest.raises(asyncio.CancelledError):
        await pump


async def test_cancelled_while_waiting() -> None:
    script = Script()
    pump = asyncio.create_task(make(script).pump(Sink(), 10))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    await asyncio.sleep(0)
    assert script.cancelled == 1


async def test_trailers_are_what_the_server_appends_to_the_headers() -> None:
    pairs = [(b"upload-checksum", b"header"), (b"host", b"here")]
    body = AsgiBody(Script(lambda: pairs.append((b"Upload-Checksum", b"trailer")), request(b"", False)), None, pairs, {}, AGES)
    assert body.trailers == {}
    await body.pump(Sink(), 10)
    assert body.trailers == {b"upload-checksum": b"trailer"}


async def test_trailers_that_came_with_the_head() -> None:
    early = {b"upload-checksum": b"early"}
    pairs = [(b"host", b"here")]
    body = AsgiBody(Script(lambda: pairs.append((b"other", b"late")), request(b"", False)), None, pairs, early, AGES)
    await body.pump(Sink(), 10)
    assert body.trailers == {b"upload-checksum": b"early", b"other": b"late"}
