"""What may be done to an upload: pure checks of a command against a record, a policy and a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tusd_py.protocol.commands import Append, Create
from tusd_py.protocol.refusals import (
    ConcatenationUnsupported,
    InvalidConcat,
    InvalidUploadLength,
    MaxSizeExceeded,
    MismatchedOffset,
    ModifyFinal,
    SizeExceeded,
)
from tusd_py.protocol.upload import MAX_LENGTH, Upload

__all__ = [
    "Policy",
    "append_limit",
    "check_append",
    "check_create",
    "check_partials",
    "concatenated_length",
    "expires_at",
    "is_expired",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this server allows. Sizes in bytes, times in seconds, None is no limit."""

    max_size: int | None = None
    expiry: float | None = None
    downloads: bool = True
    termination: bool = True
    concatenation: bool = True
    strict_metadata: bool = False

    @property
    def ceiling(self) -> int:
        """The largest length an upload may have."""
        return MAX_LENGTH if self.max_size is None else self.max_size


def check_create(command: Create, policy: Policy, max_size: int | None = None) -> int:
    """How many bytes of body the new upload takes. Raises the `Refusal` that applies; rows R09, N12, N21, W04, D08.

    `max_size` is the limit of who asks, beside the server's own.
    """
    if (command.is_partial or command.partials is not None) and not policy.concatenation:
        raise ConcatenationUnsupported
    if command.partials is not None:
        if command.payload is not None and command.payload.length != 0:
            raise ModifyFinal
        return 0
    ceiling = policy.ceiling if max_size is None else min(max_size, policy.ceiling)
    if command.length is not None and command.length > ceiling:
        raise MaxSizeExceeded
    limit = ceiling if command.length is None else command.length
    if command.payload is not None and (command.payload.length or 0) > limit:
        raise SizeExceeded if command.length is not None else MaxSizeExceeded
    return limit


def check_append(command: Append, upload: Upload, policy: Policy) -> int | None:
    """The upload's length after this append. Raises the `Refusal` that applies; rows P03, P08, P13, P20, D05 to D08, N13."""
    if upload.is_final:
        raise ModifyFinal
    if command.offset != upload.offset:
        raise MismatchedOffset(headers={"Upload-Offset": str(upload.offset)})
    length = upload.length
    if command.length is not None:
        length = _declared_length(command.length, upload, policy)
    limit = append_limit(upload, length, policy)
    if (command.payload.length or 0) > limit:
        raise SizeExceeded if length is not None else MaxSizeExceeded
    return length


def _declared_length(declared: int, upload: Upload, policy: Policy) -> int:
    if upload.length is not None:
        if declared != upload.length:
            raise InvalidUploadLength(f"invalid Upload-Length header: the length of this upload is {upload.length} already")
    elif declared < upload.offset:
        raise InvalidUploadLength(f"invalid Upload-Length header: {upload.offset} bytes are here already")
    elif declared > _ceiling(upload, policy):
        raise MaxSizeExceeded
    return declared


def append_limit(upload: Upload, length: int | None, policy: Policy) -> int:
    """How many more bytes an upload of this length takes. An undeclared length does not lift the maximum (D08)."""
    return max(0, (_ceiling(upload, policy) if length is None else length) - upload.offset)


def _ceiling(upload: Upload, policy: Policy) -> int:
    """The largest length that this upload may be declared to have."""
    return policy.ceiling if upload.max_size is None else min(upload.max_size, policy.ceiling)


def check_partials(partials: Iterable[Upload], policy: Policy) -> int | None:
    """The length of a final upload made of these. Raises `InvalidConcat` (N08) or `MaxSizeExceeded` (N17)."""
    partials = tuple(partials)
    for partial in partials:
        if not partial.is_partial or partial.is_final:
            raise InvalidConcat("invalid Upload-Concat header: one of the uploads is not a partial upload")
        if partial.failure is not None:
            raise InvalidConcat("invalid Upload-Concat header: one of the uploads can't be finished")
    length = concatenated_length(partials)
    if (length or 0) > policy.ceiling:
        raise MaxSizeExceeded
    return length


def concatenated_length(partials: Iterable[Upload]) -> int | None:
    """The sum of the lengths; None while one of them is deferred (N22)."""
    total = 0
    for partial in partials:
        if partial.length is None:
            return None
        total += partial.length
    return total


def expires_at(upload: Upload, policy: Policy) -> float | None:
    """When this upload will be removed unless more bytes come; None where it never will. Finished uploads stay (X04, X09)."""
    if policy.expiry is None or upload.finished:
        return None
    return upload.active_at + policy.expiry


def is_expired(upload: Upload, policy: Policy, now: float) -> bool:
    """Whether the upload's time is over (X06)."""
    deadline = expires_at(upload, policy)
    return deadline is not None and now >= deadline
