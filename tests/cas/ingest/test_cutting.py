"""Cuts do not depend on how the bytes come."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tusd_py_cas.ingest.cutting import Cutter
from tusd_py_cas.model import Parameters, RepositoryError

PARAMETERS = Parameters(seed=0x1234_5678_9ABC_DEF0 >> 1, min_size=64, avg_size=256, max_size=1024)


def cut_whole(data: bytes, parameters: Parameters = PARAMETERS) -> list[tuple[int, int]]:
    return [(cut.start, cut.size) for cut in Cutter(parameters).cut(memoryview(data), at_end=True)]


def cut_in_windows(data: bytes, sizes: list[int]) -> list[tuple[int, int]]:
    """As the engine does it: each window begins behind the last chunk that is final."""
    cutter, position, cuts = Cutter(PARAMETERS), 0, []
    while position < len(data):
        size = sizes[len(cuts) % len(sizes)]
        window = memoryview(data)[position : position + size]
        found = cutter.cut(window, at_end=position + size >= len(data))
        assert found, "a window of the largest chunk's size has always a chunk that is final"
        cuts += [(position + cut.start, cut.size) for cut in found]
        position += found[-1].end
    return cuts


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Runs of random bytes, of one byte, and of what was there before."""
    data = b""
    for seed, size, kind in draw(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6000), st.sampled_from(["random", "same", "again"])), max_size=6)
    ):
        if kind == "random":
            data += random.Random(seed).randbytes(size)
        elif kind == "same":
            data += bytes([seed]) * size
        else:
            data += data[:size]
    return data


@settings(max_examples=300, deadline=None)
@given(contents(), st.lists(st.integers(1024, 5000), min_size=1, max_size=5))
def test_windows_of_any_size_give_the_cuts_of_the_whole(data: bytes, sizes: list[int]) -> None:
    cuts = cut_in_windows(data, sizes)
    assert cuts == cut_whole(data)
    assert [start for start, _ in cuts] == [sum(size for _, size in cuts[:n]) for n in range(len(cuts))]
    assert sum(size for _, size in cuts) == len(data)


def test_sizes_are_bounded() -> None:
    sizes = [size for _, size in cut_whole(random.Random(1).randbytes(300_000))]
    assert all(64 <= size <= 1024 for size in sizes[:-1])
    assert cut_whole(bytes(10_000))[:-1] == [(n * 1024, 1024) for n in range(9)]


def test_where_a_chunk_ends_depends_on_the_byte_behind_it() -> None:
    """What `prediction` has to take into account."""
    data = random.Random(2).randbytes(5000)
    size = cut_whole(data)[0][1]
    others = {cut_whole(data[:size] + bytes([byte]) + data[size + 1 :])[0][1] for byte in range(256)}
    assert size in others
    assert len(others) > 1


def test_another_seed_cuts_elsewhere() -> None:
    data = random.Random(3).randbytes(100_000)
    other = Parameters(seed=99, min_size=64, avg_size=256, max_size=1024)
    assert not {start for start, _ in cut_whole(data)[1:]} <= {start for start, _ in cut_whole(data, other)}


def test_the_first_chunk() -> None:
    data = random.Random(4).randbytes(3000)
    assert Cutter(PARAMETERS).first(memoryview(data)).size == cut_whole(data)[0][1]
    assert Cutter(PARAMETERS).first(memoryview(b"x")).size == 1


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(seed=1, min_size=64, avg_size=256, max_size=1024, algorithm="rabin"),
        Parameters(seed=1 << 63, min_size=64, avg_size=256, max_size=1024),
        Parameters(seed=1, min_size=1, avg_size=256, max_size=1024),
    ],
)
def test_parameters_that_cannot_be_used(parameters: Parameters) -> None:
    with pytest.raises(RepositoryError, match="contents"):
        Cutter(parameters)
