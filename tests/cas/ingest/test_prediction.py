"""What is predicted is what would have been cut."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, cast

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from tusd_py_cas.index import Index
from tusd_py_cas.ingest.prediction import Prediction
from tusd_py_cas.model import Codec, Manifest, Piece, StoredChunk

from tests.cas.ingest.test_cutting import PARAMETERS, cut_whole


class KnownContent:
    """As much of an index as a prediction needs."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        name = blake3(data).digest()
        self.manifest = Manifest(1, name, len(data), name, b"", False, 0.0)

    def pieces(self, manifest: Manifest, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        assert manifest == self.manifest
        for at, size in cut_whole(self.data):
            yield Piece(at, StoredChunk(blake3(self.data[at : at + size]).digest(), size, size, Codec.RAW))


def predict(known: bytes, data: bytes, window: int = 4096) -> tuple[list[tuple[int, int]], bool]:
    """All that is predicted, and whether it holds at the end."""
    content = KnownContent(known)
    prediction = Prediction(cast(Index, content), content.manifest, len(data), PARAMETERS.max_size)
    position, cuts = 0, []
    while position < len(data) and prediction.holds:
        view = memoryview(data)[position : position + window]
        found = prediction.cut(view, position)
        assert found or not prediction.holds, "there is progress"
        cuts += [(position + cut.start, cut.size) for cut in found]
        position = sum(cuts[-1]) if cuts else 0
        assert all(cut.name == blake3(view[cut.start : cut.end]).digest() for cut in found)
    return cuts, prediction.holds


DATA = random.Random(1).randbytes(50_000)


def test_the_same_content() -> None:
    assert predict(DATA, DATA) == (cut_whole(DATA), True)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_only_cuts_that_would_have_been_made(data: Any) -> None:
    known = random.Random(data.draw(st.integers(0, 3))).randbytes(20_000)[: data.draw(st.integers(1, 20_000))]
    known = data.draw(st.sampled_from([known, known + bytes(5000), bytes(5000) + known]))
    at = data.draw(st.integers(0, len(known)))
    changes = [b"", b"x", known[at : at + 1], bytes(3000), known[:3000]]
    other = known[:at] + data.draw(st.sampled_from(changes)) + known[at + data.draw(st.integers(0, 2)) :]
    if other:
        cuts, holds = predict(known, other, window=data.draw(st.integers(2048, 9000)))
        assert cuts == cut_whole(other)[: len(cuts)]
        assert holds is (other == known)


def test_a_chunk_is_not_predicted_by_its_bytes_alone() -> None:
    first, second = cut_whole(DATA)[:2]
    behind = first[1] + second[1]
    differs = [bytes([byte]) for byte in range(256) if cut_whole(DATA[:behind] + bytes([byte]) + bytes(2000))[1] != second]
    assert differs
    for byte in differs:
        assert predict(DATA, DATA[:behind] + byte + bytes(2000)) == ([first], False)


@pytest.mark.parametrize("more", [b"x", bytes(100_000)])
def test_a_content_that_goes_on(more: bytes) -> None:
    cuts, holds = predict(DATA, DATA + more)
    assert not holds
    assert cuts == cut_whole(DATA)[:-1]


@pytest.mark.parametrize("cut", [1, 100, 30_000])
def test_a_content_that_ends_early(cut: int) -> None:
    cuts, holds = predict(DATA, DATA[:-cut])
    assert not holds
    assert cuts == [each for each in cut_whole(DATA) if sum(each) < len(DATA) - cut][: len(cuts)]
    assert len(cuts) >= len(cut_whole(DATA[:-cut])) - 3


def test_chunks_of_the_largest_size_need_nothing_behind_them() -> None:
    zeros = bytes(10 * 1024)
    assert predict(zeros, zeros[:5120] + b"x" * 5120)[0] == cut_whole(zeros)[:5]
