"""Flipped bits and edited rows: found, or without any effect. Never is anything else served than what was stored."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from tusd_py_cas.model import Codec, IndexDamaged, Piece, RepositoryError, StoredChunk, Version
from tusd_py_cas.sqlite_index import SqliteIndex

from tests.cas.index.support import chunk, chunks, content, numbers_of, open_index, store, version
from tests.cas.index.test_opening import edit
from tusd_py.ports.failures import StorageFailure

FLIPS = 300

Served = dict[str, tuple[Version, list[Piece]]]


def make(path: Path) -> None:
    """An index with every kind of row, and no more pages than are needed for that."""
    index = open_index(path)
    store(index, [chunk(n, Codec.ZSTD) for n in range(0, 40, 2)])
    parts = [content(index, *range(n, n + 10), leaf=4) for n in range(0, 40, 8)]
    final = index.compose(parts)
    index.set_digests(final, blake3=b"b" * 32, sha256=b"s" * 32)
    for n, made in enumerate([*parts, final, index.compose(parts[:2]), content(index)]):
        version(index, f"upload{n}", made, object="ab"[n % 2], owner=[None, "me"][n % 3 == 0], raw=n % 2 == 0)
    store(index, chunks(100, 101))
    index.mark_damaged([chunk(100).name, chunk(5).name])
    index.note_vanished(["upload2", "upload3"], 2000.0)
    store(index, chunks(102))
    index.condemn(1e12)
    index.close()


def serve(index: SqliteIndex, uploads: list[str]) -> Served:
    """What can be had, without errors."""
    served: Served = {}
    for upload_id in uploads:
        try:
            found = index.find_version(upload_id)
            if found is not None:
                served[upload_id] = replace(found, raw=False), list(index.pieces(found.manifest))
        except (RepositoryError, StorageFailure):
            continue
    return served


def everything(path: Path) -> tuple[Served, dict[bytes, StoredChunk]]:
    index = open_index(path, create=False)
    served = serve(index, [f"upload{n}" for n in range(8)])
    known = index.find_chunks([chunk(n).name for n in range(110)])
    assert list(index.check()) == []
    index.close()
    return served, dict(known)


def flip(data: bytes, bits: list[int]) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def try_flips(tmp_path: Path, count: int, seed: int) -> None:
    make(tmp_path / "sound.db")
    served, known = everything(tmp_path / "sound.db")
    assert len(served) == 8
    data = (tmp_path / "sound.db").read_bytes()
    chance = random.Random(seed)
    unnoticed = 0
    for _ in range(count):
        bits = chance.sample(range(8 * len(data)), chance.choice([1, 1, 1, 2, 5]))
        for name in ("index.db", "index.db-wal", "index.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "index.db").write_bytes(flip(data, bits))
        unnoticed += look_at(tmp_path / "index.db", served, known, bits)
    assert 0 < unnoticed < count, "some bits are of no use, and some are"


def look_at(path: Path, served: Served, known: dict[bytes, StoredChunk], bits: list[int]) -> bool:
    """Whether nothing at all has been noticed."""
    try:
        index = open_index(path, create=False)
    except (RepositoryError, StorageFailure):
        return False
    try:
        found = serve(index, list(served))
        for upload_id, what in found.items():
            assert what == served[upload_id], bits
        try:
            chunks_found = index.find_chunks(list({chunk(n).name for n in range(110)}))
            assert all(known[name] == each for name, each in chunks_found.items()), bits
        except (RepositoryError, StorageFailure):
            pass
        noticed = list(index.check())
        assert noticed or found == served, bits
        return not noticed
    finally:
        index.close()


def test_flipped_bits(tmp_path: Path) -> None:
    try_flips(tmp_path, FLIPS, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_flipped_bits(tmp_path: Path) -> None:
    try_flips(tmp_path, 50 * FLIPS, 2)


EDITS = [
    ("UPDATE pieces SET chunk = (SELECT MAX(id) FROM chunks) WHERE position = 1", "leaf 1 does not fit its seal"),
    ("DELETE FROM pieces WHERE leaf = 1 AND position = 3", "leaf 1 does not fit its seal"),
    ("UPDATE pieces SET position = 9 WHERE leaf = 1 AND position = 3", "leaf 1 has no piece 3"),
    ("UPDATE leaves SET size = size + 1 WHERE id = 1", "leaf 1 does not fit its seal"),
    ("UPDATE leaves SET count = count + 1 WHERE id = 1", "leaf 1 does not fit its seal"),
    ("UPDATE leaves SET seal = zeroblob(16) WHERE id = 1", "leaf 1 does not fit its seal"),
    ("DELETE FROM leaves WHERE id = 1", "a row of pieces refers to leaves that are not there"),
    ("UPDATE nodes SET leaf = 2 WHERE position = 0", "has no leaf 1"),
    ("UPDATE nodes SET start = start + 1 WHERE position = 1", "has no leaf 1"),
    ("DELETE FROM nodes WHERE manifest = 1 AND position = 2", "its leaves"),
    ("UPDATE manifests SET size = size + 1 WHERE id = 1", "bytes, its leaves"),
    ("UPDATE manifests SET name = zeroblob(32) WHERE id = 1", "does not fit its seal"),
    ("UPDATE manifests SET blake3 = NULL WHERE id = 1", "does not fit its seal"),
    ("UPDATE manifests SET sha256 = zeroblob(32) WHERE id = 1", "does not fit its seal"),
    ("UPDATE manifests SET composed = 1 WHERE id = 1", "does not fit its seal"),
    ("UPDATE manifests SET created_at = 1 WHERE id = 1", "does not fit its seal"),
    ("UPDATE versions SET manifest = 2 WHERE upload = 'upload0'", "the version of upload 'upload0' does not fit its seal"),
    ("UPDATE versions SET metadata = '{}' WHERE upload = 'upload0'", "the version of upload 'upload0' does not fit its seal"),
    ("UPDATE versions SET number = 77 WHERE upload = 'upload0'", "the version of upload 'upload0' does not fit its seal"),
    ("UPDATE versions SET upload = 'other' WHERE upload = 'upload0'", "the version of upload 'other' does not fit its seal"),
    ("UPDATE objects SET owner = 'you' WHERE owned", "does not fit its seal"),
    ("UPDATE objects SET name = 'c' WHERE name = 'b'", "does not fit its seal"),
    ("UPDATE objects SET next_number = 1", "would use the number 1 again"),
    ("INSERT INTO objects VALUES (99, 'z', 0, '', 1)", "object 'z' has no version"),
    ("UPDATE chunks SET state = 2 WHERE id = 1", "does not fit its seal"),
    ("UPDATE chunks SET stored_size = stored_size + 1 WHERE codec = 1", "does not fit its seal"),
    ("UPDATE chunks SET stored_size = -stored_size WHERE id = 1", "does not fit its seal"),
    ("UPDATE chunks SET name = zeroblob(32) WHERE id = 1", "does not fit its seal"),
    ("UPDATE sqlite_sequence SET seq = 1", "ids of leaves would be used again"),
    (
        "UPDATE vanished SET upload = 'other' WHERE upload = 'upload2'",
        "a row of vanished refers to versions",
    ),
    ("UPDATE vanished SET since = -since WHERE upload = 'upload2'", "'upload2' is said to be missing since -2000.0 seconds"),
    ("UPDATE vanished SET since = 1e300 WHERE upload = 'upload2'", "'upload2' is said to be missing since 1e+300 seconds"),
    ("DROP TABLE vanished", "the table 'vanished' is not as it was made"),
    ("DROP INDEX versions_raw", "the index 'versions_raw' is not as it was made"),
    ("CREATE TABLE more (x)", "the table 'more' is not as it was made"),
    ("PRAGMA writable_schema = ON; UPDATE chunks SET stored_size = 0 WHERE id = 1", "CHECK constraint failed"),
]


@pytest.mark.parametrize(("statement", "sentence"), EDITS, ids=[statement[:70] for statement, _ in EDITS])
def test_edited_rows_are_found(tmp_path: Path, statement: str, sentence: str) -> None:
    make(tmp_path / "index.db")
    served, _ = everything(tmp_path / "index.db")
    edit(tmp_path / "index.db", "PRAGMA ignore_check_constraints = ON", statement.split("; ")[-1])
    index = open_index(tmp_path / "index.db", create=False)
    assert any(sentence in finding for finding in index.check()), list(index.check())
    for upload_id, what in serve(index, list(served)).items():
        assert what == served[upload_id]
    index.close()


def test_a_name_in_the_schema_that_is_no_text_is_found(tmp_path: Path) -> None:
    make(tmp_path / "index.db")
    changed = "UPDATE sqlite_schema SET name = CAST(name AS BLOB) WHERE name = 'versions_raw'"
    edit(tmp_path / "index.db", "PRAGMA writable_schema = ON", changed)
    index = open_index(tmp_path / "index.db", create=False)
    assert "the index 'versions_raw' is not as it was made" in list(index.check())
    index.close()


def test_a_condemned_chunk_in_use_is_found(tmp_path: Path) -> None:
    make(tmp_path / "index.db")
    connection = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    from tusd_py_cas.sqlite_index.seals import seal_chunk

    connection.create_function("chunk_seal", 5, seal_chunk)
    connection.execute("UPDATE chunks SET state = 1, seal = chunk_seal(name, size, stored_size, codec, 1) WHERE id = 1")
    connection.close()
    index = open_index(tmp_path / "index.db", create=False)
    assert list(index.check()) == [f"chunk {chunk(0).name.hex().upper()} is condemned, but a leaf has it"]
    index.close()


DAMAGED_VERSIONS = [
    "UPDATE versions SET number = 77 WHERE upload = 'upload2'",
    "UPDATE versions SET metadata = '{}' WHERE upload = 'upload2'",
    "UPDATE versions SET metadata = CAST(x'ff' AS TEXT) WHERE upload = 'upload2'",
    "UPDATE versions SET upload = CAST(x'75ff' AS TEXT) WHERE upload = 'upload2'",
    "UPDATE manifests SET size = size + 1 WHERE id = (SELECT manifest FROM versions WHERE upload = 'upload2')",
]


@pytest.mark.parametrize("at_once", [1, 2, 500])
@pytest.mark.parametrize("statement", DAMAGED_VERSIONS)
def test_a_damaged_version_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, at_once: int
) -> None:
    monkeypatch.setattr("tusd_py_cas.sqlite_index.adapter._VERSIONS_AT_ONCE", at_once)
    make(tmp_path / "index.db")
    edit(tmp_path / "index.db", statement)
    index = open_index(tmp_path / "index.db", create=False)
    found = list(index.versions())
    assert {each.upload_id for each in found if isinstance(each, Version)} == {f"upload{n}" for n in range(8) if n != 2}
    assert len([each for each in found if isinstance(each, IndexDamaged)]) == 1
    index.close()


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_a_damaged_name_hides_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Though it is where the listing goes on from."""
    monkeypatch.setattr("tusd_py_cas.sqlite_index.adapter._VERSIONS_AT_ONCE", at_once)
    make(tmp_path / "index.db")
    edit(tmp_path / "index.db", "UPDATE objects SET name = CAST(x'6180' AS TEXT) WHERE name = 'a' AND owned")
    index = open_index(tmp_path / "index.db", create=False)
    found = list(index.versions())
    assert [each.upload_id for each in found if isinstance(each, Version)] == [f"upload{n}" for n in (2, 4, 1, 5, 7, 3)]
    assert len([each for each in found if isinstance(each, IndexDamaged)]) == 2
    assert index.find_version("upload2"), "texts are read as ever"
    index.close()


