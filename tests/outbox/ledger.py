"""What workers said, and whether an outbox agrees."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tusd_py.outbox.sqlite import SqliteOutbox
from tusd_py.protocol.hooks import HookType

CREATE, RECEIVE, FINISH = HookType.POST_CREATE, HookType.POST_RECEIVE, HookType.POST_FINISH
ONCE = (CREATE, FINISH)


class Ledger:
    """Promises that were made to workers. What was begun and not reported done may be either way."""

    def __init__(self) -> None:
        self.prepared: set[str] = set()
        self.begun: set[tuple[str, str]] = set()  # confirmations
        self.confirmed: set[tuple[str, str]] = set()
        self.withdrawn: set[str] = set()
        self.undecided: set[str] = set()  # withdrawals that were begun
        self.ids: dict[tuple[str, str], str] = {}
        self.told: dict[str, list[str]] = {}  # the types that an upload's consumer got, in order
        self.settling: set[str] = set()
        self.settled: set[str] = set()

    def read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if line.endswith(b"\n"):  # the last one may have been cut off
                verb, *words = line.decode().split()
                getattr(self, f"_{verb}")(*words)

    def _prepare(self, name: str) -> None:
        pass

    def _prepared(self, name: str) -> None:
        self.prepared.add(name)

    def _confirm(self, name: str, kind: str) -> None:
        self.begun.add((name, kind))

    def _confirmed(self, name: str, kind: str) -> None:
        self.confirmed.add((name, kind))

    def _withdraw(self, name: str) -> None:
        self.undecided.add(name)

    def _withdrawn(self, name: str) -> None:
        self.withdrawn.add(name)

    def _claimed(self, name: str, kind: str, event_id: str) -> None:
        assert event_id not in self.settled, f"{kind} of {name} was delivered again after it had been settled"
        assert (name, kind) in self.begun, f"{kind} of {name} is told, but nobody confirmed it"
        if kind in ONCE:
            self._is_known_as(name, kind, event_id)
        told = self.told.setdefault(name, [])
        if kind not in told:
            assert not told or FINISH not in told, f"{kind} of {name} comes behind its end"
            assert kind == CREATE or CREATE in told, f"{kind} of {name} comes before its beginning"
            told.append(kind)

    def _settle(self, event_id: str) -> None:
        self.settling.add(event_id)

    def _settled(self, event_id: str) -> None:
        self.settled.add(event_id)

    def _is_known_as(self, name: str, kind: str, event_id: str) -> None:
        known = self.ids.setdefault((name, kind), event_id)
        assert known == event_id, f"{kind} of {name} was {known} and is {event_id}"

    async def check_prepared(self, outbox: SqliteOutbox) -> None:
        """What has been prepared and not decided upon is there."""
        found = set()
        async for stored in outbox.prepared(1e12):
            key = (stored.event.upload.id, str(stored.event.type))
            self._is_known_as(*key, stored.event.id)
            found.add(key)
        expected = {(name, str(kind)) for name in self.prepared for kind in ONCE}
        expected -= self.begun | {(name, str(FINISH)) for name in self.undecided}
        assert expected <= found, f"lost: {sorted(expected - found)[:10]}"
        assert not found & (self.confirmed | {(name, str(FINISH)) for name in self.withdrawn})

    async def decide(self, outbox: SqliteOutbox, chance: random.Random) -> None:
        """Say of what is prepared, as a server does after a crash, that it came true, or did not, or leave it."""
        async for stored in outbox.prepared(1e12):
            name, kind = stored.event.upload.id, stored.event.type
            verdict = chance.random()
            if verdict < 0.5 or kind is CREATE:
                self._confirm(name, kind)
                await outbox.confirm(stored.event, ["hooks"], only_prepared=True)
                self._confirmed(name, kind)
            elif verdict < 0.8:
                await outbox.withdraw(name, [kind])
                self._withdraw(name)
                self._withdrawn(name)

    async def check_rest(self, outbox: SqliteOutbox) -> None:
        """Take all that is due; then everything that was confirmed has been told."""
        while claimed := await outbox.claim("hooks", 100):
            for stored in claimed:
                self._claimed(stored.event.upload.id, str(stored.event.type), stored.event.id)
            await outbox.settle(claimed, ())
            for stored in claimed:
                self._settled(stored.event.id)
        lost = [(name, kind) for name, kind in self.confirmed if kind in ONCE and kind not in self.told.get(name, ())]
        assert not lost, f"never told: {sorted(lost)[:10]}"
        ids = list(self.ids.values())
        assert len(ids) == len(set(ids))
