"""The command: `tusd-py [flags]`, or `tusd-py SUBCOMMAND ...`. It turns arguments into settings and exit statuses; everything
else happens elsewhere.

Exit statuses: 0 after a stop that was asked for, 1 when the server cannot run, 2 when the command line cannot be understood,
130 when a subcommand is interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tusd_py.cli.goflags import FlagError, HelpRequested
from tusd_py.cli.sources import VersionRequested, load
from tusd_py.cli.subcommands import run_subcommand, subcommands
from tusd_py.cli.usage import usage, version
from tusd_py.settings import Settings, SettingsError

__all__ = ["main"]

MISUSE = 2
INTERRUPTED = 130
"""What a shell makes of SIGINT."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command with these arguments (those of the process unless given). Ends in SystemExit."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and not arguments[0].startswith("-"):
        sys.exit(_run_subcommand(arguments[0], arguments[1:]))
    settings = _settings(arguments)
    # Importing a web server takes a while: -help and mistakes should not wait for it.
    from tusd_py.server import run

    sys.exit(run(settings))


def _run_subcommand(name: str, arguments: list[str]) -> int:
    try:
        status = run_subcommand(name, arguments)
        if status is None:
            known = f"a flag or one of {', '.join(subcommands())} expected"
            raise SettingsError(f"unknown command {name!r}: {known}; see -help")
    except SettingsError as error:
        _finish(f"tusd-py: {error}\n", MISUSE)
    except KeyboardInterrupt:  # while it is being imported, as a rule
        return INTERRUPTED
    return status


def _settings(arguments: Sequence[str]) -> Settings:
    try:
        subcommands()  # an extension that can't be used is told whatever is asked for
        return load(arguments, os.environ)
    except HelpRequested:
        _finish(usage(), 0)
    except VersionRequested:
        _finish(version(), 0)
    except FlagError as error:
        _finish(f"{error}\n{usage()}", MISUSE)
    except SettingsError as error:
        _finish(f"tusd-py: {error}\n", MISUSE)


def _finish(text: str, status: int) -> NoReturn:
    (sys.stderr if status else sys.stdout).write(text)
    sys.exit(status)
