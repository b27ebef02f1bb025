"""The command line of `tusd-py cas`: its commands are in modules of their own, this puts them together."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from tusd_py.ports.extension import FindUploadDir
from tusd_py_cas.commands import checking, collecting, exporting, figures, importing, listing, reading
from tusd_py_cas.commands.outcomes import ended
from tusd_py_cas.commands.output import prepare_streams

__all__ = ["run"]

ENDING = (signal.SIGTERM, signal.SIGHUP)

_SILENCE = logging.NullHandler()
"""For the log of what the commands use: what matters of it is said by exceptions and results."""

app = typer.Typer(
    help="Look into content-addressed storage, take contents out of it or into it, keep it well.",
    context_settings={"help_option_names": ["--help", "-help", "-h"]},
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("stats", short_help="Show what is stored, and what that saves.")(figures.stats)
app.command("ls", short_help="List objects.")(listing.ls)
app.command("versions", short_help="List the versions of an object.")(listing.versions)
app.command("cat", short_help="Write a content to standard output.")(reading.cat)
app.command("export", short_help="Write contents to files, or uploads' own files back.")(exporting.export)
app.command("import", short_help="Store files, or uploads that were finished before.")(importing.import_)
app.command("verify", short_help="Read what is stored, and tell what is damaged.")(checking.verify)
app.command("gc", short_help="Free what no version refers to any more.")(collecting.gc)


def run(arguments: list[str], find_upload_dir: FindUploadDir) -> int:
    """Run a subcommand; returns the exit status (see `outcomes`)."""
    prepare_streams()
    logging.getLogger("tusd_py.cas").addHandler(_SILENCE)
    with _tidy_when_terminated():
        return ended(lambda: app(arguments, prog_name="tusd-py cas", obj=find_upload_dir))


@contextmanager
def _tidy_when_terminated() -> Iterator[None]:
    """Let SIGTERM and SIGHUP undo what is half-way, as SIGINT does, where nobody else has a use for them (nohup)."""
    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
