"""Subcommands: `tusd-py NAME ...`, which administer what the server leaves in the upload directory.

tusd has none, and ignores what is no flag; a first argument without a dash therefore can't be meant for its syntax. Each module
has `main(arguments: list[str]) -> int`, which gets what follows the name and returns the exit status. It is imported when its
name is given: what it needs costs the server nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

__all__ = ["SUBCOMMANDS", "Subcommand", "run_subcommand"]


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a subcommand is, and what it is for in one sentence for -help."""

    module: str
    help: str


SUBCOMMANDS: Mapping[str, Subcommand] = {
    "doctor": Subcommand("tusd_py.cli.doctor", "Find out what the proxies in front of a server do to uploads."),
    "events": Subcommand("tusd_py.cli.events", "List, replay or drop the events that hooks are told."),
    "sign": Subcommand("tusd_py.cli.sign", "Sign upload intents, and make the secret files for them."),
}


def run_subcommand(name: str, arguments: list[str]) -> int:
    """Run one of `SUBCOMMANDS`; returns the exit status."""
    status: int = import_module(SUBCOMMANDS[name].module).main(arguments)
    return status
