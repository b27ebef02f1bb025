"""Extensions: which are installed, what can be set about each, and the values that are in force.

They are found by the entry point group `tusd_py.extensions`. Knows neither where values come from (`tusd_py.cli`) nor what an
extension is then used for (`tusd_py.assembly`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tusd_py.ports.extension import Command, Extension, Option
from tusd_py.protocol.upload import MAX_LENGTH
from tusd_py.settings import Setting, Settings, SettingsError, described

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "GROUP",
    "clash",
    "configured_extensions",
    "extension_settings",
    "extension_values",
    "extensions",
    "forget_extensions",
    "table_key",
]

GROUP = "tusd_py.extensions"

_NAME = re.compile(r"[a-z0-9]+")
_OPTION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class _Found:
    """An extension, the name of its entry point, and the distribution that it comes from."""

    extension: Extension
    entry: str
    distribution: str


@cache
def _found() -> Mapping[str, _Found]:
    from importlib.metadata import entry_points  # it costs more than everything else here: only who asks should pay

    found: dict[str, _Found] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        one = _loaded(entry)
        for sentence in _objections(one.extension):
            raise _unusable(one.entry, one.distribution, sentence)
        for other in found.values():
            _check_pair(other, one)
        found[one.extension.name] = one
    return found


def extensions() -> Mapping[str, Extension]:
    """The installed extensions by name; looked for once. Raises `SettingsError` that names the distribution if one of them
    can't be used."""
    return {name: found.extension for name, found in _found().items()}


def forget_extensions() -> None:
    """Look for them anew the next time: what is installed has changed."""
    _found.cache_clear()


def clash(extension: str, sentence: str) -> SettingsError:
    """To be raised by whoever knows of a name that an extension must not take."""
    found = _found()[extension]
    return _unusable(found.entry, found.distribution, sentence)


def _unusable(entry: str, distribution: str, problem: str) -> SettingsError:
    return SettingsError(f"the extension {entry!r} of {distribution} cannot be used: {problem}")


def extension_settings() -> tuple[Setting, ...]:
    """The options of all installed extensions, described as the server's settings are. Raises `SettingsError`."""
    return tuple(_describe(extension.name, option) for extension in extensions().values() for option in extension.options)


def table_key(extension: str, option: str) -> str:
    """How the extension's table in the configuration file calls an option: `level` for `cas-level`, `mode` for `cas`."""
    return "mode" if option == extension else option.removeprefix(f"{extension}-")


def configured_extensions(settings: Settings) -> list[tuple[Extension, Mapping[str, Any]]]:
    """All installed extensions with the values of their options. Raises `SettingsError`, also for what is set about others."""
    installed = extensions()
    for name in settings.extensions:
        if name not in installed:
            known = f"expected one of {', '.join(installed)}" if installed else "none is installed"
            raise SettingsError(f"there is no extension {name!r}: {known}")
    return [(extension, extension_values(settings, extension)) for extension in installed.values()]


def extension_values(settings: Settings, extension: Extension) -> Mapping[str, Any]:
    """Every option of the extension with its value, the default where none is set. Paths are absolute, durations floats.

    Raises `SettingsError` for a name or a value that can't be.
    """
    given = settings.extensions.get(extension.name, {})
    options = {option.name: option for option in extension.options}
    for name in given:
        if name not in options:
            known = ", ".join(options) or "none, since it has no options"
            raise SettingsError(f"the extension {extension.name} has no option {name!r}: expected {known}")
    return {name: _checked(option, given.get(name, option.default)) for name, option in options.items()}


def _checked(option: Option, value: object) -> Any:
    if option.kind == "choice":
        expected, good = f"one of {', '.join(option.choices)}", value in option.choices
    else:
        expected, is_good = _KINDS[option.kind]
        good = is_good(value)
    if not good:
        raise SettingsError(f"-{option.name} is {value!r}: expected {expected}")
    if isinstance(value, Path):
        return value.absolute()  # a later change of the working directory must not move it
    return float(value) if option.kind == "duration" and isinstance(value, int) else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "duration": ("a number of seconds that is not negative", _is_duration),
    "int": ("a whole number below 2^63", lambda value: _is_whole(value) and -MAX_LENGTH <= value <= MAX_LENGTH),
    "path": ("a pathlib.Path or None", lambda value: value is None or isinstance(value, Path)),
    "size": ("a number of bytes that is not negative", lambda value: _is_whole(value) and 0 <= value <= MAX_LENGTH),
    "text": ("a string", lambda value: isinstance(value, str)),
}


def _describe(extension: str, option: Option) -> Setting:
    return Setting(
        name=option.name.replace("-", "_"),
        kind=option.kind,
        group=f"Options of the extension {extension}",
        help=option.help,
        default=option.default,
        choices=option.choices,
        bare="true" if option.kind == "bool" else option.bare,
        extension=extension,
    )


def _loaded(entry: EntryPoint) -> _Found:
    """What the entry point names. Whatever an extension raises when it is imported is its failure, and told as that."""
    distribution = entry.dist.name if entry.dist is not None else "an unknown distribution"
    try:
        extension: Extension = entry.load()
        if not (
            all(isinstance(option, Option) for option in extension.options)
            and all(isinstance(command, Command) for command in extension.commands.values())
            and _NAME.fullmatch(extension.name)
            and callable(extension.open)
        ):
            raise TypeError(f"{entry.value} is no extension: expected what tusd_py.ports.extension.Extension says")
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())  # one line
        raise _unusable(entry.name, distribution, problem) from error
    return _Found(extension, entry.name, distribution)


def _check_pair(one: _Found, other: _Found) -> None:
    if one.extension.name == other.extension.name:
        what = f"an extension {one.extension.name!r}"
    elif common := one.extension.commands.keys() & other.extension.commands.keys():
        what = f"a subcommand {min(common)!r}"
    else:
        return
    both = f"{one.distribution} and {other.distribution}"
    raise SettingsError(f"{both} both have {what}: expected one of them to be uninstalled")


def _objections(extension: Extension) -> Iterator[str]:
    """What is wrong with the names and options that it declares."""
    flags = {setting.flag for setting in described()}
    if extension.name in flags:
        yield f"the server has a setting of its name, -{extension.name}"
    keys: set[str] = set()
    for option in extension.options:
        key = table_key(extension.name, option.name)
        if not _OPTION.fullmatch(option.name) or option.name.partition("-")[0] != extension.name:
            yield f"its option {option.name!r} is not named {extension.name} or {extension.name}-..."
        if option.name in flags:
            yield f"the server has a setting -{option.name} too"
        if key in keys:
            yield f"its option -{option.name} is there twice, or two are called {key!r} in the configuration file"
        keys.add(key)
        yield from _objections_to_values(option)


def _objections_to_values(option: Option) -> Iterator[str]:
    if option.kind == "choice":
        if not option.choices:
            yield f"its option -{option.name} has no choices"
        if option.bare not in (None, *option.choices):
            yield f"its option -{option.name} would mean {option.bare!r} alone: expected one of {', '.join(option.choices)}"
    elif option.kind not in _KINDS:
        yield f"its option -{option.name} is of kind {option.kind!r}, which there is not"
    elif option.choices or option.bare is not None:
        yield f"its option -{option.name} is of kind {option.kind!r}, which has neither choices nor a meaning alone"
    try:
        _checked(option, option.default)
    except SettingsError as error:
        yield f"the default of its option {error}"
