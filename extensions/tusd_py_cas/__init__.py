"""Content-addressed storage for tusd-py: finished uploads are cut by content, and no chunk is stored twice.

This module is imported by every command, whether the extension is on or off: it says what can be set, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tusd_py.ports.extension import Command, Opened, Option, Place
from tusd_py_cas.options import OFF, OPTIONS, check

__all__ = ["EXTENSION", "CasExtension"]

COMMANDS = {
    "cas": Command(module="tusd_py_cas.commands", help="See, check, export or clean up what is stored without duplicates.")
}


@dataclass(frozen=True, slots=True)
class CasExtension:
    """The port `Extension`."""

    name: str = "cas"
    options: Sequence[Option] = OPTIONS
    commands: Mapping[str, Command] = field(default_factory=lambda: dict(COMMANDS))

    def open(self, values: Mapping[str, Any], place: Place) -> Opened | None:
        check(values)
        if values["cas"] == OFF:
            return None
        from tusd_py_cas.serving import open_cas  # whoever does not use it pays nothing for it

        return open_cas(values, place)


EXTENSION = CasExtension()
