"""Repositories with small chunks, so that little data makes many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.model import Parameters
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import TINY, Take


@pytest.fixture
def parameters() -> Parameters:
    """Of the repository; a module can have its own."""
    return TINY


@pytest.fixture
def repository(tmp_path: Path, parameters: Parameters) -> Iterator[Repository]:
    repository = Repository.open(str(tmp_path / "cas"), create=parameters, durable=False)
    yield repository
    repository.close()


@pytest.fixture
def engine(repository: Repository) -> Iterator[Engine]:
    engine = Engine(repository, threads=2)
    yield engine
    engine.close()


@pytest.fixture
def take(tmp_path: Path, repository: Repository, engine: Engine) -> Callable[..., Take]:
    """Takes bytes in, from a file, and sees that they come out again."""

    def take(data: bytes) -> Take:
        return Take(tmp_path / "content", repository, engine, data)

    return take
