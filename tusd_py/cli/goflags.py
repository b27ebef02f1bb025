"""Go's `flag` package: how a command line becomes names and values. Go's messages too, since people and scripts know them.

Knows nothing of tusd's flags: it is told which names exist and which of them may stand alone, as booleans do.
Source of the rules: https://pkg.go.dev/flag#hdr-Command_line_flag_syntax and FlagSet.parseOne.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["FlagError", "HelpRequested", "parse_flags"]


class FlagError(ValueError):
    """A command line that cannot be understood. The message is Go's."""


class HelpRequested(Exception):
    """-h or -help was given."""


def parse_flags(arguments: Sequence[str], alone: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each flag. `alone` has every known name, with the text that it stands for without a value (`true`
    for a boolean), and None where it takes one. Who may stand alone takes a value only behind `=` (Go's IsBoolFlag).

    Raises `FlagError` and `HelpRequested`, in the order in which things stand on the command line. Anything left over after the
    flags is an error: tusd ignores it, and with it every flag behind (`-verbose false -port 80`).
    """
    rest = list(arguments)
    while rest and len(rest[0]) > 1 and rest[0].startswith("-"):
        argument = rest.pop(0)
        if argument == "--":
            break
        name, equals, value = _split(argument)
        if name not in alone:
            if name in ("h", "help"):
                raise HelpRequested
            raise FlagError(f"flag provided but not defined: -{name}")
        if not equals:
            value = _value_of(name, alone[name], rest)
        yield name, value
    if rest:
        raise FlagError(
            f"unexpected argument {quoted(rest[0])}: expected a flag (one that may stand alone takes its value as -name=value)"
        )


def _value_of(name: str, alone: str | None, rest: list[str]) -> str:
    """What a flag without `=` stands for; takes the next argument away if that is it."""
    if alone is not None:
        return alone
    if not rest:
        raise FlagError(f"flag needs an argument: -{name}")
    return rest.pop(0)


def _split(argument: str) -> tuple[str, str, str]:
    name = argument[2:] if argument.startswith("--") else argument[1:]
    if not name or name[0] in "-=":
        raise FlagError(f"bad flag syntax: {argument}")
    return name.partition("=")


def quoted(text: str) -> str:
    """As Go's %q prints it, near enough: in double quotes, nothing unprintable."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(c if c.isprintable() else ascii(c)[1:-1] for c in escaped)}"'
