"""`tusd-py events`: look at the events below an upload directory, have them delivered once more, or drop them.

Works whether or not servers are running; they notice within seconds. Exit statuses: 0 done; 1 it could not be done, or an event
that was named is not there; 2 the command line cannot be understood.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from tusd_py.cli.goflags import FlagError
from tusd_py.cli.sources import load
from tusd_py.cli.values import parse_duration
from tusd_py.fs.paths import STATE_DIR
from tusd_py.outbox.administration import Administration, ListedEvent, Selection
from tusd_py.ports.events import EventState
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.hooks import EVENTS, HookType
from tusd_py.settings import SettingsError

__all__ = ["main"]

MISUSE = 2

UNLIMITED = -1
"""For SQLite."""

WIDE = 10_000
"""Columns of a table that nobody looks at."""

TYPES = {kind.value: kind for kind in sorted(EVENTS)}

app = typer.Typer(
    help="Look at the events that hooks are told, have them delivered once more, or drop them.",
    context_settings={"help_option_names": ["--help", "-help", "-h"]},
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

UploadDir = Annotated[
    str | None, typer.Option("--upload-dir", "-upload-dir", help="The server's upload directory.", show_default=False)
]
Config = Annotated[str | None, typer.Option("--config", "-config", help="The server's file of settings.", show_default=False)]
Upload = Annotated[str | None, typer.Option("--upload", help="Only events of this upload.", show_default=False)]
Consumer = Annotated[str | None, typer.Option("--consumer", help="Only events for this receiver.", show_default=False)]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help=f"Only events of this type: {', '.join(TYPES)}. May be repeated.", show_default=False),
]
States = Annotated[
    list[EventState] | None, typer.Option("--state", help="Only events in this state. May be repeated.", show_default=False)
]
Ids = Annotated[list[str] | None, typer.Argument(help="Events, by their ids.", show_default=False)]
Dead = Annotated[bool, typer.Option("--dead", help="Those that were given up.")]
DeliveredSince = Annotated[
    str | None,
    typer.Option(
        "--delivered-since", help="Those that were delivered since: a duration such as 2h, or a time.", show_default=False
    ),
]


def main(arguments: list[str]) -> int:
    """Run the subcommand; returns the exit status."""
    try:
        app(arguments, prog_name="tusd-py events")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except StorageFailure as failure:
        print(f"tusd-py events: {failure}", file=sys.stderr)
        return 1
    return 0


class Misuse(typer.Exit):
    """The command line makes no sense; the message is one sentence."""

    def __init__(self, message: str) -> None:
        print(f"tusd-py events: {message}", file=sys.stderr)
        super().__init__(MISUSE)


@app.command("list")
def list_events(
    upload_dir: UploadDir = None,
    config: Config = None,
    state: States = None,
    upload: Upload = None,
    consumer: Consumer = None,
    kind: Types = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many, the oldest.")] = 1000,
) -> None:
    """Show events, the oldest first."""
    states = frozenset(state) if state else None
    selection = Selection(upload=upload, consumer=consumer, types=_types(kind), states=states)
    with _opened(upload_dir, config) as administration:
        found = [] if administration is None else list(administration.list(selection, limit + 1))
    if as_json:
        for event in found[:limit]:
            print(json.dumps(_as_json(event)))
    else:
        _print_table(found[:limit])
    if len(found) > limit:
        print(f"There are more than these {limit}, which are the oldest: see --limit.", file=sys.stderr)


@app.command()
def replay(
    ids: Ids = None,
    upload_dir: UploadDir = None,
    config: Config = None,
    upload: Upload = None,
    consumer: Consumer = None,
    kind: Types = None,
    dead: Dead = False,
    delivered_since: DeliveredSince = None,
) -> None:
    """Have events that were delivered or given up delivered once more, under the same ids."""
    selection = _selection(ids, upload, consumer, kind, dead=dead, delivered_since=delivered_since)
    with _opened(upload_dir, config) as administration:
        _check_ids(administration, selection)
        _report(0 if administration is None else administration.replay(selection), "will be delivered once more")


@app.command()
def drop(
    ids: Ids = None,
    upload_dir: UploadDir = None,
    config: Config = None,
    upload: Upload = None,
    consumer: Consumer = None,
    kind: Types = None,
    state: States = None,
    dead: Dead = False,
    delivered_since: DeliveredSince = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: nobody will be told about them any more.")] = False,
) -> None:
    """Forget events, but for those that are being delivered just now. Prepared ones only with --state=prepared."""
    selection = _selection(ids, upload, consumer, kind, state=state, dead=dead, delivered_since=delivered_since)
    if not yes:
        raise Misuse("what is dropped will never be delivered: expected --yes if that is meant")
    with _opened(upload_dir, config) as administration:
        _check_ids(administration, selection)
        _report(0 if administration is None else administration.drop(selection), "dropped")


@contextmanager
def _opened(upload_dir: str | None, config: str | None) -> Iterator[Administration | None]:
    """The events where the server with these settings has them; None where there are none yet."""
    given = {"upload-dir": upload_dir, "config": config}
    try:
        settings = load([f"-{name}={text}" for name, text in given.items() if text is not None], os.environ)
    except (FlagError, SettingsError) as error:
        raise Misuse(str(error)) from None
    if not settings.upload_dir.is_dir():
        raise StorageFailure(
            f"there is no upload directory {str(settings.upload_dir)!r}: expected -upload-dir as the server has it"
        )
    administration = Administration.open(f"{settings.upload_dir}/{STATE_DIR}")
    if administration is None:
        yield None
    else:
        with administration:
            yield administration


def _selection(
    ids: Sequence[str] | None,
    upload: str | None,
    consumer: str | None,
    kinds: Sequence[str] | None,
    *,
    state: Sequence[EventState] | None = None,
    dead: bool,
    delivered_since: str | None,
) -> Selection:
    """What was asked for. Raises `Misuse` if that is everything, or a contradiction."""
    if (dead and delivered_since is not None) or (state and (dead or delivered_since is not None)):
        raise Misuse("--state, --dead and --delivered-since exclude each other: expected one of them")
    if not (ids or upload or consumer or kinds or state or dead or delivered_since is not None):
        raise Misuse("that would be all events: expected ids, or options that say which; see --help")
    states = frozenset(state) if state else frozenset({EventState.DEAD}) if dead else None
    if delivered_since is not None:
        states = frozenset({EventState.DELIVERED})
    return Selection(
        ids=tuple(ids) if ids else None,
        upload=upload,
        consumer=consumer,
        types=_types(kinds),
        states=states,
        since=None if delivered_since is None else _moment(delivered_since),
    )


def _types(names: Sequence[str] | None) -> frozenset[HookType] | None:
    for name in names or ():
        if name not in TYPES:
            raise Misuse(f"there are no events of type {name!r}: expected one of {', '.join(TYPES)}")
    return frozenset(TYPES[name] for name in names) if names else None


def _moment(text: str) -> float:
    """Seconds since the epoch; a time without a zone is local."""
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        message = f"--delivered-since is {text!r}: expected a duration such as 2h, or a time such as 2026-01-31T18:00"
        raise Misuse(message) from None


def _check_ids(administration: Administration | None, selection: Selection) -> None:
    """Raises `StorageFailure` if an event that was named is not there; then none is touched."""
    if selection.ids is None:
        return
    named = Selection(ids=selection.ids)
    known = set() if administration is None else {event.id for event in administration.list(named, UNLIMITED)}
    if missing := [one for one in selection.ids if one not in known]:
        raise StorageFailure(f"there is no event {', '.join(missing)}; nothing was changed")


def _report(count: int, what: str) -> None:
    print(f"{count} event{'' if count == 1 else 's'} {what}")


def _as_json(event: ListedEvent) -> dict[str, Any]:
    times = {name: datetime.fromtimestamp(getattr(event, name), UTC).isoformat() for name in ("created_at", "due_at")}
    return asdict(event) | times


def _print_table(events: Sequence[ListedEvent]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not events:
        print("no events")
        return
    table = Table("ID", "TYPE", "UPLOAD", "RECEIVER", "STATE", "CREATED", "DUE", "ATTEMPTS", "ERROR", box=None, pad_edge=False)
    for event in events:
        table.add_row(*(Text(_printable(cell), overflow="fold") for cell in _cells(event)))
    # What is not for a terminal is for programs: nothing may be broken into lines.
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(table)


def _cells(event: ListedEvent) -> tuple[str, ...]:
    state = "being delivered" if event.claimed else event.state
    due = _local(event.due_at) if event.state == EventState.DUE else ""
    created = _local(event.created_at)
    return event.id, event.type, event.upload, event.consumer, state, created, due, str(event.attempts), event.error or ""


def _local(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def _printable(text: str) -> str:
    """Errors quote what receivers answered, which may be meant to do something to a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
