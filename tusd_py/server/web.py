"""How uvicorn is set up, and what it does not tell by itself: why a start failed, and which connections are in a handshake."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any, cast
from weakref import WeakSet

import uvicorn

from tusd_py.ports.failures import StorageFailure
from tusd_py.server.listeners import BACKLOG
from tusd_py.settings import Settings

__all__ = ["StartFailure", "noting_handshakes", "uvicorn_config"]


def uvicorn_config(settings: Settings, app: Any, tls: ssl.SSLContext | None) -> uvicorn.Config:
    """uvicorn, set up for uploads: our protocol class, and none of its ways with logs, proxies and workers."""
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


class StartFailure(logging.Filter):
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


def noting_handshakes(protocol: Any, handshaking: WeakSet[asyncio.Protocol]) -> Any:
    """The protocol class, keeping its instances in the set until the TLS handshake is over: only then uvicorn knows of them."""

    class Noted(protocol):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            handshaking.add(self)

        def connection_made(self, transport: Any) -> None:
            handshaking.discard(self)
            super().connection_made(transport)

    return Noted
