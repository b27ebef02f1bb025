"""The body of a request, as the use cases see it: something that can be pumped into a sink and stopped at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

__all__ = ["Body", "BodyEnd", "Sink"]


class BodyEnd(Enum):
    """Why `Body.pump` returned. Whatever the reason, every byte received before it was given to the sink."""

    COMPLETE = "the whole body, as its framing says"
    EXCESS = "the body goes on beyond the limit; nothing beyond it reached the sink"
    CUT = "the client closed or reset the connection before the end of the body"
    STALLED = "no byte came for as long as the network timeout"
    STOPPED = "somebody called stop()"
    MALFORMED = "the chunked framing is broken; what came before it is good"


class Sink(Protocol):
    """Where bytes go. Called by one thread at a time, on the event loop for small pieces and off it for large ones."""

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take all of `data`, blocking as a file does. The buffer is the caller's again afterwards.

        Raises `StorageFailure`; then some prefix of `data` may have been taken, and the pump ends.
        """


class Body(Protocol):
    """A request's body. `pump` is called at most once; `stop` at any time, any number of times, on the event loop."""

    @property
    def length(self) -> int | None:
        """Bytes to come, from Content-Length; None when the framing tells only at the end (chunked)."""

    @property
    def ready(self) -> bool:
        """Whether all of it is here already, so that `pump` does not wait for anything."""

    @property
    def trailers(self) -> Mapping[bytes, bytes]:
        """Trailer fields, lower-case names, once `pump` returned COMPLETE. Never mixed with the headers (K17)."""

    async def pump(self, sink: Sink, limit: int) -> BodyEnd:
        """Give the body to `sink`, at most `limit` bytes; returns why it ended.

        Sends `100 Continue` first where the client waits for it. Raises what `sink.write` raises.
        """

    def stop(self) -> None:
        """Stop reading at once; what was received so far is still given to the sink, then `pump` returns STOPPED."""
