"""What the index offers ingest as the content that another may turn out to be."""

from __future__ import annotations

import random
from collections.abc import Callable

from blake3 import blake3
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import Take

Taker = Callable[[bytes], Take]

DATA = random.Random(1).randbytes(100_000)


def test_a_content_with_this_first_chunk(take: Taker, repository: Repository) -> None:
    taken = take(DATA)
    first, second = (piece.chunk.name for piece in taken.pieces[:2])
    find = repository.index.find_content_starting_with
    assert find(first, 5) == taken.manifest
    assert find(second, len(DATA)) is None
    assert find(blake3(b"unknown").digest(), len(DATA)) is None


def test_one_of_the_same_size_is_best_and_then_the_latest(take: Taker, repository: Repository) -> None:
    sizes = [50_000, 60_000, 70_000]
    manifests = [take(DATA[:size]).manifest for size in sizes]
    first = take(DATA).pieces[0].chunk.name
    find = repository.index.find_content_starting_with
    assert [find(first, size) for size in sizes] == manifests
    latest = find(first, 1)
    assert latest is not None
    assert latest.size == len(DATA)


def test_composed_contents_are_none(take: Taker, repository: Repository) -> None:
    parts = [take(DATA[:50_000]), take(DATA[50_000:])]
    composed = repository.index.compose([part.manifest for part in parts])
    found = repository.index.find_content_starting_with(parts[0].pieces[0].chunk.name, composed.size)
    assert found == parts[0].manifest
