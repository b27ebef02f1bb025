"""Contents that differ in some places share all but a few chunks."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tusd_py_cas.ingest.windows import WINDOW
from tusd_py_cas.model import Parameters

from tests.cas.ingest.taking import MEDIUM, Take

Taker = Callable[[bytes], Take]


@pytest.fixture
def parameters() -> Parameters:
    return MEDIUM


EDITS = {
    "insert": lambda data, at: data[:at] + b"inserted" + data[at:],
    "delete": lambda data, at: data[:at] + data[at + 1000 :],
    "overwrite": lambda data, at: data[:at] + b"overwritten" + data[at + 11 :],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("at", [0, 1 << 20, 20 << 20, (40 << 20) - 1000])
def test_an_edit_makes_few_new_chunks(edit: str, at: int, take: Taker) -> None:
    data = random.Random(4).randbytes(40 << 20)
    take(data)
    edited = take(EDITS[edit](data, at))
    assert edited.ingested.chunks_new <= 5, "the chunk that was edited, and those until the cuts are in step again"
    assert edited.ingested.chunks > 400
    again = take(EDITS[edit](data, at))
    assert (again.manifest, again.ingested.chunks_new) == (edited.manifest, 0)


def test_content_that_goes_on_or_ends_early(take: Taker) -> None:
    data = random.Random(5).randbytes(2 * WINDOW)
    take(data)
    for other in (data + b"x", data[:-1], data[: WINDOW + 5], data + data):
        assert take(other).ingested.chunks_new <= 3
    assert take(data).ingested.chunks_new == 0
