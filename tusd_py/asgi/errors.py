"""What goes wrong, as the client sees it. Infrastructure failures become refusals here; their text is for the log alone."""

from __future__ import annotations

import logging

from tusd_py.ports.failures import LockTimeout, OutOfSpace, ReadOnlyStorage, StorageFailure, UploadExists, UploadNotFound
from tusd_py.protocol.refusals import (
    FinishRejected,
    HookFailed,
    LockTimedOut,
    Refusal,
    StorageBroken,
    StorageFull,
    StorageReadOnly,
    UploadConflict,
    UploadMissing,
)

__all__ = ["refusal_for"]

_log = logging.getLogger("tusd_py.asgi")

_REFUSALS: tuple[tuple[type[Exception], type[Refusal]], ...] = (
    (OutOfSpace, StorageFull),
    (ReadOnlyStorage, StorageReadOnly),
    (UploadNotFound, UploadMissing),
    (UploadExists, UploadConflict),
    (LockTimeout, LockTimedOut),
)


def refusal_for(failure: Exception, method: str, path: str) -> Refusal:
    """The refusal that a failure becomes. A HEAD that fails for our own reasons, or those of a hook that it has asked again, is
    `locked`, never 5xx: on those, tus-js-client forgets the upload and starts over from byte 0 (H09, J12)."""
    if isinstance(failure, Refusal):
        if method == "HEAD" and failure.status >= 500 and isinstance(failure, HookFailed | FinishRejected):
            return LockTimedOut(f"the upload can't be looked at just now: {failure}", headers=failure.headers)
        return failure
    refusal = next((refusal for kind, refusal in _REFUSALS if isinstance(failure, kind)), StorageBroken)
    _log.error(
        "%s: %s",
        "storage failed" if isinstance(failure, StorageFailure) else "unexpected failure",
        failure,
        exc_info=refusal is StorageBroken,
        extra={"fields": {"method": method, "path": path, "status": refusal.status}},
    )
    if method == "HEAD" and refusal.status >= 500:
        return LockTimedOut("the upload can't be looked at just now")
    answer = refusal()
    answer.__cause__ = failure  # for the log
    return answer
