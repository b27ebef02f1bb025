"""Extensions, opened as the settings want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tusd_py.fs.directories import prepare_root
from tusd_py.fs.paths import STATE_DIR
from tusd_py.plugins import configured_extensions
from tusd_py.ports.extension import Extension, Opened, Place
from tusd_py.protocol.hooks import HookType
from tusd_py.settings import Settings, SettingsError

__all__ = ["open_extensions"]


def open_extensions(settings: Settings, told: frozenset[HookType]) -> Sequence[Opened]:
    """Those that are turned on; `told` is what hooks are told of. Raises `SettingsError`, `StorageFailure`."""
    root = prepare_root(str(settings.upload_dir), settings.dir_perms)
    place = Place(
        upload_dir=root,
        state_dir=f"{root}/{STATE_DIR}",
        dir_mode=settings.dir_perms,
        file_mode=settings.file_perms,
        durable=settings.durability != "none",
        told=told,
        keeps_events=settings.events != "fire-and-forget",
    )
    found = []
    for extension, values in configured_extensions(settings):
        opened = _open(extension, values, place)
        if opened is None:
            continue
        if opened.consumers and settings.events == "fire-and-forget":
            raise SettingsError(f"-{extension.name} needs events that survive: -events=fire-and-forget can't be used with it")
        found.append(opened)
    return found


def _open(extension: Extension, values: Mapping[str, Any], place: Place) -> Opened | None:
    try:
        return extension.open(values, place)
    except ValueError as error:
        raise SettingsError(f"the extension {extension.name}: {error}") from error
