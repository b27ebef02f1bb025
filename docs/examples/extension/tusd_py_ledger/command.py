# tusd_py_ledger/command.py
"""`tusd-py ledger`: print what is in the ledger, each upload once."""

from __future__ import annotations

import argparse
import json
import sys

from tusd_py.ports.extension import FindUploadDir
from tusd_py_ledger.keeping import FILE

__all__ = ["main"]


def main(arguments: list[str], find_upload_dir: FindUploadDir) -> int:
    parser = argparse.ArgumentParser(prog="tusd-py ledger", description="Print the ledger of finished uploads.")
    parser.add_argument("-upload-dir", "--upload-dir", help="the server's upload directory")
    parser.add_argument("-config", "--config", help="the server's file of settings")
    given = parser.parse_args(arguments)
    try:
        ledger = find_upload_dir(given.upload_dir, given.config) / ".tusd-py" / FILE
        text = ledger.read_text() if ledger.exists() else ""
    except (ValueError, OSError) as error:
        print(f"tusd-py ledger: {error}", file=sys.stderr)
        return 1
    print_each_once(text)
    return 0


def print_each_once(text: str) -> None:
    """An event may have been delivered more than once: its id is the same then."""
    seen = set()
    for line in text.splitlines():
        try:
            event = json.loads(line)["event"]
        except ValueError:
            continue  # empty, or cut off
        if event not in seen:
            seen.add(event)
            print(line)
