"""The record of an upload: what is known about it, whatever store it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tusd_py.protocol.metadata import Metadata

__all__ = ["MAX_LENGTH", "Upload"]

MAX_LENGTH = 2**63 - 1
"""Largest length and offset (R08): file offsets, SQL integers and Go's int64 end there."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload. Sizes in bytes, times in seconds since the epoch, absent is None; a change is a new record.

    `length` is None while deferred; for a final upload, while the length of some partial is unknown.
    `partials` lists the ids a final upload is made of and is None for all others; `concat` is the client's own
    `Upload-Concat` value, echoed on HEAD (N15); `failure` says why a final can never be finished (N23).
    `active_at` is when bytes last arrived; expiry slides with it. `storage` is how the data store finds the bytes.
    `owner` is who created it, None where nobody was asked; `max_size` bounds a length that is still to be declared.
    A `held` upload does not count as finished before the pre-finish hook has accepted it.
    """

    id: str
    length: int | None
    offset: int = 0
    metadata: Metadata = field(default_factory=Metadata)
    is_partial: bool = False
    partials: tuple[str, ...] | None = None
    concat: str | None = None
    failure: str | None = None
    active_at: float = 0.0
    storage: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    max_size: int | None = None
    held: bool = False

    @property
    def is_final(self) -> bool:
        return self.partials is not None

    @property
    def relocated(self) -> bool:
        """Whether an extension has the bytes, all of them, so that there need be no file where tusd would have one."""
        return self.storage.get("Type", "filestore") not in _STORES

    @property
    def complete(self) -> bool:
        """Whether all bytes are here, whatever else there is to say against the upload."""
        return self.offset == self.length

    @property
    def finished(self) -> bool:
        return self.offset == self.length and self.failure is None and not self.held

    def evolve(self, **changes: Any) -> Self:
        """This record with some fields changed. Raises TypeError for a field that there is not.

        `dataclasses.replace` does the same at ten times the cost: it is no constructor that runs here.
        """
        changed = object.__new__(type(self))
        facts = changed.__dict__
        facts.update(self.__dict__, **changes)
        if len(facts) > _COUNT:
            raise TypeError(f"an upload has no {', '.join(sorted(facts.keys() - self.__dict__.keys()))}")
        return changed


_STORES = frozenset({"filestore", "s3store", "gcsstore", "azurestore", "memory"})
"""What stores write under `Storage.Type`: tusd's, and the one in memory."""

_COUNT = len(Upload.__dataclass_fields__)
