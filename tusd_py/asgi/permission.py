"""Asks the authorizer about a request, and turns its answer into going on or a refusal. Who owns an upload matters here and
nowhere else."""

from __future__ import annotations

import asyncio
import logging

from tusd_py.ports.authorization import Action, Authorizer, Decision
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import AuthorizationFailed, Forbidden, LockTimedOut, Refusal, Unauthorized, UploadMissing
from tusd_py.protocol.upload import Upload

__all__ = ["AUTHORIZATION_TIMEOUT", "check_metadata", "may_touch", "permit"]

_log = logging.getLogger("tusd_py.asgi")

AUTHORIZATION_TIMEOUT = 10.0
"""Seconds that an authorizer may think about a request: enough for a slow database, less than proxies and clients wait."""

_BY_STATUS: dict[int, type[Refusal]] = {401: Unauthorized, 403: Forbidden, 404: UploadMissing}


async def permit(authorizer: Authorizer, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
    """The decision that allows the request. `upload` is None for CREATE and LIST.

    Raises `Unauthorized`, `Forbidden` (also for an upload of somebody else) or `UploadMissing`, as the authorizer says. Raises
    `AuthorizationFailed` if the authorizer fails or takes longer than `AUTHORIZATION_TIMEOUT`; what it raised is for the log
    alone.
    """
    decision = await _ask(authorizer, request, action, upload)
    if not decision.allowed:
        raise _BY_STATUS.get(decision.status, Forbidden)(decision.message, headers=decision.headers)
    if upload is not None and not may_touch(decision, upload):
        raise Forbidden("this upload belongs to somebody else")
    return decision


async def _ask(authorizer: Authorizer, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
    try:
        async with asyncio.timeout(AUTHORIZATION_TIMEOUT):
            return await authorizer.authorize(request, action, upload)
    except Refusal:
        raise
    except Exception as failure:  # of whatever kind: the authorizer may be anybody's code
        _log.error("authorization failed: %r", failure, exc_info=True, extra={"fields": {"action": action.value}})
    if action is Action.DESCRIBE:
        # On a 5xx for a HEAD tus-js-client forgets the upload and starts over from byte 0 (H09, J12).
        raise LockTimedOut("permission can't be checked just now")
    raise AuthorizationFailed


def may_touch(decision: Decision, upload: Upload) -> bool:
    """Whether who asks may touch an upload. One without an owner was created when nobody had to say who they are, or by
    credentials without an owner: it is everybody's whom the authorizer lets in."""
    return upload.owner is None or decision.any_owner or decision.owner == upload.owner


def check_metadata(decision: Decision, metadata: Metadata) -> None:
    """Raises `Forbidden` unless each pair that the decision asks for is among the upload's, byte for byte."""
    for key, value in decision.metadata.items():
        if metadata.pairs.get(key) != value:
            raise Forbidden(f"the metadata {key!r} is not what this permission asks for")
