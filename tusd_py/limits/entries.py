"""What the account keeps of an upload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tusd_py.limits.rules import owner_key
from tusd_py.protocol.upload import Upload

__all__ = ["Entry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One upload in the account: sizes in bytes, `active_at` in seconds since the epoch.

    `finished` says that no more bytes come, `final` that they are other uploads'.
    """

    id: str
    owner: str
    length: int | None
    offset: int
    active_at: float
    finished: bool
    final: bool

    @classmethod
    def of(cls, upload: Upload, active_at: float) -> Self:
        """A final that can never be finished has no bytes, and none will come."""
        failed = upload.failure is not None
        return cls(
            id=upload.id,
            owner=owner_key(upload.owner),
            length=upload.offset if failed else upload.length,
            offset=upload.offset,
            active_at=active_at,
            finished=failed or upload.complete,
            final=upload.is_final,
        )

    @property
    def stored(self) -> int:
        """What counts against the quota: what is here or has been announced."""
        return self.offset if self.length is None else self.length

    @property
    def awaited(self) -> int:
        """What is still to come, as far as it is known."""
        return 0 if self.finished or self.length is None else max(0, self.length - self.offset)

    def runs(self, since: float) -> bool:
        """Whether bytes have come since then, and more may."""
        return not self.finished and not self.final and self.active_at > since
