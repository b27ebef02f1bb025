"""Notes of commits in progress: there as a whole or not at all, and heeded by whoever measures a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tusd_py.fs.intents import Intents


@pytest.fixture
def intents(tmp_path: Path) -> Intents:
    return Intents(str(tmp_path), 0o775)


@pytest.mark.parametrize("upload_id", ["x", "project/2024/video", "long/" * 100 + "id"])
def test_a_note_says_where_the_upload_ends(intents: Intents, upload_id: str) -> None:
    assert intents.offset(upload_id) is None
    intents.begin(upload_id, 700)
    assert intents.offset(upload_id) == 700
    assert intents.offset(upload_id + "2") is None
    intents.end(upload_id)
    intents.end(upload_id)
    assert intents.offset(upload_id) is None


def test_what_a_crash_left_gives_way(intents: Intents) -> None:
    intents.begin("x", 700)
    intents.begin("x", 300)
    assert intents.offset("x") == 300


def test_what_is_no_note_says_nothing(intents: Intents) -> None:
    Path(intents.directory, "file").write_text("5")
    for name, target in [("word", "five"), ("negative", "-5"), ("elsewhere", "/etc/passwd")]:
        os.symlink(target, f"{intents.directory}/{name}")
    for name in ("file", "word", "negative", "elsewhere"):
        assert intents.offset(name) is None


def test_bytes_of_a_commit_do_not_count_before_its_end(tmp_path: Path, intents: Intents) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"12345678")
    intents.begin("x", 5)
    assert intents.measure("x", str(file), 10)[1] == 5
    assert intents.measure("x", str(file), None)[1] == 5
    file.write_bytes(b"123")
    assert intents.measure("x", str(file), 10)[1] == 3, "the note is no promise of bytes"
    intents.end("x")
    found, size = intents.measure("x", str(file), 10)
    assert (found.st_size, size) == (3, 3)


def test_all_bytes_are_not_half_of_them(tmp_path: Path, intents: Intents) -> None:
    (tmp_path / "x").write_bytes(b"12345678")
    intents.begin("x", 5)
    assert intents.measure("x", str(tmp_path / "x"), 8)[1] == 8


def test_a_commit_that_ends_under_ones_eyes(tmp_path: Path, intents: Intents, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it is there when the file is looked at, and no note any more when the note is looked for."""
    file = tmp_path / "x"
    file.write_bytes(b"half")
    real = os.access

    def access(path: str, mode: int, *, follow_symlinks: bool) -> bool:
        file.write_bytes(b"all of it")
        return real(path, mode, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "access", access)
    assert intents.measure("x", str(file), None)[1] == len(b"all of it")


def test_a_note_that_goes_under_ones_eyes(intents: Intents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *args, **options: True)
    assert intents.offset("gone") is None


def test_no_file_is_no_size(tmp_path: Path, intents: Intents) -> None:
    with pytest.raises(FileNotFoundError):
        intents.measure("x", str(tmp_path / "x"), None)


def test_all_can_be_forgotten(intents: Intents) -> None:
    intents.begin("x", 1)
    intents.begin("a/b", 1)
    intents.forget_all()
    assert os.listdir(intents.directory) == []
    assert "committing" in repr(intents)
