"""What may be created: figures in, a `Refusal` or None out. Knows no account, no clock and no file system.

All limits are asked at creation, and when a deferred length is declared; an upload that runs is never refused by any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil

from tusd_py.protocol.refusals import QuotaExceeded, RateLimited, Refusal, StorageFull, TooManyUploads
from tusd_py.protocol.upload import Upload

__all__ = [
    "BUSY_RETRY",
    "RUNNING",
    "Figures",
    "LimitSettings",
    "arrival_after",
    "client_key",
    "judge",
    "judge_length",
    "owner_key",
]

RUNNING = 60.0
"""Seconds without a byte after which an upload no longer counts as running: as long as a silent connection is given
(-network-timeout), so that one that was dropped holds its place for no longer than one that hangs."""

BUSY_RETRY = 5
"""Seconds after which to ask again when all places are taken. Nobody knows when an upload will end; most end soon."""

MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """The limits; None is no limit. Sizes in bytes.

    `quota` bounds what one owner has stored, `max_uploads` and `max_uploads_per_owner` how many uploads run at once,
    `create_rate` how many a client creates in a minute. `min_free` is what stays free on the disk beside what is promised to
    other uploads; 0 still makes sure that what is promised is there, None does not look.
    """

    quota: int | None = None
    max_uploads: int | None = None
    max_uploads_per_owner: int | None = None
    create_rate: int | None = None
    min_free: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is any limit at all."""
        return any(getattr(self, name) is not None for name in self.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the account says when somebody asks. What no limit asks for may be left at zero.

    `stored` is what the owner's other uploads have, or are going to have, in bytes. `running` and `running_of_owner` count
    uploads. `arrival` is the time up to which the client has used its rate. `free` is what the disk has left for us, and
    `awaited` what other uploads have still to receive, in bytes.
    """

    stored: int = 0
    running: int = 0
    running_of_owner: int = 0
    arrival: float = 0.0
    free: int = 0
    awaited: int = 0


def judge(upload: Upload, limits: LimitSettings, figures: Figures, now: float) -> Refusal | None:
    """Why this upload may not be created; None where it may."""
    return next(_objections(upload, limits, figures, now), None)


def judge_length(upload: Upload, limits: LimitSettings, figures: Figures) -> Refusal | None:
    """Why a deferred upload may not become as long as `upload.length`, now that it is declared; None where it may.

    One that has all its bytes takes up nothing more, and is never refused.
    """
    if upload.complete:
        return None
    return _over_quota(upload, limits, figures) or _no_space(upload, limits, figures)


def _objections(upload: Upload, limits: LimitSettings, figures: Figures, now: float) -> Iterator[Refusal]:
    """All that speaks against it, what passes soonest first."""
    for found in (
        _too_fast(upload, limits, figures, now),
        _too_many(upload, limits, figures),
        _over_quota(upload, limits, figures),
        _no_space(upload, limits, figures),
    ):
        if found is not None:
            yield found


# Rates: the generic cell rate algorithm, a token bucket that is one number (ITU-T I.371, annex A).


def arrival_after(arrival: float, now: float, per_minute: int) -> float:
    """The time up to which a client has used its rate, after one more creation."""
    return _bounded(arrival, now) + MINUTE / per_minute


def _bounded(arrival: float, now: float) -> float:
    """As the clock may be set back, no more than anybody can have used up: two minutes' worth, with finals."""
    return min(max(arrival, now), now + 2 * MINUTE)


def _too_fast(upload: Upload, limits: LimitSettings, figures: Figures, now: float) -> RateLimited | None:
    """A client that was idle may create a minute's worth at once; then one each time that its rate allows.

    A final comes when all its bytes have been sent, and clients do not repeat it: it may go a minute's worth into debt.
    """
    if limits.create_rate is None:
        return None
    allowed = 2 * MINUTE if upload.is_final else MINUTE
    wait = arrival_after(figures.arrival, now, limits.create_rate) - now - allowed
    if wait < 1e-6:  # what adding up the parts of a minute may be off by
        return None
    return RateLimited(headers={"Retry-After": str(ceil(wait))})


def client_key(owner: str | None, client: str) -> str:
    """Whose rate it is: the owner's, else the address's. Who has one IPv6 address has its whole /64, and counts as one."""
    if owner:
        return f"owner {owner}"
    try:
        address = ip_address(client.partition("%")[0].strip("[]"))
    except ValueError:
        return f"client {client}"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return f"client {address.ipv4_mapped}"
        return f"client {IPv6Address(int(address) >> 64 << 64)}/64"
    return f"client {address}"


# Places


def _too_many(upload: Upload, limits: LimitSettings, figures: Figures) -> TooManyUploads | None:
    """Finals receive no bytes, and take no place."""
    if upload.is_final:
        return None
    for running, most in ((figures.running, limits.max_uploads), (figures.running_of_owner, limits.max_uploads_per_owner)):
        if most is not None and running >= most:
            return TooManyUploads(headers={"Retry-After": str(BUSY_RETRY)})
    return None


# Room


def owner_key(owner: str | None) -> str:
    """Under which an owner's bytes are counted. Those without an owner count as one."""
    return owner or ""


def _over_quota(upload: Upload, limits: LimitSettings, figures: Figures) -> QuotaExceeded | None:
    """An upload of unknown length needs one byte at least; an empty one nothing, and is let through."""
    needed = 1 if upload.length is None else upload.length
    if limits.quota is None or not needed or figures.stored + needed <= limits.quota:
        return None
    return QuotaExceeded(
        f"the storage quota of this owner is used up: {figures.stored} of {limits.quota} bytes are taken, {needed} are needed"
    )


def _no_space(upload: Upload, limits: LimitSettings, figures: Figures) -> StorageFull | None:
    """The bytes that are to come must fit beside those that others were promised. The client is not told how much there is."""
    if limits.min_free is None:
        return None
    needed = 0 if upload.length is None else upload.length - upload.offset
    if figures.free - figures.awaited - limits.min_free >= needed:
        return None
    return StorageFull("there is no room on the server for this upload")
