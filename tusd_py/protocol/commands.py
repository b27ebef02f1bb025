"""What a client wants, whatever dialect it speaks. Made from a request head before a byte of the body is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from tusd_py.protocol.checksum import Claim
from tusd_py.protocol.metadata import Metadata

__all__ = ["Append", "Create", "Payload"]


@dataclass(frozen=True, slots=True)
class Payload:
    """A body that belongs into the upload: `length` bytes, or None while only its framing will tell (chunked).

    `claim` is the digest announced in a header; `trailer_claim` says that one comes behind the body (checksum-trailer).
    """

    length: int | None
    claim: Claim | None = None
    trailer_claim: bool = False

    @property
    def verified(self) -> bool:
        """Whether the bytes may be kept as they come, without a digest to wait for."""
        return self.claim is None and not self.trailer_claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Make an upload. `length` is None while deferred; `partials` are ids, and set for a final upload only."""

    length: int | None
    metadata: Metadata = field(default_factory=Metadata)
    is_partial: bool = False
    partials: tuple[str, ...] | None = None
    concat: str | None = None
    payload: Payload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Add a body to an upload at `offset`, perhaps declaring its length."""

    upload_id: str
    offset: int
    payload: Payload
    length: int | None = None
