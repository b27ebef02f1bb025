"""Settings from a TOML file: keys are the names of flags, and what an extension's options are called in its own table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tusd_py.cli.goflags import quoted
from tusd_py.cli.known import Known, did_you_mean
from tusd_py.cli.uncovered import UNCOVERED, check_uncovered
from tusd_py.cli.values import parse
from tusd_py.plugins import extensions, table_key
from tusd_py.settings import Setting, SettingsError

__all__ = ["read_config_file"]


def read_config_file(path: str, known: Known) -> dict[Setting, Any]:
    """The settings that the file gives. Raises `SettingsError`."""
    table = _table(path)
    try:
        check_uncovered({name: _as_text(value) for name, value in table.items() if name in UNCOVERED})
    except ValueError as error:
        raise SettingsError(f"{error} (in {path})") from None
    values: dict[Setting, Any] = {}
    said: dict[Setting, str] = {}
    for setting, where, value in _entries(table, known, path):
        if setting in said:
            raise SettingsError(f"{said[setting]} and {where} in {path} are the same setting: expected one of them")
        values[setting], said[setting] = _value(setting, where, value, path), where
    return values


def _table(path: str) -> dict[str, Any]:
    import tomllib  # only needed by those who have such a file: start-up time counts

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration file {path} is not valid TOML: {error}") from None


def _entries(table: Mapping[str, Any], known: Known, path: str) -> Iterator[tuple[Setting, str, Any]]:
    """Each setting with what the file calls it and the value there. The first one wrong ends it."""
    for name, value in table.items():
        if name in UNCOVERED:
            continue
        if isinstance(value, dict) and name in extensions():
            by_key = {table_key(name, option.flag): option for option in known.settings if option.extension == name}
            for key, inner in value.items():
                yield _named(key, by_key, by_key, f"[{name}] of {path}"), f"{key} in [{name}]", inner
        else:
            yield _named(name, known.by_flag, (*known.by_flag, *extensions()), path), name, value


def _named(name: str, settings: Mapping[str, Setting], candidates: Iterable[str], where: str) -> Setting:
    if name not in settings:
        raise SettingsError(f"unknown key {quoted(name)} in {where}{did_you_mean(name, candidates)}")
    return settings[name]


def _value(setting: Setting, where: str, value: object, path: str) -> Any:
    """TOML's own booleans and integers where the setting is one; else the text that the flag takes."""
    native = {"bool": bool, "int": int, "size": int}.get(setting.kind)
    if native is not None and type(value) is native:
        return value
    try:
        if isinstance(value, str):
            return parse(setting, value)
        if setting.kind == "duration" and value == 0:
            return 0.0
        raise ValueError(_EXPECTED_TYPE.get(setting.kind, "expected a string"))
    except ValueError as error:
        raise SettingsError(f"invalid value {_as_text(value)} for {where} in {path}: {error}") from None


_EXPECTED_TYPE = {
    "bool": "expected true or false",
    "duration": 'expected a string with a unit, such as "10s"',
    "int": "expected a whole number",
    "octal": 'expected a string with octal digits, such as "775"',  # a TOML 775 would be decimal
    "size": 'expected a number of bytes, or a string such as "500MB"',
}


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
