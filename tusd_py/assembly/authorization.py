"""Puts the authorizer together that the settings ask for. What is not asked for is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tusd_py.authorization.capabilities import UrlCapabilities
from tusd_py.authorization.combined import CombinedAuthorizer, Recognizer
from tusd_py.authorization.grants import read_actions
from tusd_py.authorization.keys import Keys, parse_keys
from tusd_py.authorization.watched import UnusableFile, WatchedFile
from tusd_py.ports.authorization import Authorizer
from tusd_py.settings import Settings, SettingsError

__all__ = ["build_authorizer"]


def build_authorizer(settings: Settings) -> Authorizer | None:
    """What decides on requests; None where the settings ask for nothing, so that everybody may do everything. Reads files.

    Raises `SettingsError` for files and modules that can't be used, `ReadOnlyStorage` where used intents can't be noted.
    """
    try:
        recognizers = list(_recognizers(settings))
        capabilities = _capabilities(settings)
    except UnusableFile as error:
        raise SettingsError(str(error)) from None
    return CombinedAuthorizer(recognizers, capabilities) if recognizers else None


def _recognizers(settings: Settings) -> Iterator[Recognizer]:
    if settings.auth_intents:
        yield _intents(settings, settings.auth_intents)
    if settings.auth_tokens:
        from tusd_py.authorization.tokens import StaticTokens

        yield StaticTokens(settings.auth_tokens)
    if settings.auth_jwt_keys or settings.auth_jwt_secret:
        yield _json_web_tokens(settings)
    if settings.auth_python:
        yield _python(settings.auth_python)


def _intents(settings: Settings, path: Path) -> Recognizer:
    from tusd_py.authorization.redeeming import UploadIntents
    from tusd_py.authorization.used import UsedIntents

    used = UsedIntents(settings.upload_dir, durable=settings.durability != "none", dir_mode=settings.dir_perms)
    return UploadIntents(_keys(path), used)


def _json_web_tokens(settings: Settings) -> Recognizer:
    try:
        import cryptography  # noqa: F401  (PyJWT does without, and can't verify most signatures then)

        from tusd_py.authorization.jwks import parse_jwks, parse_secrets
        from tusd_py.authorization.jwt import JsonWebTokens
    except ModuleNotFoundError as error:
        raise SettingsError(f"JWTs need the package {error.name}: install tusd-py with the extra jwt, tusd-py[jwt]") from None
    files = []
    if settings.auth_jwt_keys:
        files.append(WatchedFile(settings.auth_jwt_keys, parse_jwks, secret=False))
    if settings.auth_jwt_secret:
        files.append(WatchedFile(settings.auth_jwt_secret, parse_secrets))
    return JsonWebTokens(
        files,
        issuer=settings.auth_jwt_issuer or None,
        audience=settings.auth_jwt_audience or None,
        owner_claim=settings.auth_jwt_owner_claim,
    )


def _python(name: str) -> Recognizer:
    from tusd_py.authorization.python import PythonAuthorizer, load_function

    try:
        return PythonAuthorizer(load_function(name))
    except ValueError as error:
        raise SettingsError(f"-auth-python: {error}") from error


def _capabilities(settings: Settings) -> UrlCapabilities | None:
    path = settings.auth_url_secret or settings.auth_intents
    if not settings.url_capabilities or path is None:
        return None
    try:
        actions = read_actions(word.strip() for word in settings.url_capability_actions.split(",") if word.strip())
        return UrlCapabilities(_keys(path), actions=actions, lifetime=settings.url_capability_lifetime)
    except UnusableFile:
        raise
    except ValueError as error:
        raise SettingsError(f"-url-capability-actions: {error}") from None


def _keys(path: Path) -> WatchedFile[Keys]:
    return WatchedFile(path, parse_keys)
