"""Directories are made at start, or the reason why not is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.mounts import mounted_tmpfs, requires_mounts, run
from tusd_py.fs.directories import make_parents, prepare_root, prepare_state
from tusd_py.ports.failures import ReadOnlyStorage, StorageFailure


def test_the_root_is_made_with_its_parents(tmp_path: Path) -> None:
    root = prepare_root(str(tmp_path / "a" / "b"), 0o750)
    assert root == str(tmp_path / "a" / "b")
    assert os.stat(root).st_mode & 0o777 == 0o750
    assert prepare_root(root, 0o700) == root


def test_the_root_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare_root("./data/", 0o775) == f"{tmp_path}/data"


def test_state_is_below_the_root_and_leaves_nothing(tmp_path: Path) -> None:
    state = prepare_state(str(tmp_path), "tmp", 0o775)
    assert state == f"{tmp_path}/.tusd-py/tmp"
    assert os.listdir(state) == []


def test_another_process_may_make_the_parent_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers start: one finds no `.tusd-py`, and by the time that it looks there is one."""
    mkdir = os.mkdir

    def raced(path: str, mode: int) -> None:
        try:
            mkdir(path, mode)
        except FileNotFoundError:
            mkdir(os.path.dirname(path), mode)  # the other one
            raise

    monkeypatch.setattr(os, "mkdir", raced)
    assert os.path.isdir(prepare_state(str(tmp_path), "tmp", 0o775))


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReadOnlyStorage, match="file"):
        prepare_root(str(tmp_path / "file"), 0o775)
    with pytest.raises(ReadOnlyStorage, match=r"Not a directory"):
        prepare_root(str(tmp_path / "file" / "below"), 0o775)


@pytest.mark.root
def test_a_read_only_file_system_is_noticed_at_start(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "mount", "size=1m") as mount:
        state = prepare_state(str(mount), "tmp", 0o775)
        run("mount", "-o", "remount,ro", mount)
        with pytest.raises(ReadOnlyStorage, match=r"\.tusd-py/tmp.*Read-only"):
            prepare_state(str(mount), "tmp", 0o775)
        with pytest.raises(ReadOnlyStorage, match="Read-only"):
            prepare_state(str(mount), "other", 0o775)
        assert os.listdir(state) == []


def test_parents_are_made_on_demand(tmp_path: Path) -> None:
    make_parents(f"{tmp_path}/a/b/c", 0o775)
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailure):
        make_parents(f"{tmp_path}/file/b/c", 0o775)
