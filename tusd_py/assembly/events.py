"""Events, as the settings want them: where they are kept, and who delivers them."""

from __future__ import annotations

from collections.abc import Sequence

from tusd_py.fs.paths import STATE_DIR
from tusd_py.outbox.memory import MemoryOutbox
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.events import Consumer, Outbox
from tusd_py.settings import Settings
from tusd_py.uploads.delivering import Delivery

__all__ = ["build_delivery", "build_outbox"]


def build_outbox(settings: Settings, clock: Clock = system_clock) -> Outbox:
    """The outbox of this process; nothing is opened before it is used."""
    if settings.events == "fire-and-forget":
        return MemoryOutbox(clock=clock)
    from tusd_py.outbox.sqlite import SqliteOutbox  # brings SQLite and sqlite-utils

    return SqliteOutbox(
        f"{settings.upload_dir}/{STATE_DIR}",
        retention=settings.events_retention,
        durable=settings.durability != "none",
        clock=clock,
        dir_mode=settings.dir_perms,
    )


def build_delivery(settings: Settings, outbox: Outbox, consumers: Sequence[Consumer], clock: Clock = system_clock) -> Delivery:
    """Who delivers from `outbox`; to be started on the event loop. Fire and forget is a single attempt."""
    return Delivery(
        outbox,
        consumers,
        clock,
        max_attempts=1 if settings.events == "fire-and-forget" else settings.events_max_attempts,
        backoff=settings.events_backoff,
        max_backoff=settings.events_max_backoff,
        concurrency=settings.events_concurrency,
    )