def test_a_damaged_content_without_digests_hides_no_other(tmp_path: Path) -> None:
    index = open_index(tmp_path / "index.db")
    made = [index.compose([content(index, n), content(index, n + 1)]) for n in range(3)]
    for n, each in enumerate(made):
        version(index, f"upload{n}", each)
    index.close()
    edit(tmp_path / "index.db", f"UPDATE manifests SET size = size + 1 WHERE id = {made[0].id}")
    index = open_index(tmp_path / "index.db", create=False)
    damage, *others = index.undigested()
    assert isinstance(damage, IndexDamaged)
    assert others == made[1:]
    index.close()


def test_damage_is_noticed_by_who_has_read_before(tmp_path: Path) -> None:
    """What is kept in memory is never in the way of what the database says now."""
    make(tmp_path / "index.db")
    index = open_index(tmp_path / "index.db", create=False)
    before = index.find_version("upload0")
    assert before is not None
    assert len(list(index.pieces(before.manifest))) == 10
    edit(tmp_path / "index.db", "UPDATE pieces SET chunk = (SELECT MAX(id) FROM chunks) WHERE leaf = 1 AND position = 1")
    with pytest.raises(IndexDamaged, match="leaf 1"):
        list(index.pieces(before.manifest))
    assert len(list(index.pieces(before.manifest, before.manifest.size - 1))) == 1, "the other leaves are sound"
    edit(tmp_path / "index.db", "UPDATE manifests SET seal = zeroblob(16) WHERE id = 1")
    with pytest.raises(IndexDamaged, match="does not fit its seal"):
        index.find_version("upload0")
    assert index.find_version("upload1")
    edit(tmp_path / "index.db", "UPDATE manifests SET sha256 = zeroblob(32) WHERE id = 2")
    with pytest.raises(IndexDamaged, match="does not fit its seal"):
        index.find_version("upload1")
    index.close()


