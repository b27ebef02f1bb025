"""What the index has wrong about a content is put right by taking that content in once more."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.jobs import Segment
from tusd_py_cas.ingest.windows import SMALL
from tusd_py_cas.keeping.collecting import collect
from tusd_py_cas.keeping.scrubbing import verify
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import make_version, read_back

DAMAGES = [
    "UPDATE pieces SET chunk = (SELECT MAX(id) FROM chunks) WHERE leaf = 1 AND position = 1",
    "DELETE FROM pieces WHERE leaf = 1 AND position = 3",
    "UPDATE leaves SET count = count + 1 WHERE id = 1",
    "UPDATE leaves SET seal = zeroblob(16) WHERE id = 1",
    "DELETE FROM leaves WHERE id = 1",
    "UPDATE nodes SET start = start + 1 WHERE manifest = 1",
    "UPDATE nodes SET leaf = 2 WHERE manifest = 1",
    "DELETE FROM nodes WHERE manifest = 1",
    "UPDATE manifests SET size = size + 1 WHERE id = 1",
    "UPDATE manifests SET name = zeroblob(32) WHERE id = 1",
    "UPDATE manifests SET sha256 = zeroblob(32) WHERE id = 1",
    "UPDATE versions SET metadata = '' WHERE upload = 'upload'",
    "UPDATE versions SET manifest = 2 WHERE upload = 'upload'",
    "UPDATE chunks SET stored_size = stored_size + 1, size = size + 1 WHERE id = 1",
    "UPDATE chunks SET name = zeroblob(32) WHERE id = 1",
]


def edit(repository: Repository, statement: str) -> None:
    connection = sqlite3.connect(f"{repository.path}/index.db", isolation_level=None)
    assert connection.execute(statement).rowcount == 1
    connection.close()


@pytest.mark.parametrize(("size", "fresh"), [(30_000, True), (SMALL + 30_000, False)], ids=["read anew", "remembered"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_taken_in_once_more(tmp_path: Path, repository: Repository, damage: str, size: int, fresh: bool) -> None:
    path, other = tmp_path / "content", tmp_path / "other"
    path.write_bytes(data := random.Random(1).randbytes(size))
    other.write_bytes(random.Random(2).randbytes(size))
    engine = Engine(repository, threads=2)
    make_version(repository, engine, path, "upload")
    make_version(repository, engine, other, "other")
    engine.ingest([Segment(str(path), 1, size - 1)])  # which nobody needs
    edit(repository, damage)
    with pytest.raises(RepositoryError, match="nothing is removed, because the index is damaged"):
        collect(repository, grace=-60, now=4e9)
    if fresh:
        engine.close()
        repository = Repository.open(repository.path, durable=False)
        engine = Engine(repository, threads=2)
    make_version(repository, engine, path, "upload")
    found = repository.index.find_version("upload")
    assert found is not None
    assert read_back(repository, found.manifest) == data
    verify(repository)
    assert list(repository.index.check()) == []
    assert verify(repository).sound
    collect(repository, grace=-60, now=4e9)
    assert read_back(repository, found.manifest) == data
    engine.close()
    if fresh:
        repository.close()
