"""What others do between the look at what is unused and the transaction that takes it: it is in use again, and stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tusd_py_cas.index import Swept
from tusd_py_cas.model import State
from tusd_py_cas.sqlite_index import SqliteIndex, housekeeping

from tests.cas.index.support import Clock, add_content, chunk, chunks, content, numbers_of, refs, store, version

Meanwhile = Callable[[str, Callable[[], object]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Do something right after the first such look."""

    def arrange(look: str, something: Callable[[], object]) -> None:
        original = getattr(housekeeping, look)
        todo = [something]

        def wrapped(*args: object) -> object:
            found = original(*args)
            pending.extend(todo)
            todo.clear()
            return found

        monkeypatch.setattr(housekeeping, look, wrapped)

    pending: list[Callable[[], object]] = []
    original_unused = SqliteIndex._unused

    def unused(self: SqliteIndex, *args: object) -> object:
        for ids in original_unused(self, *args):  # type: ignore[arg-type]
            while pending:
                pending.pop()()
            yield ids

    monkeypatch.setattr(SqliteIndex, "_unused", unused)
    return arrange


def test_a_chunk_that_a_leaf_has_by_now(index: SqliteIndex, clock: Clock, meanwhile: Meanwhile) -> None:
    store(index, chunks(1, 2))
    meanwhile("unused_chunks", lambda: index.add_leaf(refs(chunks(1))))
    assert index.condemn(clock.now + 1) == 1
    assert list(index.condemned()) == chunks(2)
    assert list(index.check()) == []


def test_a_chunk_that_was_stored_again_by_now(index: SqliteIndex, clock: Clock, meanwhile: Meanwhile) -> None:
    def damage_and_store() -> None:
        clock.now = 5000.0
        index.mark_damaged([chunk(1).name])
        store(index, chunks(1))

    store(index, chunks(1, 2))
    meanwhile("unused_chunks", damage_and_store)
    assert index.condemn(1001.0) == 1
    assert dict(index.all_chunks()) == {chunk(1): State.LIVE, chunk(2): State.CONDEMNED}


def test_a_manifest_that_a_version_has_by_now(index: SqliteIndex, clock: Clock, meanwhile: Meanwhile) -> None:
    made = content(index, 1)
    content(index, 2)
    meanwhile("unused_manifests", lambda: version(index, "a", made))
    assert index.sweep(clock.now + 1) == Swept(1, 1)
    assert numbers_of(index.pieces(made)) == [1]


def test_a_manifest_that_was_asked_for_by_now(index: SqliteIndex, clock: Clock, meanwhile: Meanwhile) -> None:
    def ask() -> None:
        clock.now = 5000.0
        add_content(index, [1])

    made = content(index, 1)
    meanwhile("unused_manifests", ask)
    assert index.sweep(1001.0) == Swept(0, 0)
    assert numbers_of(index.pieces(made)) == [1]


def test_a_leaf_that_a_manifest_has_by_now(index: SqliteIndex, clock: Clock, meanwhile: Meanwhile) -> None:
    store(index, chunks(1, 2))
    leaf, _ = index.add_leaf(refs(chunks(1))), index.add_leaf(refs(chunks(2)))
    made = []

    def make() -> None:
        made.append(index.add_manifest(size=1001, blake3=bytes(32), sha256=bytes(32), leaves=[leaf]))

    meanwhile("unused_leaves", make)
    assert index.sweep(clock.now + 1) == Swept(0, 1)
    assert numbers_of(index.pieces(made[0])) == [1]
    assert list(index.check()) == []
