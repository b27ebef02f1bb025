"""What a start prints: tusd's lines, in tusd's words and order (cmd/tusd/cli/serve.go, composer.go, hooks.go)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tusd_py.observability.logs import timestamp
from tusd_py.protocol.extensions import supported_extensions
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.rules import Policy
from tusd_py.server.inheritance import ACTIVATED
from tusd_py.server.listeners import Listeners
from tusd_py.settings import Settings

__all__ = ["announce_settings", "announce_url"]


def announce_settings(settings: Settings, listeners: Listeners) -> None:
    if settings.show_startup_logs:
        for line in _lines(settings, listeners):
            _print(line)


def _lines(settings: Settings, listeners: Listeners) -> Iterator[str]:
    yield f"Using '{settings.upload_dir}' as directory storage."
    yield f"Using {settings.max_size / 1024 / 1024:.2f}MB as maximum size."
    yield from _hook_lines(settings)
    yield f"Supported tus extensions: {_extensions(settings)}"
    if listeners.address == ACTIVATED:
        yield f"Using {listeners.shown} as address to listen, as systemd has opened it."
    elif settings.unix_sock is not None:
        yield f"Using {settings.unix_sock} as socket to listen."
    else:
        yield f"Using {settings.host}:{settings.port} as address to listen."
    yield f"Using {settings.base_path} as the base path."
    if settings.expose_metrics:
        yield f"Using {settings.metrics_path} as the metrics path."


def _hook_lines(settings: Settings) -> Iterator[str]:
    """One kind of hooks is active, the first of these."""
    if settings.hooks_dir is not None:
        yield f"Using '{settings.hooks_dir}' for hooks"
    elif settings.hooks_http:
        yield f"Using '{settings.hooks_http}' as the endpoint for hooks"
    elif settings.hooks_grpc:
        yield f"Using '{settings.hooks_grpc}' as the endpoint for gRPC hooks"
    elif settings.hooks_python:
        yield f"Using '{settings.hooks_python}' as Python code for hooks"
    else:
        return
    enabled = settings.hooks_enabled_events.split(",") if settings.hooks_enabled_events else [str(kind) for kind in HookType]
    yield f"Enabled hook events: {', '.join(enabled)}"


def _extensions(settings: Settings) -> str:
    policy = Policy(
        expiry=settings.expiry or None,
        termination=not settings.disable_termination,
        concatenation=not settings.disable_concatenation,
    )
    return ",".join(supported_extensions(policy))


def announce_url(settings: Settings, listeners: Listeners) -> None:
    """The line that scripts wait for, and read the port from: it comes when connections are accepted, and always."""
    if listeners.port is None:
        return
    scheme = "https" if settings.tls else "http"
    host = settings.host or "::"
    host = f"[{host}]" if ":" in host else host
    _print(f"You can now upload files to: {scheme}://{host}:{listeners.port}{settings.base_path}")


def _print(text: str) -> None:
    print(f"{timestamp(time.time())} {text}", flush=True)
