"""Failures as the client sees them."""

from __future__ import annotations

import logging

import pytest

from tusd_py.asgi.errors import refusal_for
from tusd_py.ports import failures
from tusd_py.ports.failures import (
    LockTimeout,
    OutOfSpace,
    ReadOnlyStorage,
    RecordDamaged,
    StorageFailure,
    UploadExists,
    UploadNotFound,
)
from tusd_py.protocol import refusals
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.refusals import (
    LockTimedOut,
    MismatchedOffset,
    Refusal,
    StorageBroken,
    StorageFull,
    StorageReadOnly,
    UploadConflict,
    UploadMissing,
)

MAPPED: list[tuple[Exception, type[Refusal]]] = [
    (OutOfSpace("secret"), StorageFull),
    (ReadOnlyStorage("secret"), StorageReadOnly),
    (UploadNotFound("secret"), UploadMissing),
    (LockTimeout("secret"), LockTimedOut),
    (StorageFailure("secret"), StorageBroken),
    (RecordDamaged("secret"), StorageBroken),
    (UploadExists("secret"), UploadConflict),
    (OSError("secret"), StorageBroken),
    (ValueError("secret"), StorageBroken),
]


@pytest.mark.parametrize(("failure", "refusal"), MAPPED)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "GET"])
def test_failures_become_refusals(
    failure: Exception, refusal: type[Refusal], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = refusal_for(failure, method, "/files/a")
    assert type(found) is refusal
    assert "secret" not in found.body, "which is for the log alone"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "secret" in record.getMessage()
    assert record.fields == {"method": method, "path": "/files/a", "status": refusal.status}  # type: ignore[attr-defined]
    assert bool(record.exc_info) is (refusal is StorageBroken)
    assert record.getMessage().startswith("storage failed") is isinstance(failure, StorageFailure)


def test_every_failure_is_mapped() -> None:
    assert {type(failure).__name__ for failure, _ in MAPPED} >= set(failures.__all__)


@pytest.mark.parametrize("failure", [failure for failure, refusal in MAPPED if refusal is not UploadConflict])
def test_a_head_is_never_answered_5xx(failure: Exception) -> None:
    """On those, tus-js-client forgets the upload."""
    assert refusal_for(failure, "HEAD", "/files/a").status in (404, 423)


@pytest.mark.parametrize(
    "failure",
    [refusals.HookFailed("away"), refusals.FinishRejected().shaped(HttpResponse(status=503, headers={"Retry-After": "9"}))],
)
def test_a_hook_that_fails_does_not_make_clients_start_over(failure: Refusal) -> None:
    assert refusal_for(failure, "PATCH", "/files/a") is failure
    found = refusal_for(failure, "HEAD", "/files/a")
    assert found.status == 423 and found.headers == failure.headers


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_refusals_stay(method: str, caplog: pytest.LogCaptureFixture) -> None:
    refusal = MismatchedOffset("why", headers={"Upload-Offset": "5"})
    assert refusal_for(refusal, method, "/") is refusal
    assert not caplog.records


def test_refusals_for_our_own_failures_are_5xx_or_lock() -> None:
    statuses = {getattr(refusals, name).status for name in refusals.__all__ if name.startswith("Storage")}
    assert statuses == {500, 507}
