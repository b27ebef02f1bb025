"""`tusd-py events`, on what an outbox has left."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tusd_py.cli.events import main
from tusd_py.outbox.sqlite import SqliteOutbox
from tusd_py.ports.events import EventState, StoredEvent
from tusd_py.protocol.hooks import EVENTS, HookType
from tusd_py.testing.outbox_suite import event, tried

CREATE, FINISH = HookType.POST_CREATE, HookType.POST_FINISH


@pytest.fixture
def upload_dir(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
async def outbox(upload_dir: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = SqliteOutbox(f"{upload_dir}/.tusd-py")
    yield outbox
    await outbox.close()


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(upload_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the subcommand; gives its status, output and errors."""
    for name in [name for name in os.environ if name.startswith("TUSD_PY_")]:
        monkeypatch.delenv(name)

    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([verb, f"-upload-dir={upload_dir}", *arguments])
        return status, *capsys.readouterr()

    return run


def listed(command: Command, *arguments: str) -> list[dict[str, Any]]:
    status, output, errors = command("list", "--json", *arguments)
    assert (status, errors) == (0, "")
    return [json.loads(line) for line in output.splitlines()]


async def fill(outbox: SqliteOutbox) -> dict[str, str]:
    """One event in each state; returns their ids."""
    await outbox.prepare([event("waits", FINISH)], ["hooks"])
    for name in ("delivered", "dead", "failed"):
        await outbox.confirm(event(name, CREATE), ["hooks"])
    delivered, dead, failed = await outbox.claim("hooks", 3)
    late = failed.due_at + 1e6
    await outbox.settle([delivered], [tried(dead, dead.due_at, dead=True), tried(failed, late)])
    await outbox.confirm(event("failed", FINISH), ["hooks", "other"])
    return {"delivered": delivered.event.id, "dead": dead.event.id, "failed": failed.event.id}


async def due(outbox: SqliteOutbox) -> list[StoredEvent]:
    """All that can be had now, delivered."""
    found: list[StoredEvent] = []
    while claimed := await outbox.claim("hooks", 10):
        await outbox.settle(claimed, ())
        found += claimed
    return found


# list


async def test_every_type_of_event_can_be_asked_for(outbox: SqliteOutbox, command: Command) -> None:
    for kind in sorted(EVENTS):
        await outbox.confirm(event(f"u-{kind}", kind), ["hooks"])
    for kind in sorted(EVENTS):
        assert [(one["upload"], one["type"]) for one in listed(command, f"--type={kind}")] == [(f"u-{kind}", kind)]


async def test_all_are_listed(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    found = listed(command)
    assert [(one["upload"], one["type"], one["consumer"], one["state"]) for one in found] == [
        ("waits", "post-finish", "hooks", "prepared"),
        ("delivered", "post-create", "hooks", "delivered"),
        ("dead", "post-create", "hooks", "dead"),
        ("failed", "post-create", "hooks", "due"),
        ("failed", "post-finish", "hooks", "due"),
        ("failed", "post-finish", "other", "due"),
    ]
    by_upload = {one["upload"]: one for one in found[:4]}
    assert {name: by_upload[name]["id"] for name in ids} == ids
    dead = by_upload["dead"]
    assert (dead["attempts"], dead["error"], dead["claimed"]) == (1, "no", False)
    assert datetime.fromisoformat(dead["created_at"]).tzinfo == UTC


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--state=dead"], ["dead"]),
        (["--state=dead", "--state", "delivered"], ["delivered", "dead"]),
        (["--upload=failed", "--consumer=hooks"], ["failed", "failed"]),
        (["--type=post-finish"], ["waits", "failed", "failed"]),
        (["--type=post-finish", "--state=due", "--consumer=other"], ["failed"]),
        (["--upload=none"], []),
    ],
)
async def test_filters(outbox: SqliteOutbox, command: Command, arguments: list[str], expected: list[str]) -> None:
    await fill(outbox)
    assert [one["upload"] for one in listed(command, *arguments)] == expected


