"""Puts limits together: an account where one is asked for, and rules for types. What is not asked for costs nothing."""

from __future__ import annotations

from tusd_py.limits.recovery import Records
from tusd_py.limits.rules import LimitSettings
from tusd_py.ports.limits import Limiter
from tusd_py.protocol.types import TypeRules, parse_extensions, parse_types
from tusd_py.settings import Settings, SettingsError
from tusd_py.uploads.sniffing import Sniffer, TypeGate

__all__ = ["build_limiter", "build_types", "limits_of"]


def limits_of(settings: Settings) -> LimitSettings:
    """The limits that are set."""
    space = settings.reserve_space or settings.min_free_space
    return LimitSettings(
        quota=settings.quota or None,
        max_uploads=settings.max_uploads or None,
        max_uploads_per_owner=settings.max_uploads_per_owner or None,
        create_rate=settings.create_rate or None,
        min_free=settings.min_free_space if space else None,
    )


def build_limiter(settings: Settings, records: Records) -> Limiter | None:
    """An account of the uploads whose records these are; None where nothing is limited. To be called behind a fork.

    Raises `ReadOnlyStorage` where the upload directory can't be used.
    """
    limits = limits_of(settings)
    if not limits.any:
        return None
    from tusd_py.limits.sqlite import SqliteLimiter  # brings SQLite and sqlite-utils

    return SqliteLimiter(str(settings.upload_dir), limits, records, dir_mode=settings.dir_perms)


def build_types(settings: Settings) -> TypeGate | None:
    """Which files may be uploaded; None where all may.

    Raises `SettingsError` where types are limited and nothing is installed that knows them by their bytes: declarations alone
    would keep nobody out who lies.
    """
    rules = TypeRules(types=parse_types(settings.allowed_types), extensions=parse_extensions(settings.allowed_extensions))
    if not rules.types and not rules.extensions:
        return None
    return TypeGate(rules, _sniffer() if rules.types else None)


def _sniffer() -> Sniffer:
    from tusd_py.limits.sniffers import NoSniffer, find_sniffer

    try:
        return find_sniffer()
    except NoSniffer as reason:
        raise SettingsError(f"-allowed-types needs something that knows types by bytes: {reason}") from None
