"""Threads that share work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from tusd_py_cas.index import NewContent
from tusd_py_cas.ingest.committing import Committer
from tusd_py_cas.ingest.together import Together
from tusd_py_cas.model import ChunkRef, ChunksMissing
from tusd_py_cas.repository import Repository

from tests.support.waiting import until


class Doubler:
    """Doubles numbers as soon as it may; odd ones are refused, and 13 makes it fail."""

    def __init__(self) -> None:
        self.served: list[list[int]] = []
        self.may_go_on = Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | BaseException]:
        self.served.append(sorted(numbers))
        assert self.may_go_on.wait(20)
        if 13 in numbers:
            raise KeyError(13)
        return [ValueError(number) if number % 2 else 2 * number for number in numbers]


def test_those_who_come_meanwhile_are_served_together() -> None:
    doubler = Doubler()
    together = Together(doubler)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together.ask, 2)
        until(lambda: doubler.served)
        others = [pool.submit(together.ask, number) for number in (4, 6, 7, 8)]
        until(lambda: len(together._waiting) == 4)
        doubler.may_go_on.set()
        assert first.result(20) == 4
        assert [others[n].result(20) for n in (0, 1, 3)] == [8, 12, 16]
        with pytest.raises(ValueError, match="7"):
            others[2].result(20)
    assert doubler.served == [[2], [4, 6, 7, 8]]


def test_a_failure_is_everybodys() -> None:
    doubler = Doubler()
    together = Together(doubler)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together.ask, 2)
        until(lambda: doubler.served)
        others = [pool.submit(together.ask, number) for number in (4, 13)]
        until(lambda: len(together._waiting) == 2)
        doubler.may_go_on.set()
        assert first.result(20) == 4
        for other in others:
            with pytest.raises(KeyError):
                other.result(20)
    assert together.ask(6) == 12


def test_a_content_whose_chunks_are_missing_does_no_harm_to_others(repository: Repository) -> None:
    missing = NewContent(5, b"b" * 32, b"s" * 32, (), [ChunkRef(b"n" * 32, 5)])
    empty = NewContent(0, b"e" * 32, b"s" * 32, (), ())
    added = repository.index.add_contents([empty, missing, empty])
    assert isinstance(added[1], ChunksMissing)
    assert added[0] == added[2] == repository.index.find_manifest(b"e" * 32)
    with pytest.raises(ChunksMissing):
        Committer(repository).add(missing)
