"""Where settings come from: flags, then the environment, then a file, then the defaults.

Every error is a `SettingsError` (or Go's `FlagError`) of one sentence that says where the value stood, what was wrong with it
and what is expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tusd_py.cli.goflags import FlagError, parse_flags, quoted
from tusd_py.cli.uncovered import UNCOVERED, check_uncovered, is_boolean
from tusd_py.cli.values import parse, parse_bool
from tusd_py.settings import Setting, Settings, SettingsError, described

__all__ = ["CONFIG_VARIABLE", "VersionRequested", "load"]

PREFIX = "TUSD_PY_"
CONFIG_VARIABLE = "TUSD_PY_CONFIG"

# Told to the project's own tests, which start servers that inherit them.
_NOT_OURS = ("TUSD_PY_STRICT", "TUSD_PY_TEST_")

_BY_FLAG = {setting.flag: setting for setting in described()}
_BY_VARIABLE = {setting.variable: setting for setting in described()}

# Flags that are about the command itself. They are no settings: a running server does not have them.
_COMMAND_FLAGS = {"config": False, "version": True}


class VersionRequested(Exception):
    """-version was given."""


def load(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings in force. Raises `FlagError`, `HelpRequested`, `VersionRequested` or `SettingsError`."""
    given = _flag_texts(arguments)
    if parse_bool(given.pop("version", "false")):
        raise VersionRequested
    path = given.pop("config", environ.get(CONFIG_VARIABLE, ""))
    check_uncovered({name: text for name, text in given.items() if name in UNCOVERED})
    flags = {_BY_FLAG[name]: parse(_BY_FLAG[name], text) for name, text in given.items() if name in _BY_FLAG}
    values = {**(_from_file(path) if path else {}), **_from_environment(environ), **flags}
    return Settings(**{setting.name: value for setting, value in values.items()})


def _flag_texts(arguments: Sequence[str]) -> dict[str, str]:
    """The last text given for each flag. Every one is checked, as Go does, in the order in which they stand."""
    booleans = {name: setting.kind == "bool" for name, setting in _BY_FLAG.items()}
    booleans |= _COMMAND_FLAGS | {name: is_boolean(name) for name in UNCOVERED}
    given: dict[str, str] = {}
    for name, text in parse_flags(arguments, booleans):
        try:
            _check_text(name, text, boolean=booleans[name])
        except ValueError as error:
            form = "invalid boolean value {} for -{}: {}" if booleans[name] else "invalid value {} for flag -{}: {}"
            raise FlagError(form.format(quoted(text), name, error)) from None
        given[name] = text
    return given


def _check_text(name: str, text: str, *, boolean: bool) -> None:
    if name in _BY_FLAG:
        parse(_BY_FLAG[name], text)
    elif boolean:
        parse_bool(text)


def _from_environment(environ: Mapping[str, str]) -> dict[Setting, Any]:
    values = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or name.startswith(_NOT_OURS):
            continue
        if name not in _BY_VARIABLE:
            known = [variable.removeprefix(PREFIX) for variable in (*_BY_VARIABLE, CONFIG_VARIABLE)]
            raise SettingsError(f"unknown environment variable {name}{_nearest(name.removeprefix(PREFIX), known, PREFIX)}")
        try:
            values[_BY_VARIABLE[name]] = parse(_BY_VARIABLE[name], environ[name])
        except ValueError as error:
            raise SettingsError(f"invalid value {quoted(environ[name])} for {name}: {error}") from None
    return values


def _from_file(path: str) -> dict[Setting, Any]:
    import tomllib  # only needed by those who have such a file: start-up time counts

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration file {path} is not valid TOML: {error}") from None
    try:
        check_uncovered({name: _as_text(value) for name, value in table.items() if name in UNCOVERED})
    except ValueError as error:
        raise SettingsError(f"{error} (in {path})") from None
    return {_known(name, path): _from_toml(name, value, path) for name, value in table.items() if name not in UNCOVERED}


def _known(name: str, path: str) -> Setting:
    if name not in _BY_FLAG:
        raise SettingsError(f"unknown key {quoted(name)} in {path}{_nearest(name, _BY_FLAG)}")
    return _BY_FLAG[name]


def _from_toml(name: str, value: object, path: str) -> Any:
    """TOML's own booleans and integers where the setting is one; else the text that the flag takes."""
    setting = _BY_FLAG[name]
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
        raise SettingsError(f"invalid value {_as_text(value)} for {name} in {path}: {error}") from None


_EXPECTED_TYPE = {
    "bool": "expected true or false",
    "duration": 'expected a string with a unit, such as "10s"',
    "int": "expected a whole number",
    "octal": 'expected a string with octal digits, such as "775"',  # a TOML 775 would be decimal
    "size": 'expected a number of bytes, or a string such as "500MB"',
}


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    from difflib import get_close_matches

    return f": did you mean {prefix}{found[0]}?" if (found := get_close_matches(name, list(known), n=1)) else ""
