"""Where settings come from: flags, then the environment, then a file, then the defaults.

Every error is a `SettingsError` (or Go's `FlagError`) of one sentence that says where the value stood, what was wrong with it
and what is expected.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tusd_py.cli.config_file import read_config_file
from tusd_py.cli.goflags import FlagError, parse_flags, quoted
from tusd_py.cli.known import COMMAND_FLAGS, Known, did_you_mean, known_settings
from tusd_py.cli.uncovered import UNCOVERED, check_uncovered, is_boolean
from tusd_py.cli.values import parse, parse_bool
from tusd_py.plugins import configured_extensions
from tusd_py.settings import Setting, Settings, SettingsError

__all__ = ["CONFIG_VARIABLE", "VersionRequested", "find_upload_dir", "load"]

PREFIX = "TUSD_PY_"
CONFIG_VARIABLE = "TUSD_PY_CONFIG"

# Told to the project's own tests, which start servers that inherit them.
_NOT_OURS = ("TUSD_PY_STRICT", "TUSD_PY_TEST_")


class VersionRequested(Exception):
    """-version was given."""


def load(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings in force. Raises `FlagError`, `HelpRequested`, `VersionRequested` or `SettingsError`."""
    known = known_settings()
    given = _flag_texts(arguments, known)
    if parse_bool(given.pop("version", "false")):
        raise VersionRequested
    path = given.pop("config", environ.get(CONFIG_VARIABLE, ""))
    check_uncovered({name: text for name, text in given.items() if name in UNCOVERED})
    flags = {known.by_flag[name]: parse(known.by_flag[name], text) for name, text in given.items() if name in known.by_flag}
    values = {**(read_config_file(path, known) if path else {}), **_from_environment(environ, known), **flags}
    return _settings(values)


def find_upload_dir(upload_dir: str | None, config: str | None) -> Path:
    """The upload directory of the server that has these flags, this process's environment, and the file that they name.

    Raises `FlagError` or `SettingsError`, which are ValueErrors, also where another of its settings can't be.
    """
    given = {"upload-dir": upload_dir, "config": config}
    return load([f"-{name}={text}" for name, text in given.items() if text is not None], os.environ).upload_dir


def _settings(values: Mapping[Setting, Any]) -> Settings:
    extensions: dict[str, dict[str, Any]] = {}
    for setting, value in values.items():
        if setting.extension is not None:
            extensions.setdefault(setting.extension, {})[setting.flag] = value
    own = {setting.name: value for setting, value in values.items() if setting.extension is None}
    settings = Settings(**own, extensions=extensions)
    configured_extensions(settings)  # raises where a value can't be: what fails should fail before anything is opened
    return settings


def _flag_texts(arguments: Sequence[str], known: Known) -> dict[str, str]:
    """The last text given for each flag. Every one is checked, as Go does, in the order in which they stand."""
    alone = {name: setting.bare for name, setting in known.by_flag.items()}
    alone |= {**COMMAND_FLAGS, **{name: "true" if is_boolean(name) else None for name in UNCOVERED}}
    given: dict[str, str] = {}
    for name, text in parse_flags(arguments, alone):
        boolean = alone[name] == "true"
        try:
            _check_text(known.by_flag.get(name), text, boolean=boolean)
        except ValueError as error:
            form = "invalid boolean value {} for -{}: {}" if boolean else "invalid value {} for flag -{}: {}"
            raise FlagError(form.format(quoted(text), name, error)) from None
        given[name] = text
    return given


def _check_text(setting: Setting | None, text: str, *, boolean: bool) -> None:
    if setting is not None:
        parse(setting, text)
    elif boolean:
        parse_bool(text)


def _from_environment(environ: Mapping[str, str], known: Known) -> dict[Setting, Any]:
    values = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or name.startswith(_NOT_OURS):
            continue
        if name not in known.by_variable:
            names = [variable.removeprefix(PREFIX) for variable in (*known.by_variable, CONFIG_VARIABLE)]
            raise SettingsError(f"unknown environment variable {name}{did_you_mean(name.removeprefix(PREFIX), names, PREFIX)}")
        try:
            values[known.by_variable[name]] = parse(known.by_variable[name], environ[name])
        except ValueError as error:
            raise SettingsError(f"invalid value {quoted(environ[name])} for {name}: {error}") from None
    return values
