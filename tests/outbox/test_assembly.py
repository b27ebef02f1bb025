"""What the settings make of events, from flags to deliveries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uploads.waiting import reached
from tusd_py.assembly.events import build_delivery, build_outbox
from tusd_py.cli.sources import load
from tusd_py.outbox.memory import MemoryOutbox
from tusd_py.outbox.sqlite import SqliteOutbox
from tusd_py.protocol.hooks import EVENTS, HookEvent
from tusd_py.settings import Settings, SettingsError
from tusd_py.testing.outbox_suite import event


class Failing:
    name, types, recovers = "hooks", EVENTS, False

    def __init__(self, fail: bool = True) -> None:
        self.fail, self.tried = fail, 0

    async def deliver(self, event: HookEvent) -> None:
        self.tried += 1
        if self.fail:
            raise ValueError


def settings(tmp_path: Path, *flags: str) -> Settings:
    return load([f"-upload-dir={tmp_path / 'data'}", *flags], {})


async def test_events_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    outbox = build_outbox(settings(tmp_path))
    assert isinstance(outbox, SqliteOutbox) and outbox._durable and outbox._retention == 86400
    assert not (tmp_path / "data").exists()
    await outbox.prepare([event("a")], ["hooks"])
    assert (tmp_path / "data" / ".tusd-py" / "events.db").stat().st_mode & 0o777 == 0o600
    await outbox.close()


def test_durability_none_is_for_events_too(tmp_path: Path) -> None:
    outbox = build_outbox(settings(tmp_path, "-durability=none", "-events-retention=0"))
    assert isinstance(outbox, SqliteOutbox) and not outbox._durable and outbox._retention == 0


async def test_fire_and_forget_is_one_attempt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = settings(tmp_path, "-events=fire-and-forget")
    outbox, consumer = build_outbox(chosen), Failing()
    delivery = build_delivery(chosen, outbox, [consumer])
    delivery.start()
    await outbox.prepare([event("a")], ["hooks"])
    await outbox.confirm(event("a"), ["hooks"])
    delivery.notify()
    await reached(lambda: "an event was given up" in caplog.text)
    await delivery.close()
    await outbox.close()
    assert isinstance(outbox, MemoryOutbox)
    assert consumer.tried == 1 and not (tmp_path / "data").exists()


async def test_attempts_and_pauses_are_as_set(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path, "-events-max-attempts=3", "-events-backoff=1ms", "-events-max-backoff=2ms", "-events-concurrency=2"
    )
    outbox, consumer = build_outbox(chosen), Failing()
    delivery = build_delivery(chosen, outbox, [consumer])
    assert (delivery._backoff, delivery._max_backoff, delivery._lanes[0]._concurrency) == (0.001, 0.002, 2)
    delivery.start()
    await outbox.confirm(event("a"), ["hooks"])
    delivery.notify()
    await reached(lambda: consumer.tried == 3)
    await delivery.close()
    await outbox.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-events-max-attempts=0"], "-events-max-attempts is 0: expected a number from 1"),
        (["-events-concurrency=0"], "-events-concurrency is 0: expected a number from 1 to 1000"),
        (["-events-concurrency=1001"], "-events-concurrency is 1001"),
        (["-events-backoff=0"], "-events-backoff is 0: expected a duration such as 1s"),
        (["-events-max-backoff=500ms"], "-events-max-backoff is shorter than -events-backoff"),
        (["-events=never"], "durable"),
    ],
)
def test_values_that_make_no_sense(tmp_path: Path, flags: list[str], message: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=message):
        settings(tmp_path, *flags)
