"""A TCP proxy that misbehaves on purpose: it delays, trickles, cuts and stalls connections at given byte positions."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: closing sends RST
GRACE = 5.0  # seconds that a server has to end a connection that was half-closed to it


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one connection. Positions count the bytes that went up (client to server) or down.

    A cut ends the connection on both sides, by FIN or, with `reset`, by RST. A stall ends nothing: from then on no byte
    goes either way, and neither side is told, as when a laptop falls asleep. `FaultProxy.wake` wakes it up.
    """

    cut_up: int | None = None
    cut_down: int | None = None
    stall_up: int | None = None
    reset: bool = False
    piece: int = 1 << 16  # forwarded at once, at most
    delay: float = 0.0  # seconds before each piece


HEALTHY = Fault()


class Link:
    """One connection through the proxy: a pump for each direction, until the fault strikes or both sides are done."""

    def __init__(self, fault: Fault, client: Streams, server: Streams) -> None:
        self.fault, self.client, self.server = fault, client, server
        self.over, self.awake = asyncio.Event(), asyncio.Event()
        self.awake.set()
        self.running = 2
        self.cut = self.stalled = self.broken = False

    async def run(self) -> None:
        up = asyncio.create_task(self._pump(self.client, self.server, self.fault.cut_up, self.fault.stall_up))
        down = asyncio.create_task(self._pump(self.server, self.client, self.fault.cut_down, None))
        try:
            await self.over.wait()
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            if self.broken or (self.cut and self.fault.reset):
                self.client.reset()
                self.server.reset()
            elif self.cut:
                await self._finish()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self.client.close()
            self.server.close()

    async def _pump(self, source: Streams, sink: Streams, cut: int | None, stall: int | None) -> None:
        """Forward until the end of `source` or the cut."""
        try:
            if await self._forward(source, sink, cut, stall):
                self.running -= 1
            else:
                self.cut = True
        except OSError:  # one side reset the connection: the other is to see it
            self.broken = True
        if self.cut or self.broken or not self.running:
            self.over.set()

    async def _forward(self, source: Streams, sink: Streams, cut: int | None, stall: int | None) -> bool:
        """True at the end of `source`, False at the cut."""
        sent = 0
        while sent != cut:
            if sent == stall:
                self.stalled, stall = True, None
                self.awake.clear()
            stops = [position - sent for position in (cut, stall) if position is not None]
            data = await source.reader.read(min([self.fault.piece, *stops]))
            if self.fault.delay:
                await asyncio.sleep(self.fault.delay)
            await self.awake.wait()
            if not data:
                sink.writer.write_eof()
                return True
            sink.writer.write(data)
            await sink.writer.drain()
            sent += len(data)
        return False

    async def _finish(self) -> None:
        """FIN to both sides."""
        self.client.close()
        try:  # only a half-close to the server, so that what is still on its way to the server is not thrown away by a reset
            self.server.writer.write_eof()
            async with asyncio.timeout(GRACE):
                while await self.server.reader.read(1 << 16):
                    pass
        except (OSError, TimeoutError):
            pass


@dataclass(frozen=True)
class Streams:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.writer.transport.abort()


class FaultProxy:
    """Listens on `address` and forwards to `target`; `plan(n)` says what happens to the n-th connection, from 0.

    Runs on an event loop in a thread of its own. `struck` counts the connections that met their cut or stall.
    """

    def __init__(self, target: tuple[str, int], plan: Callable[[int], Fault]) -> None:
        self.target, self.plan = target, plan
        self.address: tuple[str, int] = ("", 0)
        self.connections = self.struck = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._ready = threading.Event()
        self._links: set[asyncio.Task[None]] = set()
        self._open: set[Link] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(GRACE + 10)
        assert not self._thread.is_alive(), "the proxy did not stop"
        self._loop.close()

    def wake(self) -> None:
        """Let the connections that stalled go on."""
        for link in list(self._open):
            self._loop.call_soon_threadsafe(link.awake.set)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._links:
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await asyncio.sleep(0)  # transports close on the next turn of the loop

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        fault = self.plan(self.connections)
        self.connections += 1
        try:
            server = Streams(*await asyncio.open_connection(*self.target))
        except OSError:
            Streams(reader, writer).reset()
            return
        link = Link(fault, Streams(reader, writer), server)
        self._open.add(link)
        try:
            await link.run()
        except asyncio.CancelledError:
            pass  # the proxy is closing; asyncio would log it
        finally:
            self._open.discard(link)
            self.struck += link.cut or link.stalled
