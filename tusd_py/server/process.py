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
from typing import Any, Protocol, cast

import uvicorn

from tusd_py.observability.logs import log_event
from tusd_py.ports.failures import StorageFailure
from tusd_py.server.errors import StartError
from tusd_py.server.listeners import BACKLOG
from tusd_py.settings import Settings

__all__ = ["Application", "ServingProcess", "serve"]

log = logging.getLogger("tusd_py.server")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# How long requests that were cut may take to clean up behind themselves, and the application to close its files.
CUT_GRACE = 2.0
CLOSE_GRACE = 10.0

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


def serve(
    settings: Settings, listener: socket.socket, tls: ssl.SSLContext | None, ready: Callable[[], None], *, worker: bool = False
) -> int:
    """Serve on this socket until told to stop; returns the exit status. `ready` is called once connections are accepted."""
    # A thread that comes back from a system call must not wait Python's usual 5 ms while the loop is busy: what it has to say
    # (synced, the next mebibyte is there) is what requests are waiting for.
    sys.setswitchinterval(SWITCH_INTERVAL)
    service = _build(settings)
    config = _config(settings, service.app, tls)
    server = ServingProcess(config, service, settings.shutdown_timeout, ready, worker=worker)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve([listener]))
            if server.server_state.tasks:
                # Something ignores its cancellation. The runner would wait for it for ever.
                _exit_now(0)
    except SystemExit:
        raise StartError(server.start_failure.sentence) from None
    return 0


def _build(settings: Settings) -> Application:
    from tusd_py.assembly import build

    try:
        return build(settings)
    except StorageFailure as error:
        raise StartError(f"cannot use the upload directory {settings.upload_dir}: {error}") from None


def _config(settings: Settings, app: Any, tls: ssl.SSLContext | None) -> uvicorn.Config:
    from tusd_py.transport import http_protocol

    return uvicorn.Config(
        app,
        loop="auto",  # uvloop if there is one
        http=http_protocol(network_timeout=settings.network_timeout),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # -behind-proxy is about upload URLs, not about client addresses
        server_header=False,
        workers=1,  # else uvicorn would believe $WEB_CONCURRENCY
        backlog=BACKLOG,
        timeout_keep_alive=cast(int, settings.network_timeout),  # a delay for call_later: fractions are fine
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )


class _StartFailure(logging.Filter):
    """Keeps why the application did not start. uvicorn only logs it, with a traceback, and raises SystemExit.

    A broken disk or a missing permission is told in a sentence; anything else is a defect, and its traceback is logged.
    """

    sentence = "the application did not start: see the log"

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError | StorageFailure):
            self.sentence = f"the application did not start: {error}"
            return False
        return not record.getMessage().startswith("Application startup failed")


class ServingProcess(uvicorn.Server):
    """uvicorn's server, stopping as tusd does.

    A `worker` leaves the second signal to its supervisor: what is sent to the whole group reaches it from there once more.
    """

    def __init__(
        self, config: uvicorn.Config, service: Application, shutdown_timeout: float, ready: Callable[[], None], *, worker: bool
    ) -> None:
        super().__init__(config)
        self._service, self._shutdown_timeout, self._ready, self._worker = service, shutdown_timeout, ready, worker
        self._stop = asyncio.Event()
        self.start_failure = _StartFailure()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        await self._serve(sockets)

    def _on_signal(self) -> None:
        if self.should_exit and not self._worker:
            log_event(log, logging.WARNING, "ShutdownForced")
            _exit_now(1)
        self.should_exit = True
        self._stop.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        uvicorn_log = logging.getLogger("uvicorn.error")
        uvicorn_log.addFilter(self.start_failure)
        try:
            await super().startup(sockets)
        finally:
            uvicorn_log.removeFilter(self.start_failure)
        # What is alive now stays alive: collections need not look at it again, nor write to pages shared with a sibling.
        gc.collect()
        gc.freeze()
        self._ready()

    async def main_loop(self) -> None:
        while not await self.on_tick(DATE_TICK):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), DATE_INTERVAL)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log_event(log, logging.INFO, "ShutdownStarted", connections=len(self.server_state.connections))
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        self._service.begin_shutdown()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not await self._drained(self._shutdown_timeout):
            await self._cut()
        await self._close_application()
        log_event(log, logging.INFO, "ShutdownComplete")

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
    sys.stdout.flush()
    os._exit(status)
