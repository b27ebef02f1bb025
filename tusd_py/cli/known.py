"""What can be set on a command line, in the environment or in a file: the server's settings and the options of extensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tusd_py.cli.uncovered import UNCOVERED
from tusd_py.plugins import clash, extension_settings
from tusd_py.settings import Setting, described

__all__ = ["COMMAND_FLAGS", "Known", "did_you_mean", "known_settings"]

COMMAND_FLAGS: Mapping[str, str | None] = {"config": None, "version": "true"}
"""Flags that are about the command itself, and what they stand for alone. They are no settings: a running server does not have
them."""

HELP = ("h", "help")

_OF_THE_SERVER = described()


@dataclass(frozen=True, slots=True)
class Known:
    """Settings in the order in which -help shows them."""

    settings: tuple[Setting, ...]
    by_flag: Mapping[str, Setting] = field(init=False)
    by_variable: Mapping[str, Setting] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_flag", {setting.flag: setting for setting in self.settings})
        object.__setattr__(self, "by_variable", {setting.variable: setting for setting in self.settings})


def known_settings() -> Known:
    """Raises `SettingsError` if an extension can't be used, or has an option of a name that is taken."""
    options = extension_settings()
    for option in options:
        if option.flag in UNCOVERED or option.flag in COMMAND_FLAGS or option.flag in HELP:
            raise clash(str(option.extension), f"the server has a flag -{option.flag} too")
    return Known(_OF_THE_SERVER + options)


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about an unknown name; empty if nothing known resembles it."""
    from difflib import get_close_matches

    return f": did you mean {prefix}{found[0]}?" if (found := get_close_matches(name, list(known), n=1)) else ""
