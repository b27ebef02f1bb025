"""Threads that can't be started: what wanted them fails, and nothing else ever does."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.threads import started_pool
from tusd_py_cas.ingest.windows import WINDOW, Buffers
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import segments_of
from tusd_py.ports.failures import StorageFailure

DATA = random.Random(1).randbytes(2 << 20) * 12


def no_more_threads(monkeypatch: pytest.MonkeyPatch, which: Callable[[threading.Thread], bool]) -> None:
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if which(self):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_an_engine_that_lacks_threads_goes_on_once_there_are_some(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More often than there are buffers: none of them may be lost."""
    assert len(DATA) > WINDOW
    path = tmp_path / "content"
    path.write_bytes(DATA)
    buffers = engine._shared.buffers
    with monkeypatch.context() as patched:
        no_more_threads(patched, lambda thread: True)
        for _ in range(2):
            with pytest.raises(StorageFailure, match="threads for digests can't be started: can't start new thread"):
                engine.ingest(segments_of(path))
            assert buffers._free.qsize() == buffers.count
    assert engine.ingest(segments_of(path)).bytes_in == len(DATA)
    assert buffers._free.qsize() == buffers.count


@pytest.mark.parametrize("allowed", [0, 1, Buffers(1).count - 1])
def test_an_engine_has_all_its_threads_or_is_none(
    allowed: int, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    names = [f"storing_{number}" for number in range(allowed)]
    with monkeypatch.context() as patched:
        no_more_threads(patched, lambda thread: thread.name not in names)
        with pytest.raises(StorageFailure, match="threads for storing can't be started"):
            Engine(repository)
    assert threading.active_count() == before


def test_a_pool_has_all_its_threads_at_once() -> None:
    before = threading.active_count()
    with started_pool(5, "some") as pool:
        assert threading.active_count() == before + 5
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
