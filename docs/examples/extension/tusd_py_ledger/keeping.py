# tusd_py_ledger/keeping.py
"""The ledger while the server runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

from tusd_py.ports.datastore import DataStore
from tusd_py.ports.events import Consumer
from tusd_py.ports.extension import Host, Place
from tusd_py.ports.readings import Reading
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.upload import Upload

__all__ = ["FILE", "OpenLedger"]

FILE = os.path.join("ledger", "uploads.jsonl")
"""Below the directory for what is nobody else's business."""


class Clerk:
    """Who hears of uploads. The server keeps an event until `deliver` has returned, and delivers it again if it raised."""

    name = "ledger"
    types = frozenset({HookType.POST_FINISH})

    def __init__(self, path: str, keys: Sequence[str], *, durable: bool) -> None:
        self.path, self.keys, self.durable = path, keys, durable
        self.written = 0

    async def deliver(self, event: HookEvent) -> None:
        upload = event.upload
        noted = {key: upload.metadata.text(key) for key in self.keys}
        line = json.dumps({"event": event.id, "upload": upload.id, "size": upload.length, "metadata": noted})
        await asyncio.to_thread(self._append, line)  # the disk must not hold up the event loop
        self.written += 1

    def _append(self, line: str) -> None:
        # The line begins with its end of line: what a full disk cut off before spoils no other line.
        data = f"\n{line}".encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(file, data) != len(data):
                raise OSError(f"{self.path} took only a part of a line")
            if self.durable:
                os.fsync(file)
        finally:
            os.close(file)


class OpenLedger:
    """The ledger at work in one server process."""

    def __init__(self, place: Place, keys: Sequence[str]) -> None:
        path = os.path.join(place.state_dir, FILE)
        os.makedirs(os.path.dirname(path), mode=place.dir_mode, exist_ok=True)
        self.clerk = Clerk(path, keys, durable=place.durable)

    @property
    def consumers(self) -> Sequence[Consumer]:
        return (self.clerk,)

    @property
    def readings(self) -> Sequence[Reading]:
        return (
            Reading(
                name="tusd_py_ledger_lines_total",
                help="Lines written to the ledger.",
                read=lambda: self.clerk.written,
                kind="counter",
            ),
        )

    def around(self, data: DataStore) -> DataStore:
        return data

    def attach(self, host: Host) -> None:
        pass

    def finished(self, upload: Upload) -> None:
        pass  # the clerk hears of it, even if this process dies right now

    async def run(self) -> None:
        await asyncio.Event().wait()  # nothing to do in the background

    async def close(self) -> None:
        pass
