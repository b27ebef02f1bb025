"""What -help and -version print."""

from __future__ import annotations

from collections.abc import Iterator

from tusd_py.cli.known import known_settings
from tusd_py.cli.subcommands import subcommands
from tusd_py.cli.values import show
from tusd_py.settings import Setting

__all__ = ["usage", "version"]

_COMMAND = """\
Command options:
  -config file
      TOML file with settings, named as the flags are; also TUSD_PY_CONFIG.
  -help
      Print this text.
  -version
      Print the version."""

_TYPES = {"bool": "", "choice": " string", "octal": " octal", "regexp": " regexp", "text": " string", "path": " path"}


def usage() -> str:
    """What can be set and done, with the installed extensions. Raises `SettingsError` if one of them can't be used."""
    groups: dict[str, list[str]] = {}
    for setting in known_settings().settings:
        groups.setdefault(setting.group, []).extend(_lines(setting))
    blocks = ["\n".join([f"{group}:", *lines]) for group, lines in groups.items()]
    return "\n\n".join(["Usage of tusd-py:", *blocks, _COMMAND, _subcommands()]) + "\n"


def _subcommands() -> str:
    lines = (f"  {name}\n      {one.help} See tusd-py {name} --help." for name, one in subcommands().items())
    return "\n".join(["Subcommands, instead of flags:", *lines])


def _lines(setting: Setting) -> Iterator[str]:
    alone = f" Alone it means {setting.bare}." if setting.bare and setting.kind != "bool" else ""
    yield f"  -{setting.flag}" + ("[=string]" if alone else _TYPES.get(setting.kind, f" {setting.kind}"))
    default = show(setting, setting.default)
    choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
    yield f"      {setting.help}{choices}{alone}" + (f" (default {default})" if default else "")


def version() -> str:
    """The lines that tusd prints. Wheels know neither their commit nor their date, which tusd then calls `n/a` too."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        number = installed("tusd-py")
    except PackageNotFoundError:
        number = "n/a"
    return f"Version: {number}\nCommit: n/a\nDate: n/a\n"
