"""Requests that are receiving a body, and how others make them stop.

A request that holds an upload's lock lets go when another wants it (the newest request wins), when the server shuts down, or
never; in each case it stops reading, keeps what it has, and answers with the refusal noted here.
"""

from __future__ import annotations

from tusd_py.ports.body import Body
from tusd_py.protocol.refusals import Refusal, ServerShutdown, UploadInterrupted

__all__ = ["Hold", "Holds"]


class Hold:
    """One request's hold on an upload while its body arrives."""

    __slots__ = ("_body", "refusal")

    def __init__(self, body: Body) -> None:
        self._body = body
        self.refusal: Refusal | None = None

    def interrupt(self) -> None:
        """Another request wants the upload."""
        self.stop(UploadInterrupted())

    def stop(self, refusal: Refusal) -> None:
        """Stop reading and answer `refusal`; the first reason counts."""
        if self.refusal is None:
            self.refusal = refusal
            self._body.stop()


class Holds:
    """All holds of this process."""

    def __init__(self) -> None:
        self._holds: set[Hold] = set()
        self.closing = False

    def begin(self, body: Body) -> Hold:
        """A hold, to be ended by `end`. Raises `ServerShutdown` once the server is closing."""
        if self.closing:
            raise ServerShutdown
        hold = Hold(body)
        self._holds.add(hold)
        return hold

    def end(self, hold: Hold) -> None:
        """The request does not receive any more."""
        self._holds.discard(hold)

    def close(self) -> None:
        """Stop all requests that are receiving a body and refuse new ones."""
        self.closing = True
        for hold in tuple(self._holds):
            hold.stop(ServerShutdown())

    def __len__(self) -> int:
        return len(self._holds)
