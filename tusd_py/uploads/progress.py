"""How far an upload has come and what it is doing, as whoever watches it is told. Takes no lock and disturbs nobody.

What this process receives is known to the byte and at once. Of what another process receives, the store tells: the record's
offset, which in tusd's directory grows while bytes come in, and when the last byte came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from tusd_py.protocol.rules import Policy
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.holding import Running

__all__ = ["ENDED", "Progress", "ProgressSource", "State", "of_record", "of_running", "progress_of", "terminated"]

RECENT = 2.0
"""Seconds after the last byte for which an upload of another process counts as being received: a client that sends piece by
piece would flicker otherwise."""


class State(StrEnum):
    """What an upload is doing. `HELD`: it is complete, and waits for the pre-finish hook. `TERMINATED` is told to watchers
    only: deleted or expired."""

    RECEIVING = "receiving"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    HELD = "held"
    TERMINATED = "terminated"


ENDED = frozenset({State.FINISHED, State.FAILED, State.TERMINATED})
"""States after which nothing more is told of an upload."""


class ProgressSource(Protocol):
    """What has to be known about uploads: a part of `tusd_py.uploads.Uploads`."""

    @property
    def policy(self) -> Policy: ...

    def running(self) -> Iterable[Running]:
        """What this process is receiving at this moment."""

    async def look(self, upload_id: str) -> Upload:
        """The record, without a lock. Raises `UploadMissing`, `UploadGone`, `UploadDamaged`, `StorageFailure`."""

    def ids(self) -> AsyncIterator[str]:
        """Ids of all records, in no order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A sample. `offset` in bytes counts what has come, `upload.offset` what is confirmed. `started_at`, in seconds since the
    epoch, says when the body that is coming in began; None where no body is, or another process receives it. `rate` is bytes
    per second; None where nothing comes in, or where it takes another sample to know."""

    upload: Upload
    offset: int
    state: State
    started_at: float | None = None
    rate: float | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def differs(self, earlier: Progress) -> bool:
        """Whether there is something to tell who has seen `earlier`."""
        return (self.offset, self.state, self.upload.length) != (earlier.offset, earlier.state, earlier.upload.length)


def of_running(running: Running, now: float, monotonic: float) -> Progress:
    """An upload that this process is receiving; its rate is the mean since the body began. Times in seconds, by both clocks."""
    elapsed = max(monotonic - running.started, 0.0)
    came = max(running.position - running.upload.offset, 0)
    return Progress(
        upload=running.upload,
        offset=running.upload.offset + came,
        state=State.RECEIVING,
        started_at=now - elapsed,
        rate=came / elapsed if elapsed else None,
    )


def of_record(upload: Upload, now: float) -> Progress:
    """An upload that this process is not receiving; `now` in seconds since the epoch."""
    return Progress(upload=upload, offset=upload.offset, state=_state(upload, now))


def _state(upload: Upload, now: float) -> State:
    if upload.failure is not None:
        return State.FAILED
    if upload.finished:
        return State.FINISHED
    if upload.complete:
        return State.HELD
    if upload.offset and not upload.is_final and abs(now - upload.active_at) < RECENT:
        return State.RECEIVING
    return State.PAUSED


def terminated(last: Progress) -> Progress:
    """The end of an upload that was `last` seen as this, and is not there any more."""
    return Progress(upload=last.upload, offset=last.offset, state=State.TERMINATED)


def progress_of(source: ProgressSource, upload: Upload, now: float, monotonic: float) -> Progress:
    """How far the upload with this record has come."""
    for running in source.running():
        if running.upload.id == upload.id:
            return replace(of_running(running, now, monotonic), upload=upload)
    return of_record(upload, now)
