"""Small files are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import tusd_py.fs.replace as module
from tusd_py.fs.replace import publish_new, replace
from tusd_py.fs.sync import GroupSync
from tusd_py.ports.failures import StorageFailure

Way = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def tmp_dir(tmp_path: Path) -> str:
    (tmp_path / "tmp").mkdir()
    return str(tmp_path / "tmp")


def failing(number: int) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def without_unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNNAMED", 0)


def refused_unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_publish_unnamed", failing(errno.EOPNOTSUPP))


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    without_unnamed(monkeypatch)
    monkeypatch.setattr(os, "link", failing(errno.EPERM))


WAYS = [pytest.param(way, id=way.__name__) for way in (lambda patch: None, without_unnamed, refused_unnamed, without_links)]


@pytest.mark.parametrize("way", WAYS)
def test_a_new_file_is_published(tmp_path: Path, tmp_dir: str, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    way(monkeypatch)
    target = tmp_path / "target"
    publish_new(str(target), b"data", tmp_dir=tmp_dir, mode=0o640)
    assert target.read_bytes() == b"data"
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_nlink == 1
    assert os.listdir(tmp_dir) == []


@pytest.mark.parametrize("way", WAYS)
def test_what_is_there_is_left_alone(tmp_path: Path, tmp_dir: str, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    way(monkeypatch)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        publish_new(str(target), b"data", tmp_dir=tmp_dir, mode=0o640)
    assert target.read_bytes() == b"precious"
    assert os.listdir(tmp_dir) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_write_publishes_nothing(tmp_path: Path, tmp_dir: str, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    way(monkeypatch)
    monkeypatch.setattr(module, "write_all", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        publish_new(str(tmp_path / "target"), b"data", tmp_dir=tmp_dir, mode=0o640)
    assert os.listdir(tmp_dir) == []
    assert os.listdir(tmp_path) == ["tmp"]


def test_a_placeholder_goes_with_the_failure(tmp_path: Path, tmp_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    monkeypatch.setattr(os, "rename", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        publish_new(str(tmp_path / "target"), b"data", tmp_dir=tmp_dir, mode=0o640)
    assert os.listdir(tmp_path) == ["tmp"]


async def test_bytes_are_synced_before_the_name_points_to_them(tmp_path: Path, tmp_dir: str) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    seen: list[tuple[bytes, bytes]] = []
    group = GroupSync(fsync=lambda fd: seen.append((os.pread(fd, 100, 0), target.read_bytes())))
    await replace(str(target), b"new", tmp_dir=tmp_dir, mode=0o644, group=group)
    group.close()
    assert seen == [(b"new", b"old")]
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_dir) == []


async def test_a_failed_sync_leaves_the_old_file(tmp_path: Path, tmp_dir: str) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    group = GroupSync(fsync=failing(errno.EIO))
    with pytest.raises(StorageFailure):
        await replace(str(target), b"new", tmp_dir=tmp_dir, mode=0o644, group=group)
    group.close()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_dir) == []


async def test_without_a_group_nothing_is_synced(tmp_path: Path, tmp_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    await replace(str(tmp_path / "target"), b"new", tmp_dir=tmp_dir, mode=0o644, group=None)
    assert (tmp_path / "target").read_bytes() == b"new"
