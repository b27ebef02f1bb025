"""What came of a body, and what of it the client is told."""

from __future__ import annotations

import pytest

from tusd_py.ports.body import BodyEnd
from tusd_py.ports.failures import OutOfSpace
from tusd_py.protocol.refusals import (
    MalformedBody,
    ReadTimeout,
    Refusal,
    ServerShutdown,
    SizeExceeded,
    UnexpectedEof,
    UploadInterrupted,
)
from tusd_py.uploads.receiving import Reception

TOLD: list[tuple[BodyEnd, Refusal | None, type[Refusal]]] = [
    (BodyEnd.EXCESS, None, SizeExceeded),
    (BodyEnd.CUT, None, UnexpectedEof),
    (BodyEnd.STALLED, None, ReadTimeout),
    (BodyEnd.MALFORMED, None, MalformedBody),
    (BodyEnd.STOPPED, None, UnexpectedEof),
    (BodyEnd.STOPPED, UploadInterrupted(), UploadInterrupted),
    (BodyEnd.STOPPED, ServerShutdown(), ServerShutdown),
    (BodyEnd.CUT, ServerShutdown(), UnexpectedEof),
]


@pytest.mark.parametrize(("end", "stopped_by", "refusal"), TOLD)
def test_ends(end: BodyEnd, stopped_by: Refusal | None, refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        Reception(5, end).check(stopped_by)


@pytest.mark.parametrize("stopped_by", [None, UploadInterrupted()])
def test_a_whole_body_is_a_whole_body_though_somebody_wanted_it_stopped(stopped_by: Refusal | None) -> None:
    Reception(5, BodyEnd.COMPLETE).check(stopped_by)


def test_a_failure_is_told_first() -> None:
    with pytest.raises(OutOfSpace):
        Reception(5, None, OutOfSpace("full")).check(UploadInterrupted())