async def test_a_table_for_people(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    (claimed,) = await outbox.claim("other", 1)
    status, output, errors = command("list")
    assert (status, errors) == (0, "")
    heading, *lines = output.splitlines()
    assert heading.split() == ["ID", "TYPE", "UPLOAD", "RECEIVER", "STATE", "CREATED", "DUE", "ATTEMPTS", "ERROR"]
    assert len(lines) == 6
    assert next(line for line in lines if line.startswith(ids["dead"])).split()[1:5] == ["post-create", "dead", "hooks", "dead"]
    assert "being delivered" in lines[-1] and claimed.event.id in lines[-1]


async def test_what_receivers_answered_does_nothing_to_a_terminal(outbox: SqliteOutbox, command: Command) -> None:
    await outbox.confirm(event("a"), ["hooks"])
    (stored,) = await outbox.claim("hooks", 1)
    error = "\x1b[2J [red]no[/red]\nline"
    await outbox.settle((), [StoredEvent(**{name: getattr(stored, name) for name in stored.__slots__} | {"error": error})])
    _, output, _ = command("list")
    assert len(output.splitlines()) == 2 and "\x1b" not in output and "[red]no[/red] line" in output


async def test_the_oldest_up_to_the_limit(outbox: SqliteOutbox, command: Command) -> None:
    await fill(outbox)
    status, output, errors = command("list", "--limit=2")
    assert status == 0 and len(output.splitlines()) == 3
    assert errors == "There are more than these 2, which are the oldest: see --limit.\n"


async def test_nothing_to_list(outbox: SqliteOutbox, command: Command, upload_dir: Path) -> None:
    assert command("list") == (0, "no events\n", "")
    assert not (upload_dir / ".tusd-py").exists(), "who looks leaves no trace"
    await outbox.tidy()
    assert command("list") == (0, "no events\n", "")
    assert command("list", "--json") == (0, "", "")


# replay


async def test_a_dead_one_is_delivered_after_all(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    assert command("replay", "--dead") == (0, "1 event will be delivered once more\n", "")
    (stored,) = await due(outbox)
    assert (stored.event.id, stored.attempts, stored.error) == (ids["dead"], 0, None)
    assert stored.event.request == event("dead").request, "as it was"
    assert command("replay", "--dead") == (0, "0 events will be delivered once more\n", "")


async def test_by_id(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    assert command("replay", ids["delivered"], ids["dead"])[0] == 0
    assert {stored.event.id for stored in await due(outbox)} == {ids["delivered"], ids["dead"]}


async def test_an_id_that_is_not_there_is_told_and_nothing_done(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    status, output, errors = command("replay", ids["dead"], "none")
    assert (status, output, errors) == (1, "", "tusd-py events: there is no event none; nothing was changed\n")
    assert not await due(outbox)


async def test_by_upload_in_order_and_behind_what_is_due(outbox: SqliteOutbox, command: Command) -> None:
    for kind in (CREATE, FINISH):
        await outbox.confirm(event("a", kind), ["hooks"])
        await outbox.confirm(event("b", kind), ["hooks"])
    first = [stored.event.id for stored in await due(outbox) if stored.event.upload.id == "a"]
    await outbox.confirm(event("a", HookType.POST_TERMINATE), ["hooks"])
    assert command("replay", "--upload=a")[1] == "2 events will be delivered once more\n"
    again = await due(outbox)
    assert [stored.event.type for stored in again] == [HookType.POST_TERMINATE, CREATE, FINISH]
    assert [stored.event.id for stored in again[1:]] == first


async def test_since(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    for since, count in (("0", 0), ("2126-01-01", 0), ("1h", 1)):
        assert command("replay", f"--delivered-since={since}")[1].startswith(f"{count} event")
    assert [stored.event.id for stored in await due(outbox)] == [ids["delivered"]]
    assert command("replay", "--delivered-since=2020-01-01T00:00")[1].startswith("1 event ")


async def test_more_than_a_page(outbox: SqliteOutbox, command: Command) -> None:
    for number in range(450):
        await outbox.confirm(event(f"{number}"), ["hooks"])
    await due(outbox)
    assert command("replay", "--delivered-since=1h")[1].startswith("450 events")
    assert len(await due(outbox)) == 450
    assert command("drop", "--state=delivered", "--yes")[1] == "450 events dropped\n"
    assert listed(command) == []


# drop


async def test_dropping_wants_to_be_meant(outbox: SqliteOutbox, command: Command) -> None:
    await fill(outbox)
    status, output, errors = command("drop", "--dead")
    assert (status, output) == (2, "") and "expected --yes" in errors
    assert command("drop", "--dead", "--yes") == (0, "1 event dropped\n", "")
    assert "dead" not in [one["state"] for one in listed(command)]


async def test_what_is_dropped_is_in_nobodys_way(outbox: SqliteOutbox, command: Command) -> None:
    ids = await fill(outbox)
    assert not await due(outbox), "the finish waits for the creation"
    assert command("drop", ids["failed"], "--yes")[0] == 0
    assert [stored.event.type for stored in await due(outbox)] == [FINISH]


async def test_what_is_being_delivered_stays(outbox: SqliteOutbox, command: Command) -> None:
    await outbox.confirm(event("a"), ["hooks"])
    claimed = await outbox.claim("hooks", 1)
    assert command("drop", "--upload=a", "--yes")[1] == "0 events dropped\n"
    await outbox.settle(claimed, ())
    assert command("drop", "--upload=a", "--yes")[1] == "1 event dropped\n"


async def test_prepared_ones_only_by_name(outbox: SqliteOutbox, command: Command) -> None:
    await fill(outbox)
    assert command("drop", "--upload=waits", "--yes")[1] == "0 events dropped\n"
    assert command("drop", "--upload=waits", "--state=prepared", "--yes")[1] == "1 event dropped\n"
    assert not [stored async for stored in outbox.prepared(1e12)]


# Misuse, and what can't be done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay"], "that would be all events"),
        (["drop", "--yes"], "that would be all events"),
        (["replay", "--dead", "--delivered-since=1h"], "exclude each other"),
        (["drop", "--state=dead", "--dead", "--yes"], "exclude each other"),
        (
            ["replay", "--delivered-since=yesterday"],
            "--delivered-since is 'yesterday': expected a duration such as 2h, or a time",
        ),
        (["list", "--type=pre-create"], "there are no events of type 'pre-create': expected one of post-create, "),
        (["list", "--state=odd"], "--state"),
        (["list", "--limit=0"], "--limit"),
        (["list", "--nonsense"], "--nonsense"),
        (["list", "--config=/nonexistent.toml"], "cannot read the configuration file"),
    ],
)
def test_misuse(command: Command, arguments: list[str], message: str) -> None:
    status, output, errors = command(*arguments)
    assert (status, output) == (2, "") and message in errors


def test_an_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lst"]) == 2
    assert "lst" in capsys.readouterr().err


def test_where_nothing_is(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", f"--upload-dir={tmp_path}/none"]) == 1
    assert "there is no upload directory" in capsys.readouterr().err
    assert command("replay", "some-id")[0] == 1
    assert command("replay", "--dead") == (0, "0 events will be delivered once more\n", "")


def test_what_is_no_database_is_told(command: Command, upload_dir: Path) -> None:
    (upload_dir / ".tusd-py").mkdir()
    (upload_dir / ".tusd-py" / "events.db").write_bytes(b"x" * 5000)
    status, output, errors = command("list")
    assert (status, output) == (1, "") and "file is not a database" in errors


async def test_a_later_version_is_left_alone(outbox: SqliteOutbox, command: Command, upload_dir: Path) -> None:
    await outbox.tidy()
    database = sqlite3.connect(upload_dir / ".tusd-py" / "events.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    status, _, errors = command("list")
    assert status == 1 and "has version 99: this program knows versions up to" in errors


async def test_settings_are_found_where_the_server_finds_them(outbox: SqliteOutbox, upload_dir: Path, tmp_path: Path) -> None:
    await fill(outbox)
    (tmp_path / "c.toml").write_text(f'upload-dir = "{upload_dir}"\nevents-retention = "1h"\n')
    for arguments, environ in (
        ([f"--config={tmp_path}/c.toml"], {}),
        (["-config", f"{tmp_path}/c.toml"], {}),
        ([], {"TUSD_PY_UPLOAD_DIR": str(upload_dir)}),
        ([], {"TUSD_PY_CONFIG": f"{tmp_path}/c.toml"}),
    ):
        done = await asyncio.to_thread(run_as_process, ["list", "--state=dead", *arguments], environ)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 2


def run_as_process(arguments: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tusd_py", "events", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_every_state_has_a_name() -> None:
    assert {state.value for state in EventState} == {"prepared", "due", "delivered", "dead"}