def test_storing_a_chunk_again_makes_its_row_good(tmp_path: Path) -> None:
    make(tmp_path / "index.db")
    sound = everything(tmp_path / "index.db")
    edit(tmp_path / "index.db", "UPDATE chunks SET size = 7, stored_size = 7, codec = 0 WHERE id = 1")
    index = open_index(tmp_path / "index.db", create=False)
    found = index.find_version("upload0")
    assert found is not None
    with pytest.raises(IndexDamaged):
        list(index.pieces(found.manifest))
    assert index.find_chunks([chunk(0).name]) == {}, "it counts as unknown"
    store(index, [chunk(0, Codec.ZSTD)])
    assert numbers_of(index.pieces(found.manifest)) == list(range(10))
    index.close()
    assert everything(tmp_path / "index.db") == sound


def test_a_row_that_does_not_fit_its_seal_gets_no_new_one(tmp_path: Path) -> None:
    """But by who stores the chunk again: else what is wrong would pass for right."""
    index = open_index(tmp_path / "index.db")
    store(index, [chunk(1, Codec.ZSTD)])
    edit(tmp_path / "index.db", "UPDATE chunks SET stored_size = stored_size + 1")
    index.mark_damaged([chunk(1).name])
    assert index.condemn(1e12) == 0
    assert list(index.check()) == [f"chunk {chunk(1).name.hex().upper()} does not fit its seal"]
    index.close()


def test_many_findings_are_not_all_told(tmp_path: Path) -> None:
    index = open_index(tmp_path / "index.db")
    content(index, *range(400), leaf=1)
    index.close()
    edit(tmp_path / "index.db", "UPDATE leaves SET seal = zeroblob(16)")
    index = open_index(tmp_path / "index.db", create=False)
    assert 100 <= len(list(index.check())) < 250
    index.close()
