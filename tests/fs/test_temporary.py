"""Temporary files: published as a whole, gone after a failure, tidied after a crash and not before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tusd_py.fs.temporary import ABANDONED_AFTER, TemporaryFile, remove_abandoned, write_all


def later() -> float:
    """When what is made now is old. Not a constant: in a long run the tests begin minutes after this module was read."""
    return time.time() + ABANDONED_AFTER + 60


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: real(fd, bytes(data[:3]), position))
    with open(tmp_path / "file", "wb") as file:
        write_all(file.fileno(), b"0123456789", 2)
        write_all(file.fileno(), memoryview(b""), 0)
    assert (tmp_path / "file").read_bytes() == b"\0\0" + b"0123456789"


def test_publishing_replaces_and_discarding_afterwards_keeps(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    temporary = TemporaryFile(str(tmp_path), 0o640)
    write_all(temporary.fd, b"new", 0)
    temporary.publish(str(tmp_path / "target"))
    temporary.discard()
    assert (tmp_path / "target").read_bytes() == b"new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["target"]


def test_discarding_removes_and_may_be_repeated(tmp_path: Path) -> None:
    temporary = TemporaryFile(str(tmp_path), 0o644)
    temporary.discard()
    temporary.discard()
    assert os.listdir(tmp_path) == []


def test_a_detached_descriptor_stays_open(tmp_path: Path) -> None:
    temporary = TemporaryFile(str(tmp_path), 0o644)
    fd = temporary.detach()
    temporary.discard()
    os.close(fd)


def test_old_files_that_nobody_holds_are_abandoned(tmp_path: Path) -> None:
    (tmp_path / "crashed").write_bytes(b"x")
    (tmp_path / "directory").mkdir()
    assert remove_abandoned(str(tmp_path)) == 0, "it is young"
    assert remove_abandoned(str(tmp_path), later()) == 1
    assert os.listdir(tmp_path) == ["directory"]


def test_one_that_vanishes_keeps_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        (tmp_path / name).write_bytes(b"x")
    _, vanishing, *others = os.listdir(tmp_path)  # in the order in which they are looked at
    real = os.open

    def vanish(path: str, *arguments: int) -> int:
        (tmp_path / vanishing).unlink(missing_ok=True)
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", vanish)
    assert remove_abandoned(str(tmp_path), later()) == 1 + len(others)
    assert os.listdir(tmp_path) == []


def test_a_held_file_is_never_abandoned(tmp_path: Path) -> None:
    temporary = TemporaryFile(str(tmp_path), 0o644, hold=True)
    assert remove_abandoned(str(tmp_path), later()) == 0
    os.close(temporary.detach())  # as if its process had died
    assert remove_abandoned(str(tmp_path), later()) == 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "link").symlink_to(tmp_path / "precious")
    assert remove_abandoned(str(tmp_path / "tmp"), later()) == 0
    assert (tmp_path / "precious").exists()


def test_no_directory_is_nothing_abandoned(tmp_path: Path) -> None:
    assert remove_abandoned(str(tmp_path / "missing")) == 0
