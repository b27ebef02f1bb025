"""A body on its way into an upload: pumped, verified and committed.

The order that everything leans on: bytes first, then the record, then the answer; and with a checksum nothing is part of the
upload before the last byte is verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from tusd_py.ports.body import Body, BodyEnd, Sink
from tusd_py.ports.datastore import Writer
from tusd_py.protocol.checksum import ALGORITHMS, Claim, Hasher, parse_checksum
from tusd_py.protocol.commands import Payload
from tusd_py.protocol.refusals import InvalidChecksum, MalformedBody, ReadTimeout, Refusal, SizeExceeded, UnexpectedEof

__all__ = ["Reception", "receive"]

_REFUSALS: dict[BodyEnd, type[Refusal]] = {
    BodyEnd.EXCESS: SizeExceeded,
    BodyEnd.CUT: UnexpectedEof,
    BodyEnd.STALLED: ReadTimeout,
    BodyEnd.MALFORMED: MalformedBody,
}


@dataclass(frozen=True, slots=True)
class Reception:
    """What came of a body: the upload's bytes end at `position` now; `end` or `failure` says why no more came."""

    position: int
    end: BodyEnd | None = None
    failure: BaseException | None = None

    def check(self, stopped_by: Refusal | None) -> None:
        """Raise what the client has to be told, unless the whole body is there."""
        if self.failure is not None:
            raise self.failure
        if self.end is BodyEnd.STOPPED:
            raise stopped_by or UnexpectedEof()
        if self.end is not None and self.end is not BodyEnd.COMPLETE:
            raise _REFUSALS[self.end]()


async def receive(body: Body, payload: Payload, writer: Writer, sink: Sink, limit: int) -> Reception:
    """Pump `body` into `sink`, at most `limit` bytes, and commit what may be kept. The sink is the writer, or leads to it.

    What clients, disks and cancellations do is not raised but told, so that the record can follow the bytes before anybody
    hears of them.
    """
    if payload.verified:
        return await _receive_plain(body, writer, sink, limit)
    return await _receive_verified(body, payload, writer, sink, limit)


async def _receive_plain(body: Body, writer: Writer, sink: Sink, limit: int) -> Reception:
    end: BodyEnd | None = None
    failure: BaseException | None = None
    try:
        end = await body.pump(sink, limit)
    except BaseException as raised:
        failure = raised
    await writer.commit()
    return Reception(writer.position, end, failure)


async def _receive_verified(body: Body, payload: Payload, writer: Writer, sink: Sink, limit: int) -> Reception:
    start = writer.position
    names = [payload.claim.algorithm] if payload.claim is not None else list(ALGORITHMS)
    hashers = {name: ALGORITHMS[name].start() for name in names}
    try:
        end = await body.pump(_VerifyingSink(sink, hashers), limit)
        if end is not BodyEnd.COMPLETE:
            return Reception(start, end)
        claim = payload.claim or _trailer_claim(body)
        claim.check(hashers[claim.algorithm].digest())
        await writer.commit()
    except BaseException as failure:
        return Reception(start, failure=failure)
    return Reception(writer.position, end)


class _VerifyingSink:
    """Hashes on the way into a sink; for a claim that comes in the trailer, by every algorithm it might turn out to be."""

    __slots__ = ("_hashers", "_write")

    def __init__(self, sink: Sink, hashers: dict[str, Hasher]) -> None:
        self._write = sink.write
        self._hashers = tuple(hashers.values())

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        for hasher in self._hashers:
            hasher.update(data)
        self._write(data)


def _trailer_claim(body: Body) -> Claim:
    """The claim in the trailer. Raises `InvalidChecksum` where there is none or it can't be read (K14, K15)."""
    value = body.trailers.get(b"upload-checksum")
    if value is None:
        raise InvalidChecksum("Upload-Checksum was announced as a trailer and did not come")
    return parse_checksum(value)
