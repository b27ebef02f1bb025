"""A damaged version in the index is told of, and keeps nobody from the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cas.commands.conftest import Store
from tests.cas.index.test_opening import edit

DAMAGE = "the version of upload 'bad' does not fit its seal"


@pytest.fixture
def damaged(store: Store) -> Store:
    store.add(b"one", "a", upload="one")
    store.add(b"two", "b", upload="two")
    store.add(b"bad", "b", upload="bad")
    store.add(b"three", "b", upload="three")
    store.add(b"four", "c", upload="four")
    edit(store.path / "index.db", "UPDATE versions SET metadata = '[]' WHERE upload = 'bad'")
    return store


def test_ls(damaged: Store) -> None:
    ran = damaged.run("ls", "--json")
    assert [(line["object"], line["versions"]) for line in ran.lines] == [("a", 1), ("b", 2), ("c", 1)]
    assert (ran.status, DAMAGE in ran.errors) == (1, True)
    ran = damaged.run("ls")
    assert [line.split()[-1] for line in ran.output.splitlines()] == ["OBJECT", "a", "b", "c"]
    assert (ran.status, DAMAGE in ran.errors) == (1, True)


def test_versions(damaged: Store) -> None:
    ran = damaged.run("versions", "b", "--json")
    assert [line["upload"] for line in ran.lines] == ["two", "three"]
    assert (ran.status, DAMAGE in ran.errors) == (1, True)
    assert "VERSION" in damaged.run("versions", "b").output
    ran = damaged.run("versions", "c")
    assert (ran.status, ran.errors) == (0, "")


def test_a_version_is_found_beside_it(damaged: Store) -> None:
    assert damaged.bytes_of("cat", "b@3") == (0, b"three", "")
    assert damaged.bytes_of("cat", "c") == (0, b"four", "")


@pytest.mark.parametrize("what", ["b", "b@2"])
def test_nothing_else_is_taken_for_it(damaged: Store, what: str) -> None:
    """The damaged one may be the latest, or the one that was asked for: that can't be told."""
    assert damaged.bytes_of("cat", what) == (1, b"", f"tusd-py cas: {DAMAGE}\n")


def test_where_no_other_is_left_it_is_not_said_that_there_is_none(store: Store) -> None:
    store.add(b"bad", "b", upload="bad")
    edit(store.path / "index.db", "UPDATE versions SET metadata = '[]'")
    ran = store.run("versions", "b")
    assert (ran.status, ran.output, ran.errors) == (1, "", f"tusd-py cas: {DAMAGE}\n")


def test_export_of_all(damaged: Store, tmp_path: Path) -> None:
    ran = damaged.run("export", "--all", str(tmp_path / "out"), "--json")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"a": b"one", "b": b"three", "c": b"four"}
    assert ran.lines[-1]["error"] == DAMAGE
    assert (ran.status, DAMAGE in ran.errors) == (1, True)


def test_restore(damaged: Store) -> None:
    ran = damaged.run("export", "--restore", "--json")
    outcomes = {line["upload"]: line["outcome"] or line["error"] for line in ran.lines}
    assert outcomes == {"one": "gone", "two": "gone", "three": "gone", "four": "gone", None: DAMAGE}
    assert (ran.status, DAMAGE in ran.errors) == (1, True)
    ran = damaged.run("export", "--restore", "bad", "one")
    assert "'bad': the version of upload 'bad' does not fit its seal" in ran.errors
    assert "'one': has no record" in ran.errors


def test_import_beside_it(damaged: Store, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"three")
    assert damaged.run("import", str(tmp_path / "b"), "--json").document["unchanged"] == 1
