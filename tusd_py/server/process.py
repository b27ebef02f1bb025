"""One process that serves: uvicorn with our protocol class and our way of stopping.

uvicorn notices a signal at its next 0.1 s tick, waits for running uploads to end by themselves, and then kills itself with the
signal that it caught. tusd's clients and supervisors expect otherwise: running bodies are cut at once (what has arrived is kept
and the request answered), and a stop that was asked for is exit status 0.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakSet

import uvicorn

from tusd_py.observability.cells import Page
from tusd_py.observability.logs import flush, log_event
from tusd_py.ports.failures import StorageFailure
from tusd_py.server.errors import StartError
from tusd_py.server.replacing import replace
from tusd_py.server.succession import RESTART_SIGNAL, Succession
from tusd_py.server.supervisor import LET_GO_SIGNAL
from tusd_py.server.web import StartFailure, noting_handshakes, uvicorn_config
from tusd_py.settings import Settings, SettingsError

__all__ = ["Application", "ServingProcess", "serve"]

log = logging.getLogger("tusd_py.server")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# How long requests that were cut may take to clean up behind themselves, and the application to close its files.
CUT_GRACE = 2.0
CLOSE_GRACE = 10.0

# How often a process that was replaced looks whether it is still needed.
RETIRED_POLL = 0.05

# Connections that only have to flush their last answer: there is nothing to wait on but time.
FLUSH_POLL = 0.005

SWITCH_INTERVAL = 0.0005

# uvicorn renews the Date header when it is asked with a multiple of ten ticks.
DATE_INTERVAL = 1.0
DATE_TICK = 0


class Application(Protocol):
    """What is served: `tusd_py.assembly.Service`."""

    @property
    def app(self) -> Any:
        """The ASGI application, lifespan included."""

    def begin_shutdown(self) -> None:
        """Cut running request bodies and refuse new uploads. On the loop."""

    @property
    def count_connections(self) -> Callable[[Callable[[], int]], None]:
        """To be called with a function that tells how many connections are open."""


def serve(
    settings: Settings,
    sockets: list[socket.socket],
    tls: ssl.SSLContext | None,
    ready: Callable[[], None],
    succession: Succession | None = None,
    page: Page | None = None,
) -> int:
    """Serve on these sockets until told to stop or replaced; returns the exit status.

    `ready` is called once connections are accepted. A process without `succession` is a worker, and its supervisor's business;
    `page` is where it counts then.
    """
    # A thread that comes back from a system call must not wait Python's usual 5 ms while the loop is busy: what it has to say
    # (synced, the next mebibyte is there) is what requests are waiting for.
    sys.setswitchinterval(SWITCH_INTERVAL)
    service = _build(settings, page)
    config = uvicorn_config(settings, service.app, tls)
    server = ServingProcess(config, service, settings.shutdown_timeout, ready, succession)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets))
            if server.server_state.tasks:
                # Something ignores its cancellation. The runner would wait for it for ever.
                _exit_now(0)
    except SystemExit:
        raise StartError(server.start_failure.sentence) from None
    return 0


def _build(settings: Settings, page: Page | None) -> Application:
    from tusd_py.assembly import build

    try:
        return build(settings, page)
    except StorageFailure as error:
        raise StartError(f"cannot use the upload directory {settings.upload_dir}: {error}") from None
    except SettingsError as error:  # a file or a module that they name
        raise StartError(str(error)) from None


class ServingProcess(uvicorn.Server):
    """uvicorn's server, stopping as tusd does, and replaced without a gap.

    A worker (no `succession`) leaves the second signal to its supervisor: what is sent to the whole group reaches it from there
    once more.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Application,
        shutdown_timeout: float,
        ready: Callable[[], None],
        succession: Succession | None,
    ) -> None:
        super().__init__(config)
        self._service, self._shutdown_timeout, self._ready = service, shutdown_timeout, ready
        self._succession = succession
        self._stop, self._woken = asyncio.Event(), asyncio.Event()
        self._replaced = False
        self._replacing: asyncio.Task[None] | None = None
        self._handshaking: WeakSet[asyncio.Protocol] = WeakSet()
        self.start_failure = StartFailure()
        service.count_connections(lambda: len(self.server_state.connections))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_stop_signal)
        if self._succession is None:
            loop.add_signal_handler(LET_GO_SIGNAL, self._let_go)
            loop.add_signal_handler(RESTART_SIGNAL, lambda: None)  # its supervisor's business, however it came here
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (LET_GO_SIGNAL, RESTART_SIGNAL))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        await self._serve(sockets)
        if self._replaced and self._succession is not None and self._succession.keeper is not None:
            # Somebody may take over who has to hear all of them (`tusd_py.server.keeper`).
            signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, RESTART_SIGNAL))

    def _on_stop_signal(self) -> None:
        if self._stop.is_set() and self._succession is not None:
            log_event(log, logging.WARNING, "ShutdownForced")
            _exit_now(1)
        self.should_exit = True
        self._stop.set()
        self._woken.set()

    def _on_restart_signal(self) -> None:
        if self.should_exit or self._replacing is not None:
            log_event(log, logging.WARNING, "RestartIgnored", reason="stopping" if self.should_exit else "restarting already")
            return
        self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        assert self._succession is not None
        try:
            if await replace(self._succession):
                self._let_go()
        finally:
            self._replacing = None

    def _let_go(self) -> None:
        """Another process listens now: accept nothing more, and let what runs here end."""
        self._replaced = self.should_exit = True
        self._woken.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        uvicorn_log = logging.getLogger("uvicorn.error")
        uvicorn_log.addFilter(self.start_failure)
        if self.config.is_ssl:
            self.config.http_protocol_class = noting_handshakes(self.config.http_protocol_class, self._handshaking)
        try:
            await super().startup(sockets)
        finally:
            uvicorn_log.removeFilter(self.start_failure)
        # What is alive now stays alive: collections need not look at it again, nor write to pages shared with a sibling.
        gc.collect()
        gc.freeze()
        self._ready()
        if self._succession is not None:
            asyncio.get_running_loop().add_signal_handler(RESTART_SIGNAL, self._on_restart_signal)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (RESTART_SIGNAL,))

    async def main_loop(self) -> None:
        notifier = None if self._succession is None else self._succession.notifier
        interval = min(DATE_INTERVAL, (notifier and notifier.interval) or DATE_INTERVAL)
        while not await self.on_tick(DATE_TICK):
            if notifier is not None:
                notifier.alive()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), interval)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log_event(log, logging.INFO, "ShutdownStarted", connections=len(self.server_state.connections))
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        grace = self._shutdown_timeout
        if self._replaced:
            grace = CUT_GRACE if await self._outlasted() else grace
        else:
            self._announce_stop()
        self._service.begin_shutdown()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._drained(grace):
            await self._cut()
        await self._close_application()
        log_event(log, logging.INFO, "ShutdownComplete")

    def _announce_stop(self) -> None:
        if self._replacing is not None:
            self._replacing.cancel()
        if self._succession is not None:
            self._succession.notifier.stopping()

    async def _outlasted(self) -> bool:
        """Let requests and connections of a replaced process end by themselves; false if it is told to stop meanwhile."""
        loop, state = asyncio.get_running_loop(), self.server_state
        deadline = loop.time() + self._shutdown_timeout
        retire = getattr(self.config.http_protocol_class, "retire", None)
        if retire is not None:  # uvicorn's own classes know no such thing
            retire(list(state.connections))
        while (left := deadline - loop.time()) > 0 and not self._stop.is_set():
            # First of all: what was accepted last is no connection yet.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), min(RETIRED_POLL, left))
            if not (state.tasks or state.connections or self._handshaking):
                break
        return not self._stop.is_set()

    async def _drained(self, timeout: float) -> bool:
        """Whether all requests have ended and all connections are closed, before the timeout."""
        loop, state = asyncio.get_running_loop(), self.server_state
        deadline = loop.time() + timeout
        while state.tasks or state.connections:
            left = deadline - loop.time()
            if left <= 0:
                return False
            if state.tasks:
                await asyncio.wait(state.tasks, timeout=left)
                await asyncio.sleep(0)  # their callbacks take them out of the set
            else:
                await asyncio.sleep(min(FLUSH_POLL, left))
        return True

    async def _cut(self) -> None:
        """End what is still running: the time that was granted is over."""
        state = self.server_state
        log_event(log, logging.WARNING, "ShutdownTimeout", requests=len(state.tasks), connections=len(state.connections))
        for task in state.tasks:
            task.cancel()
        for connection in list(state.connections):
            connection.transport.abort()
        await self._drained(CUT_GRACE)

    async def _close_application(self) -> None:
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), CLOSE_GRACE)
        except TimeoutError:
            log_event(log, logging.ERROR, "ApplicationCloseTimeout")


def _exit_now(status: int) -> None:
    flush()
    sys.stdout.flush()
    os._exit(status)
