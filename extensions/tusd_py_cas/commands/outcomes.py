"""How a command ends, and with which exit status: each failure is one sentence on standard error.

0 done · 1 something could not be done, or `verify` has found damage · 2 the command line cannot be understood · 3 there is no
repository · 129 hung up · 130 interrupted · 143 terminated
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.commands.texts import printable
from tusd_py_cas.model import ChunksMissing, RepositoryError

__all__ = ["Failed", "Misuse", "NoRepository", "OutputClosed", "OutputFailed", "ended", "explain", "forget_output", "report"]

DONE, FAILED, MISUSE, NO_REPOSITORY = 0, 1, 2, 3


class Failed(Exception):
    """It could not be done."""


class Misuse(Exception):
    """The command line makes no sense."""


class NoRepository(Exception):
    """There is none where it should be."""


class OutputFailed(Failed):
    """Standard output takes no more, since the disk is full for one."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output could not be written: {error.strerror}")


class OutputClosed(Exception):
    """Whoever read the output has seen enough of it."""


def report(sentence: str) -> None:
    """Tell the user on standard error; where that takes nothing, there is nobody to be told."""
    try:
        print(f"tusd-py cas: {printable(sentence)}", file=sys.stderr, flush=True)
    except OSError:
        _lead_nowhere(sys.stderr)


def explain(error: Exception) -> str:
    """What a failure of one thing among several has to say."""
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{where}{error.strerror or error}"
    if isinstance(error, ChunksMissing):
        return "its chunks were collected again and again while it was being stored: expected a longer grace period"
    return str(error)


def ended(run: Callable[[], None]) -> int:
    """Run a command to its end; returns the exit status. Typer has made 130 of an interrupt."""
    status = _status(run)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        forget_output()
    except OSError as error:
        forget_output()
        report(str(OutputFailed(error)))
        status = status or FAILED
    return status


def _status(run: Callable[[], None]) -> int:
    try:
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OutputClosed:
        forget_output()
        return DONE
    except OutputFailed as error:
        forget_output()
        report(str(error))
        return FAILED
    except Misuse as error:
        report(str(error))
        return MISUSE
    except NoRepository as error:
        report(str(error))
        return NO_REPOSITORY
    except (Failed, RepositoryError, ChunksMissing, StorageFailure, OSError) as error:
        report(explain(error))
        return FAILED
    return DONE


def forget_output() -> None:
    """What is left of the output, and what is still to come, goes nowhere."""
    _lead_nowhere(sys.stdout)


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
