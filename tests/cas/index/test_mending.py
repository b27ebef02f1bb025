"""Damaged rows of the index are put right by storing once more what they were about; what is then left over is dropped."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from tusd_py_cas.model import Codec, IndexDamaged, Manifest, RepositoryError
from tusd_py_cas.sqlite_index import SqliteIndex

from tests.cas.index.support import Clock, chunk, content, numbers_of, open_index, store, version
from tests.cas.index.test_damage import EDITS, flip, make, serve
from tests.cas.index.test_opening import edit
from tusd_py.ports.failures import StorageFailure

FLIPS = 100

PARTS = [list(range(n, n + 10)) for n in range(0, 40, 8)]
CONTENTS = {
    **{f"upload{n}": part for n, part in enumerate(PARTS)},
    "upload5": [number for part in PARTS for number in part],
    "upload6": PARTS[0] + PARTS[1],
    "upload7": [],
}
"""What `make` has put in."""

OF_THE_SCHEMA = {"DROP TABLE vanished", "DROP INDEX versions_raw", "CREATE TABLE more (x)"}


def store_all_again(index: SqliteIndex) -> None:
    """As who has the files of all uploads does."""
    parts: list[Manifest] = []
    for n, numbers in enumerate(PARTS):
        store(index, [chunk(number, Codec.ZSTD if number % 2 == 0 else Codec.RAW) for number in numbers])
        parts.append(content(index, *numbers, leaf=4))
        add(index, f"upload{n}", parts[-1])
    add(index, "upload5", index.compose(parts))
    add(index, "upload6", index.compose(parts[:2]))
    add(index, "upload7", content(index))


def add(index: SqliteIndex, upload_id: str, made: Manifest) -> None:
    n = int(upload_id.removeprefix("upload"))
    version(index, upload_id, made, object="ab"[n % 2], owner=[None, "me"][n % 3 == 0], raw=True)


def assert_sound(index: SqliteIndex) -> None:
    assert list(index.check()) == []
    for upload_id, numbers in CONTENTS.items():
        found = index.find_version(upload_id)
        assert found is not None
        assert numbers_of(index.pieces(found.manifest)) == numbers
        assert index.is_whole(found.manifest)
    assert len(list(index.versions())) == len(CONTENTS)


HEALED = [statement.split("; ")[-1] for statement, _ in EDITS if statement not in OF_THE_SCHEMA]


@pytest.mark.parametrize("statement", HEALED, ids=[statement[:70] for statement in HEALED])
def test_edited_rows_are_put_right(tmp_path: Path, statement: str) -> None:
    make(tmp_path / "index.db")
    clock = Clock(9000.0)
    index = open_index(tmp_path / "index.db", clock, create=False)
    assert set(serve(index, list(CONTENTS))) == set(CONTENTS), "all that says so is kept in memory now"
    edit(tmp_path / "index.db", "PRAGMA ignore_check_constraints = ON", statement)
    assert list(index.check()) != []
    store_all_again(index)
    index.mend()
    for upload_id in set(index.uploads()) - set(CONTENTS):  # whose id was edited: there is no such upload
        assert index.note_vanished([upload_id], 1.0)
        index.drop_version(upload_id)
    index.mend()
    assert_sound(index)
    index.close()
    again = open_index(tmp_path / "index.db", create=False)
    assert_sound(again)
    again.close()


def heal_flips(directory: Path, count: int, seed: int) -> None:
    make(directory / "sound.db")
    data = (directory / "sound.db").read_bytes()
    chance = random.Random(seed)
    healed = 0
    for _ in range(count):
        bits = chance.sample(range(8 * len(data)), 1)
        for name in ("index.db", "index.db-wal", "index.db-shm"):
            (directory / name).unlink(missing_ok=True)
        (directory / "index.db").write_bytes(flip(data, bits))
        healed += heal(directory / "index.db")
    assert healed


def heal(path: Path) -> bool:
    """Whether there was anything to be put right, and it was; whoever reads finds sound contents or an error all the time."""
    try:
        index = open_index(path, Clock(9000.0), create=False)
    except (RepositoryError, StorageFailure):
        return False
    try:
        if not list(index.check()):
            return False
        index.mend()
        store_all_again(index)
        index.mend()
        if list(index.check()):
            return False
        assert_sound(index)
    except (IndexDamaged, StorageFailure):
        return False  # the pages themselves are damaged
    finally:
        index.close()
    return True


def test_flipped_bits_are_put_right(tmp_path: Path) -> None:
    heal_flips(tmp_path, FLIPS, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_flipped_bits_are_put_right(tmp_path: Path) -> None:
    heal_flips(tmp_path, 50 * FLIPS, 2)


def test_a_leaf_is_put_right_for_all_who_have_it(tmp_path: Path) -> None:
    """Also for those whose own file is gone."""
    make(tmp_path / "index.db")
    edit(tmp_path / "index.db", "UPDATE pieces SET chunk = (SELECT MAX(id) FROM chunks) WHERE leaf = 1 AND position = 1")
    index = open_index(tmp_path / "index.db", Clock(9000.0), create=False)
    final = index.find_version("upload5")
    assert final is not None
    assert not index.is_whole(final.manifest)
    with pytest.raises(IndexDamaged):
        list(index.pieces(final.manifest))
    content(index, *PARTS[0], leaf=4)
    assert numbers_of(index.pieces(final.manifest)) == CONTENTS["upload5"]
    assert index.find_version("upload5") == final, "it is the same"
    index.mend()
    assert list(index.check()) == []
    index.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE versions SET metadata = '{}' WHERE upload = 'upload0'",
        "UPDATE versions SET manifest = 2 WHERE upload = 'upload0'",
        "UPDATE manifests SET sha256 = zeroblob(32) WHERE id = 1",
        "UPDATE leaves SET seal = zeroblob(16) WHERE id = 1",
    ],
)
def test_nothing_is_dropped_while_a_version_is_damaged(tmp_path: Path, statement: str) -> None:
    make(tmp_path / "index.db")
    edit(
        tmp_path / "index.db",
        statement,
        "INSERT INTO objects VALUES (99, 'z', 0, '', 1)",
        "UPDATE manifests SET seal = zeroblob(16) WHERE NOT EXISTS (SELECT 1 FROM versions WHERE manifest = manifests.id)",
    )
    index = open_index(tmp_path / "index.db", create=False)
    before = (tmp_path / "index.db").read_bytes(), list(index.check())
    assert index.mend() == 0
    index.close()
    assert (tmp_path / "index.db").read_bytes() == before[0]


def test_what_is_damaged_and_in_no_use_is_dropped(tmp_path: Path) -> None:
    make(tmp_path / "index.db")
    index = open_index(tmp_path / "index.db", create=False)
    assert index.mend() == 0
    alone = content(index, 50, 51, 52, leaf=2)
    edit(
        tmp_path / "index.db",
        f"UPDATE manifests SET size = size + 1 WHERE id = {alone.id}",
        "UPDATE leaves SET count = 9 WHERE id = (SELECT MAX(id) FROM leaves)",
        "UPDATE chunks SET stored_size = 7, codec = 1 WHERE state = 1",
    )
    assert len(list(index.check())) == 5
    assert index.mend() == 5
    assert list(index.check()) == []
    assert index.find_manifest(alone.name) is None
    assert index.sweep(1e12).leaves >= 1, "the sound one goes the usual way"
    assert list(index.check()) == []
    index.close()


def test_what_is_in_use_again_by_then_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the transaction somebody has stored it again."""
    make(tmp_path / "index.db")
    index = open_index(tmp_path / "index.db", Clock(9000.0), create=False)
    alone = content(index, 50, 51)
    edit(tmp_path / "index.db", f"UPDATE manifests SET size = size + 1 WHERE id = {alone.id}")
    writing = index._connections.writing

    def meanwhile(doing: str) -> object:
        monkeypatch.undo()
        version(index, "late", content(index, 50, 51))
        return writing(doing)

    monkeypatch.setattr(index._connections, "writing", meanwhile)
    index.mend()
    found = index.find_version("late")
    assert found is not None
    assert numbers_of(index.pieces(found.manifest)) == [50, 51]
    assert list(index.check()) == []
    index.close()


def test_indexes_of_sqlite_are_made_anew(tmp_path: Path) -> None:
    """They have nothing that the tables have not. One is taken away while its table changes, and put back."""
    path = tmp_path / "index.db"
    make(path)
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'versions_raw'").fetchone()
    connection.close()
    writable = "PRAGMA writable_schema = ON"
    edit(path, writable, "DELETE FROM sqlite_schema WHERE name = 'versions_raw'")
    edit(path, "UPDATE versions SET raw = 1 - raw")
    sql = "CREATE INDEX versions_raw ON versions (upload) WHERE raw"
    edit(path, writable, f"INSERT INTO sqlite_schema VALUES ('index', 'versions_raw', 'versions', {page}, '{sql}')")
    index = open_index(path, create=False)
    assert "missing from index versions_raw" in " ".join(index.check())
    assert index.mend() == 1
    assert list(index.check()) == []
    assert list(index.with_raw()) == ["upload1", "upload3", "upload5", "upload7"]
    assert index.mend() == 0
    index.close()
