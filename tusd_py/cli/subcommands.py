"""Subcommands: `tusd-py NAME ...`, which administer what the server leaves in the upload directory.

tusd has none, and ignores what is no flag; a first argument without a dash therefore can't be meant for its syntax. Each module
has `main(arguments: list[str]) -> int`, which gets what follows the name and returns the exit status; the `main` of an
extension's command also gets a function that finds the upload directory. It is imported when its name is given: what it needs
costs the server nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from tusd_py.cli.sources import find_upload_dir
from tusd_py.plugins import clash, extensions

__all__ = ["SUBCOMMANDS", "Subcommand", "run_subcommand", "subcommands"]


@dataclass(frozen=True, slots=True)
class Subcommand:
    """Where a subcommand is, and what it is for in one sentence for -help. `extension` is whose it is, None for ours."""

    module: str
    help: str
    extension: str | None = None


SUBCOMMANDS: Mapping[str, Subcommand] = {
    "doctor": Subcommand("tusd_py.cli.doctor", "Find out what the proxies in front of a server do to uploads."),
    "events": Subcommand("tusd_py.cli.events", "List, replay or drop the events that hooks are told."),
    "sign": Subcommand("tusd_py.cli.sign", "Sign upload intents, and make the secret files for them."),
}
"""The server's own."""


def subcommands() -> Mapping[str, Subcommand]:
    """The server's, then those of extensions. Raises `SettingsError` if an extension can't be used or takes a name of ours."""
    found = dict(SUBCOMMANDS)
    for extension in extensions().values():
        for name, command in extension.commands.items():
            if name in SUBCOMMANDS:
                raise clash(extension.name, f"the server has a subcommand {name!r} too")
            found[name] = Subcommand(command.module, command.help, extension.name)
    return found


def run_subcommand(name: str, arguments: list[str]) -> int | None:
    """Run the subcommand and return its exit status; None if there is none of this name.

    Those of the server are found whatever is wrong with an extension; for others this raises `SettingsError`.
    """
    found = SUBCOMMANDS.get(name) or subcommands().get(name)
    if found is None:
        return None
    main = import_module(found.module).main
    return int(main(arguments) if found.extension is None else main(arguments, find_upload_dir))
