# tusd_py_ledger/__init__.py
"""Keeps a ledger of finished uploads, a line of JSON each. Imported by every command: it says what can be set, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tusd_py.ports.extension import Command, Opened, Option, Place

__all__ = ["EXTENSION"]


class Ledger:
    name = "ledger"
    options: Sequence[Option] = (
        Option(name="ledger", kind="bool", default=False, help="Keep a ledger of finished uploads."),
        Option(name="ledger-metadata", kind="text", default="filename", help="Metadata to note, comma-separated."),
    )
    commands: Mapping[str, Command] = {
        "ledger": Command(module="tusd_py_ledger.command", help="Print the ledger of finished uploads.")
    }

    def open(self, values: Mapping[str, Any], place: Place) -> Opened | None:
        keys = values["ledger-metadata"].split(",")
        if not all(keys):
            raise ValueError("-ledger-metadata: expected names of metadata, such as filename,filetype")
        if not values["ledger"]:
            return None
        from tusd_py_ledger.keeping import OpenLedger

        return OpenLedger(place, keys)


EXTENSION = Ledger()
