"""What -help and -version print."""

from __future__ import annotations

from collections.abc import Iterator

from tusd_py.cli.subcommands import SUBCOMMANDS
from tusd_py.cli.values import show
from tusd_py.settings import Setting, described

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
    groups: dict[str, list[str]] = {}
    for setting in described():
        groups.setdefault(setting.group, []).extend(_lines(setting))
    blocks = ["\n".join([f"{group}:", *lines]) for group, lines in groups.items()]
    return "\n\n".join(["Usage of tusd-py:", *blocks, _COMMAND, *_subcommands()]) + "\n"


def _subcommands() -> Iterator[str]:
    if SUBCOMMANDS:
        lines = (f"  {name}\n      {one.help} See tusd-py {name} --help." for name, one in SUBCOMMANDS.items())
        yield "\n".join(["Subcommands, instead of flags:", *lines])


def _lines(setting: Setting) -> Iterator[str]:
    yield f"  -{setting.flag}{_TYPES.get(setting.kind, f' {setting.kind}')}"
    default = show(setting, setting.default)
    choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
    yield f"      {setting.help}{choices}" + (f" (default {default})" if default else "")


def version() -> str:
    """The lines that tusd prints. Wheels know neither their commit nor their date, which tusd then calls `n/a` too."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        number = installed("tusd-py")
    except PackageNotFoundError:
        number = "n/a"
    return f"Version: {number}\nCommit: n/a\nDate: n/a\n"
