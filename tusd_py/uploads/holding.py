"""Requests that are receiving a body, and how others make them stop.

A request that holds an upload's lock lets go when another wants it (the newest request wins), when the server shuts down, or
never; in each case it stops reading, keeps what it has, and answers with the refusal noted here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tusd_py.ports.body import Body
from tusd_py.ports.call import NO_CALL, Call
from tusd_py.ports.datastore import Writer
from tusd_py.ports.extension import Received
from tusd_py.ports.observer import NO_OBSERVER, Observer
from tusd_py.protocol.refusals import Refusal, ServerShutdown, UploadInterrupted
from tusd_py.protocol.upload import Upload

__all__ = ["Hold", "Holds", "Running"]


@dataclass(frozen=True, slots=True)
class Running:
    """An upload that is being received at this moment. `upload` is its record as the body began, `position` how far it has
    come, `started` when the body began, in seconds of the monotonic clock."""

    upload: Upload
    position: int
    started: float


class Hold:
    """One request's hold on an upload while its body arrives."""

    __slots__ = ("__weakref__", "_body", "_count", "_observer", "_writer", "call", "refusal", "started", "told", "upload")

    def __init__(self, body: Body, call: Call, observer: Observer) -> None:
        self._body, self._observer = body, observer
        self.call = call
        self.refusal: Refusal | None = None
        self.upload: Upload | None = None
        self.told = 0  # the last position that was told as progress
        self._count = 0  # of bytes, once no more are coming
        self._writer: Writer | None = None
        self.started = 0.0

    def receive(self, upload: Upload, writer: Writer) -> None:
        """The body is about to be received into this upload."""
        self.upload, self._writer, self.started = upload, writer, time.monotonic()
        self.told = upload.offset

    def received(self) -> None:
        """No more of the body is coming: progress told from now on might come after the finish."""
        self._count, self._writer = self.count, None

    @property
    def count(self) -> int:
        """Bytes of the body that have come in."""
        if self._writer is None or self.upload is None:
            return self._count
        return self._writer.position - self.upload.offset

    @property
    def receiving(self) -> bool:
        """Whether the body is coming in."""
        return self._writer is not None

    @property
    def position(self) -> int:
        """How far the upload has come."""
        return 0 if self._writer is None else self._writer.position

    def interrupt(self) -> None:
        """Another request wants the upload."""
        if self.refusal is None and self.upload is not None:
            self._observer.upload_interrupted(self.upload.id)
        self.stop(UploadInterrupted())

    def stop(self, refusal: Refusal) -> None:
        """Stop reading and answer `refusal`; the first reason counts."""
        if self.refusal is None:
            self.refusal = refusal
            self._body.stop()


class Holds:
    """All holds of this process."""

    def __init__(self, observer: Observer = NO_OBSERVER) -> None:
        self._holds: set[Hold] = set()
        self._observer = observer
        self.closing = False
        self._begun = self._bytes = 0  # the latter of those that have ended

    def begin(self, body: Body, call: Call = NO_CALL) -> Hold:
        """A hold, to be ended by `end`. Raises `ServerShutdown` once the server is closing."""
        if self.closing:
            raise ServerShutdown
        hold = Hold(body, call, self._observer)
        self._begun += 1
        self._holds.add(hold)
        return hold

    def end(self, hold: Hold) -> None:
        """The request does not receive any more."""
        if hold in self._holds:
            self._holds.remove(hold)
            self._bytes += hold.count

    def count(self) -> Received:
        """What has come in since the start. This goes back where a body is dropped for its checksum."""
        return Received(self._begun, self._bytes + sum(hold.count for hold in self._holds))

    def receiving(self) -> Iterator[Hold]:
        """Those whose upload is known and whose body is coming in."""
        return (hold for hold in tuple(self._holds) if hold.receiving)

    def close(self) -> None:
        """Stop all requests that are receiving a body and refuse new ones."""
        self.closing = True
        for hold in tuple(self._holds):
            hold.stop(ServerShutdown())

    def __len__(self) -> int:
        return len(self._holds)
