"""The account in memory: for tests, and for hosts that embed one process whose uploads need not be counted after its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tusd_py.limits.entries import Entry
from tusd_py.limits.recovery import GRACE, Records, drop_gone, restore_all
from tusd_py.limits.rules import RUNNING, Figures, LimitSettings, arrival_after, client_key, judge, judge_length
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.upload import MAX_LENGTH, Upload

__all__ = ["MemoryLimiter"]


class MemoryLimiter:
    """A `Limiter` of one process. `free` tells how many bytes there is room for; without it there is no end to it.

    Adds up all uploads at each creation.
    """

    def __init__(
        self,
        limits: LimitSettings,
        records: Records,
        *,
        clock: Clock = system_clock,
        free: Callable[[], int] = lambda: MAX_LENGTH,
        grace: float = GRACE,
    ) -> None:
        self._limits, self._records, self._clock, self._free, self._grace = limits, records, clock, free, grace
        self._entries: dict[str, Entry] = {}
        self._created: dict[str, float] = {}
        self._touched: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._rates: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<MemoryLimiter of {len(self._entries)} uploads>"

    async def admit(self, upload: Upload, client: str) -> None:
        now, key = self._clock(), client_key(upload.owner, client)
        figures = self._look_up(Entry.of(upload, now), key, now)
        refusal = judge(upload, self._limits, figures, now)
        if refusal is not None:
            raise refusal
        self._add(Entry.of(upload, now), now, touched=now)
        if self._limits.create_rate is not None:
            self._rates = {client: arrival for client, arrival in self._rates.items() if arrival > now}
            self._rates[key] = arrival_after(figures.arrival, now, self._limits.create_rate)

    async def extend(self, before: Upload, after: Upload) -> None:
        now = self._clock()
        entry = Entry.of(after, now)
        refusal = judge_length(after, self._limits, self._look_up(entry, "", now))
        if refusal is not None:
            raise refusal
        self._add(entry, now, touched=now)
        self._entries[after.id], self._touched[after.id] = entry, now

    def _look_up(self, entry: Entry, client: str, now: float) -> Figures:
        others = [other for other in self._entries.values() if other.id != entry.id]
        running = [other.owner for other in others if other.runs(now - RUNNING)]
        return Figures(
            stored=sum(other.stored for other in others if other.owner == entry.owner),
            running=len(running),
            running_of_owner=running.count(entry.owner),
            arrival=self._rates.get(client, 0.0),
            free=self._free(),
            awaited=sum(other.awaited for other in others),
        )

    def _add(self, entry: Entry, now: float, *, touched: float) -> None:
        if entry.id not in self._entries:
            self._entries[entry.id] = entry
            self._created[entry.id], self._touched[entry.id], self._seen[entry.id] = now, touched, 0.0

    async def progress(self, upload: Upload) -> None:
        if upload.id in self._entries:
            now = self._clock()
            self._entries[upload.id], self._touched[upload.id] = Entry.of(upload, now), now

    async def forget(self, upload_id: str) -> None:
        await self.drop([upload_id])

    async def recover(self) -> None:
        began = self._clock()
        await restore_all(self, self._records, began)
        await drop_gone(self, self._records, began, began - self._grace)

    async def restore(self, entries: Sequence[Entry], began: float) -> list[str]:
        """For `recovery`."""
        added = [entry.id for entry in entries if entry.id not in self._entries]
        for entry in entries:
            self._add(entry, entry.active_at, touched=0.0)
            if self._touched[entry.id] < began:
                self._entries[entry.id] = entry
            self._seen[entry.id] = max(self._seen[entry.id], began)
        return added

    async def unseen(self, began: float, created_before: float, after: str, count: int) -> list[str]:
        """For `recovery`."""
        found = (
            upload_id
            for upload_id in sorted(self._entries)
            if upload_id > after and self._seen[upload_id] < began and self._created[upload_id] < created_before
        )
        return [upload_id for upload_id, _ in zip(found, range(count), strict=False)]

    async def drop(self, upload_ids: Sequence[str]) -> None:
        """For `recovery`."""
        for upload_id in upload_ids:
            for table in (self._entries, self._created, self._touched, self._seen):
                table.pop(upload_id, None)

    async def close(self) -> None:
        """Nothing is held."""
