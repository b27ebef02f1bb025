"""Standard output: lines that come as they are found, tables without an end, documents, and bytes.

A table is not laid out as a whole: its columns have widths of their own, so that a listing of millions begins at once and
takes no memory.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tusd_py_cas.commands.outcomes import OutputClosed, OutputFailed, forget_output
from tusd_py_cas.commands.texts import json_line, printable

__all__ = ["Column", "prepare_streams", "print_document", "print_line", "print_row", "print_table", "write_bytes"]

Column = tuple[str, int]
"""Heading and width, to the right where that is negative. What is wider pushes the rest of its line."""


def prepare_streams() -> None:
    """What the terminal's encoding does not have is shown as an escape, and stops nothing. In the place of a stream that is
    closed comes one that can't be written to: so whoever writes hears of it, and no file of ours gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDONLY if number else os.O_WRONLY)
            setattr(sys, name, os.fdopen(fd, "w" if number else "r", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):
                stream.reconfigure(errors="backslashreplace")


def print_line(text: str) -> None:
    """Raises `OutputClosed`, `OutputFailed`."""
    try:
        sys.stdout.write(f"{text}\n")
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise OutputFailed(error) from error


def write_bytes(data: bytes | memoryview) -> None:
    """Raises `OutputClosed`, `OutputFailed`."""
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise OutputFailed(error) from error


def tell(what: str | Mapping[str, Any]) -> None:
    """A line or a document about work that goes on even if nobody reads of it any more. Raises `OutputFailed`."""
    try:
        print_line(what if isinstance(what, str) else json_line(what))
    except OutputClosed:
        forget_output()


def print_document(document: Mapping[str, Any]) -> None:
    print_line(json_line(document))


def print_row(columns: Sequence[Column], cells: Sequence[str]) -> None:
    padded = (_pad(printable(cell), width) for cell, (_, width) in zip(cells, columns, strict=True))
    print_line("  ".join(padded).rstrip())


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], nothing: str) -> None:
    """The rows as they come, under the headings; `nothing` is said where there are none."""
    empty = True
    for row in rows:
        if empty:
            print_row(columns, [heading for heading, _ in columns])
            empty = False
        print_row(columns, row)
    if empty:
        print_line(nothing)


def _pad(text: str, width: int) -> str:
    return text.rjust(-width) if width < 0 else text.ljust(width)
