"""Puts the way of asking hooks together that the settings ask for. What is not asked for is not imported."""

from __future__ import annotations

import os
from pathlib import Path

from tusd_py.hook_settings import enabled_hooks
from tusd_py.hooks.observed import ObservedHooks
from tusd_py.ports.hooks import Hooks
from tusd_py.ports.observer import Observer
from tusd_py.protocol.hooks import HookType
from tusd_py.settings import Settings, SettingsError

__all__ = ["build_hooks", "describe_hooks"]


def build_hooks(settings: Settings, observer: Observer) -> Hooks | None:
    """The hooks, telling `observer` of each call; None where the settings ask for none. Reads files; opens no connection.

    Of several ways only the first of tusd's order is asked: directory, web service, gRPC, Python. To be built after a fork.
    Raises `SettingsError` for files, modules and objects that can't be used.
    """
    types = enabled_hooks(settings.hooks_enabled_events)
    hooks = _hooks(settings, types)
    return None if hooks is None else ObservedHooks(hooks, observer)


def describe_hooks(settings: Settings) -> list[str]:
    """What tusd prints about hooks when it starts; nothing where there are none."""
    if settings.hooks_dir:
        first = f"Using '{settings.hooks_dir}' for hooks"
    elif settings.hooks_http:
        first = f"Using '{_without_password(settings.hooks_http)}' as the endpoint for hooks"
    elif settings.hooks_grpc:
        first = f"Using '{settings.hooks_grpc}' as the endpoint for gRPC hooks"
    elif settings.hooks_python:
        first = f"Using '{settings.hooks_python}' for hooks"
    else:
        return []
    enabled = settings.hooks_enabled_events.split(",") if settings.hooks_enabled_events else HookType
    return [first, f"Enabled hook events: {', '.join(enabled)}"]


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _hooks(settings: Settings, types: frozenset[HookType]) -> Hooks | None:
    if settings.hooks_dir:
        return _command(settings, settings.hooks_dir, types)
    if settings.hooks_http:
        return _web(settings, types)
    if settings.hooks_grpc:
        return _grpc(settings, types)
    if settings.hooks_python:
        return _python(settings, types)
    return None


def _command(settings: Settings, directory: Path, types: frozenset[HookType]) -> Hooks:
    from tusd_py.hooks.command import CommandHooks

    if not directory.is_dir():
        raise SettingsError(f"-hooks-dir is {directory}, which is no directory: hooks that decide on uploads would go unasked")
    if not os.access(directory, os.X_OK):
        raise SettingsError(f"-hooks-dir is {directory}, which this user may not enter: expected a directory of programs")
    return CommandHooks(directory, types, timeout=settings.hooks_timeout)


def _web(settings: Settings, types: frozenset[HookType]) -> Hooks:
    from tusd_py.hooks.webhook import WebHooks

    return WebHooks(
        settings.hooks_http,
        types,
        attempts=settings.hooks_http_retry,
        backoff=settings.hooks_http_backoff,
        timeout=settings.hooks_http_timeout,
        size_limit=settings.hooks_http_size_limit,
        forward_headers=settings.hooks_http_forward_headers.split(","),
        skip_verify=settings.hooks_http_skip_verify,
        secret=_secret(settings.hooks_secret_file) if settings.hooks_secret_file else None,
    )


def _secret(path: Path) -> bytes:
    from tusd_py.hooks.signature import parse_secret

    try:
        return parse_secret(_content("-hooks-secret-file", path))
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"-hooks-secret-file is {path}: {error}") from None


def _grpc(settings: Settings, types: frozenset[HookType]) -> Hooks:
    from tusd_py.hooks.grpc import GrpcHooks

    roots: bytes | None = None
    pair: tuple[bytes, bytes] | None = None
    if settings.hooks_grpc_secure and settings.hooks_grpc_server_tls_certificate:
        roots = _content("-hooks-grpc-server-tls-certificate", settings.hooks_grpc_server_tls_certificate)
        certificate, key = settings.hooks_grpc_client_tls_certificate, settings.hooks_grpc_client_tls_key
        if certificate and key:
            pair = (_content("-hooks-grpc-client-tls-certificate", certificate), _content("-hooks-grpc-client-tls-key", key))
    return GrpcHooks(
        settings.hooks_grpc,
        types,
        attempts=settings.hooks_grpc_retry,
        backoff=settings.hooks_grpc_backoff,
        timeout=settings.hooks_timeout,
        root_certificates=roots,
        client_pair=pair,
        forward_headers=settings.hooks_grpc_forward_headers.split(","),
    )


def _python(settings: Settings, types: frozenset[HookType]) -> Hooks:
    from tusd_py.hooks.python import PythonHooks, load_object

    try:
        return PythonHooks(load_object(settings.hooks_python), types, timeout=settings.hooks_timeout)
    except ValueError as error:
        raise SettingsError(f"-hooks-python: {error}") from error


def _content(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{flag} is {path}, which can't be read: {error.strerror}") from None
