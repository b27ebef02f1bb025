"""Runs the service: sockets, TLS, processes, signals and the event loop. Knows nothing about uploads.

Light to import: the web server and the event loop are imported by the process that serves, when it starts to.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tusd_py.observability.cells import Pages
from tusd_py.observability.logs import configure
from tusd_py.server.announcement import announce_settings, announce_url
from tusd_py.server.errors import StartError
from tusd_py.server.inheritance import Inheritance, Predecessor, inherit
from tusd_py.server.listeners import listen
from tusd_py.server.notify import Notifier
from tusd_py.server.preparation import prepare_upload_dir, raise_file_limit
from tusd_py.server.succession import RESTART_SIGNAL, Succession
from tusd_py.server.supervisor import supervise
from tusd_py.settings import Settings

if TYPE_CHECKING:
    import ssl

__all__ = ["StartError", "run"]

HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, RESTART_SIGNAL)


def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status. What keeps the server from starting is a sentence on stderr, and 1."""
    configure(settings.log_format, verbose=settings.verbose)
    # A signal that comes before somebody listens to signals waits for them, instead of ending the process halfway.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    inherited = Inheritance()
    try:
        inherited = inherit(os.environ)
        return _run(settings, inherited)
    except StartError as error:
        print(f"tusd-py: {error}", file=sys.stderr, flush=True)
        if inherited.predecessor is not None:
            inherited.predecessor.failed(str(error))
        return 1
    finally:
        inherited.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _run(settings: Settings, inherited: Inheritance) -> int:
    tls = None
    if settings.tls:
        from tusd_py.server.tls import server_context

        tls = server_context(settings)
    raise_file_limit()
    prepare_upload_dir(settings)
    predecessor = inherited.predecessor
    notifier = Notifier.of(os.environ, successor=predecessor is not None)
    kept, keeper = _keeping(predecessor)
    with listen(settings, inherited) as listeners:
        announce_settings(settings, listeners)

        def ready() -> None:
            announce_url(settings, listeners)
            if predecessor is None:
                notifier.ready()
            else:
                predecessor.ready(kept=bool(inherited.sockets) and listeners.address == inherited.address)

        status = _serve(settings, tls, Succession(listeners, notifier, keeper), ready)
    if kept is not None and listeners.handed_over:
        from tusd_py.server.keeper import keep

        return keep(kept)
    return status


def _keeping(predecessor: Predecessor | None) -> tuple[socket.socket | None, socket.socket | None]:
    """Where process 1 hears who leads, and where leaders say so."""
    if predecessor is not None:
        return None, predecessor.keeper
    if os.getpid() != 1:
        return None, None
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _serve(settings: Settings, tls: ssl.SSLContext | None, succession: Succession, ready: Callable[[], None]) -> int:
    listeners = succession.listeners
    if settings.workers == 1:
        from tusd_py.server.process import serve

        return serve(settings, listeners.take(0), tls, ready, succession)

    pages = Pages(settings.workers)

    def work(index: int, worker_ready: Callable[[], None]) -> int:
        from tusd_py.server.process import serve

        return serve(settings, listeners.take(index), tls, worker_ready, page=pages.page(index))

    return supervise(settings.workers, work, ready=ready, succession=succession, stop_timeout=settings.shutdown_timeout)
