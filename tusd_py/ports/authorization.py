"""Who may do what: one question for every request, whoever answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tusd_py.ports.call import Claim
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["Action", "Authorizer", "Decision", "allow", "deny"]


class Action(StrEnum):
    """What a request wants to do."""

    CREATE = "create"
    APPEND = "append"
    DESCRIBE = "describe"
    DOWNLOAD = "download"
    TERMINATE = "terminate"
    LIST = "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer. Make one with `allow` or `deny`.

    `owner` says who asks: an upload belongs to who created it, and nobody else may touch it whatever the other fields say,
    unless `any_owner` is set (an administrator, or a capability in the upload's own URL).

    For a creation, `max_size` in bytes bounds the upload, `metadata` must be among the upload's own pairs, and `claim` is
    called once nothing else speaks against the creation, to use up a permission that can be used once: it returns how to give
    it back in case that storing fails, or raises a `Refusal`.

    A denial has a `status` (401, 403 or 404), a message that the client sees, and headers (WWW-Authenticate).
    """

    allowed: bool
    owner: str | None = None
    any_owner: bool = False
    max_size: int | None = None
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    claim: Claim | None = None
    status: int = 403
    message: str = "not allowed"
    headers: Mapping[str, str] = field(default_factory=dict)


def allow(
    owner: str | None = None,
    *,
    any_owner: bool = False,
    max_size: int | None = None,
    metadata: Mapping[str, bytes] | None = None,
    claim: Claim | None = None,
) -> Decision:
    """Yes, within the given bounds."""
    return Decision(
        allowed=True, owner=owner, any_owner=any_owner, max_size=max_size, metadata=metadata or {}, claim=claim
    )


def deny(message: str = "not allowed", *, status: int = 403, headers: Mapping[str, str] | None = None) -> Decision:
    """No, and why."""
    return Decision(allowed=False, status=status, message=message, headers=headers or {})


class Authorizer(Protocol):
    """Decides on every request, before its body is read and before anybody who holds the upload is disturbed."""

    async def authorize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
        """May this request do that? `upload` is None for CREATE and LIST. What it raises is an error of the server: 500."""

    def sign_url(self, upload: Upload) -> str:
        """What to add to the upload's URL in `Location`, with its `?`, so that the URL itself is a permission; mostly empty."""
