"""Runs the service: sockets, TLS, processes, signals and the event loop. Knows nothing about uploads.

Light to import: the web server and the event loop are imported by the process that serves, when it starts to.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

from tusd_py.observability.logs import configure, timestamp
from tusd_py.server.errors import StartError
from tusd_py.server.listeners import Listeners, listen
from tusd_py.server.preparation import prepare_upload_dir, raise_file_limit
from tusd_py.server.supervisor import supervise
from tusd_py.settings import Settings

__all__ = ["StartError", "run"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status. What keeps the server from starting is a sentence on stderr, and 1."""
    configure(settings.log_format, verbose=settings.verbose)
    # A signal that comes before somebody listens to signals waits for them, instead of ending the process halfway.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return _run(settings)
    except StartError as error:
        print(f"tusd-py: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _run(settings: Settings) -> int:
    tls = None
    if settings.tls:
        from tusd_py.server.tls import server_context

        tls = server_context(settings)
    raise_file_limit()
    prepare_upload_dir(settings)
    with listen(settings) as listeners:
        _announce_settings(settings)

        def ready() -> None:
            _announce_url(settings, listeners)

        if settings.workers == 1:
            from tusd_py.server.process import serve

            return serve(settings, listeners.take(0), tls, ready)

        def work(index: int, worker_ready: Callable[[], None]) -> int:
            from tusd_py.server.process import serve

            return serve(settings, listeners.take(index), tls, worker_ready, worker=True)

        return supervise(settings.workers, work, ready=ready, stopping=listeners.close, stop_timeout=settings.shutdown_timeout)


def _announce_settings(settings: Settings) -> None:
    """tusd's own lines, in tusd's words and order."""
    if not settings.show_startup_logs:
        return
    _print(f"Using '{settings.upload_dir}' as directory storage.")
    _print(f"Using {settings.max_size / 1024 / 1024:.2f}MB as maximum size.")
    if settings.unix_sock is not None:
        _print(f"Using {settings.unix_sock} as socket to listen.")
    else:
        _print(f"Using {settings.host}:{settings.port} as address to listen.")
    _print(f"Using {settings.base_path} as the base path.")


def _announce_url(settings: Settings, listeners: Listeners) -> None:
    """The line that scripts wait for, and read the port from: it comes when connections are accepted, and always."""
    if listeners.port is None:
        return
    scheme = "https" if settings.tls else "http"
    host = settings.host or "::"
    host = f"[{host}]" if ":" in host else host
    _print(f"You can now upload files to: {scheme}://{host}:{listeners.port}{settings.base_path}")


def _print(text: str) -> None:
    print(f"{timestamp(time.time())} {text}", flush=True)
