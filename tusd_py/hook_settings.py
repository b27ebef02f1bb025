"""What can be wrong with the settings of hooks, and which hooks they enable. Reads no file; `tusd_py.settings` asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tusd_py.protocol.hooks import HookType

if TYPE_CHECKING:
    from tusd_py.settings import Settings

__all__ = ["enabled_hooks", "objections_to_hooks"]

_URL = re.compile(r"https?://[^/?#\s]+[^\s]*", re.IGNORECASE)


def enabled_hooks(names: str) -> frozenset[HookType]:
    """The hooks of a `-hooks-enabled-events` list, all where it is empty. Raises ValueError at a name that is none; as in tusd,
    a name with a blank around it is none."""
    if not names:
        return frozenset(HookType)
    known = {kind.value for kind in HookType}
    for name in names.split(","):
        if name not in known:
            raise ValueError(
                f"Unknown hook event type in -hooks-enabled-events flag: {name!r}: expected names among {', '.join(HookType)}, "
                "separated by commas without blanks"
            )
    return frozenset(map(HookType, names.split(",")))


def objections_to_hooks(settings: Settings) -> Iterator[str]:
    """A sentence for each thing that makes no sense."""
    try:
        enabled_hooks(settings.hooks_enabled_events)
    except ValueError as error:
        yield str(error)
    if settings.hooks_plugin:
        yield (
            "-hooks-plugin is not supported: its protocol is of Go programs for Go programs; "
            "use -hooks-python, -hooks-grpc, -hooks-http or -hooks-dir"
        )
    if settings.hooks_timeout == 0:
        yield "-hooks-timeout is 0, which leaves hooks no time at all: expected a duration such as 5m"
    yield from _objections_to_web_hooks(settings)
    yield from _objections_to_grpc(settings)


def _objections_to_web_hooks(settings: Settings) -> Iterator[str]:
    if settings.hooks_http and _URL.fullmatch(settings.hooks_http) is None:
        yield f"-hooks-http is {settings.hooks_http!r}: expected a URL such as http://localhost:8000/hooks"
    if settings.hooks_http_timeout == 0:
        yield "-hooks-http-timeout is 0, which leaves hooks no time at all: expected a duration such as 15s"
    if settings.hooks_http_size_limit < 1:
        yield f"-hooks-http-size-limit is {settings.hooks_http_size_limit}: expected a number of bytes from 1"
    if settings.hooks_secret_file and not settings.hooks_http:
        yield "-hooks-secret-file signs what is sent to -hooks-http, which is not given"


def _objections_to_grpc(settings: Settings) -> Iterator[str]:
    certificate, key = settings.hooks_grpc_client_tls_certificate, settings.hooks_grpc_client_tls_key
    if settings.hooks_grpc and not (_is_installed("grpc") and _is_installed("google.protobuf")):
        yield "-hooks-grpc needs packages that are not installed: install tusd-py[grpc]"
    if settings.hooks_grpc_secure and not settings.hooks_grpc_server_tls_certificate:
        yield "-hooks-grpc-secure is given without -hooks-grpc-server-tls-certificate: its file is needed"
    if (certificate is None) != (key is None):
        yield "-hooks-grpc-client-tls-certificate and -hooks-grpc-client-tls-key belong together: expected both or neither"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
