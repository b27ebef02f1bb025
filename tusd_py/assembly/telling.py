"""How far the consumers of events are behind, as metrics and as a condition of readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tusd_py.asgi.health import Verdict
from tusd_py.assembly.observability import Observability
from tusd_py.ports.failures import StorageFailure
from tusd_py.ports.readings import Reading
from tusd_py.uploads.delivering import Delivery, Pending

__all__ = ["show_delivery"]

LOOK = 5.0
"""Seconds between two looks at the outbox: it is a query over all that is due."""


def show_delivery(delivery: Delivery, watching: Observability) -> Callable[[], Awaitable[None]]:
    """Show how far `delivery` is behind; returns what has to run for that until it is cancelled."""
    pending: dict[str, Pending] = {}
    failure: list[str] = []

    async def look() -> None:
        while True:
            try:
                pending.update({one.consumer: one for one in await delivery.pending()})
                failure.clear()
            except StorageFailure as error:
                failure[:] = [str(error)]
            await asyncio.sleep(LOOK)

    async def check() -> Verdict:
        return Verdict(
            ok=not failure,
            reason="the outbox can't be read" if failure else None,
            facts={"pending": sum(one.count for one in pending.values())},
        )

    watching.add_reading(
        Reading(
            name="tusd_py_events_pending",
            help="Events that a consumer has still to get.",
            read=lambda: {name: float(one.count) for name, one in pending.items()},
            label="consumer",
            across="max",
        )
    )
    watching.add_reading(
        Reading(
            name="tusd_py_events_oldest_seconds",
            help="How long the first of the events that a consumer has still to get has been waiting.",
            read=lambda: {name: one.age for name, one in pending.items()},
            label="consumer",
            across="max",
        )
    )
    watching.add_check("events", check)
    return look
