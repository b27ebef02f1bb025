"""What the use cases of one store have in common: its adapters, its rules, and who is asked and told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tusd_py.ports.clock import Clock
from tusd_py.ports.datastore import DataStore
from tusd_py.ports.infostore import InfoStore
from tusd_py.ports.limits import Limiter
from tusd_py.ports.locker import Locker
from tusd_py.ports.observer import Observer
from tusd_py.protocol.rules import Policy
from tusd_py.uploads.announcing import Announcer
from tusd_py.uploads.gates import Gates
from tusd_py.uploads.sniffing import TypeGate

__all__ = ["Durability", "Parts"]


class Durability(Enum):
    """When bytes and record are synced to disk (architecture, section 2)."""

    NONE = "none"
    FINAL = "final"
    EVERY_PATCH = "every-patch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """None where nobody wants to hear of events, and where sizes, numbers or types are not limited."""

    data: DataStore
    info: InfoStore
    locker: Locker
    policy: Policy
    gates: Gates
    announcer: Announcer | None
    limiter: Limiter | None
    types: TypeGate | None
    observer: Observer
    durability: Durability
    clock: Clock

    @property
    def durable(self) -> bool:
        return self.durability is not Durability.NONE
