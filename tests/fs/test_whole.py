"""Syncing a whole file system for all who wait: when it is done, and that nobody is told of success when it failed."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tusd_py.fs import sync as sync_module
from tusd_py.fs.sync import TOGETHER, GroupSync
from tusd_py.fs.whole import FileSystems, dirty_bytes
from tusd_py.ports.failures import StorageFailure


class Recorder:
    """Stands in the place of `FileSystems`: trusts everything, counts, and fails on demand."""

    def __init__(self, *, works: bool = True, trusted: bool = True) -> None:
        self.works, self.trusted, self.calls = works, trusted, 0

    def trust(self, directories: Iterable[str], devices: Iterable[int]) -> bool:
        return self.trusted

    def sync(self, devices: Iterable[int]) -> bool:
        self.calls += 1
        return self.works


def group_with(recorder: Recorder) -> GroupSync:
    group = GroupSync(threads=1)
    group._file_systems = recorder  # type: ignore[assignment]
    return group


async def sync_many(group: GroupSync, directory: Path, count: int) -> list[BaseException | None]:
    paths = [directory / f"file{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(b"bytes")
    return await asyncio.gather(*(group.sync(str(path)) for path in paths), return_exceptions=True)


async def test_many_who_wait_are_served_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "dirty_bytes", lambda: 0)
    recorder = Recorder()
    group = group_with(recorder)
    assert await sync_many(group, tmp_path, 10 * TOGETHER) == [None] * (10 * TOGETHER)
    assert recorder.calls >= 1
    group.close()


@pytest.mark.parametrize(
    ("recorder", "dirty"), [(Recorder(works=False), 0), (Recorder(trusted=False), 0), (Recorder(), 1 << 40)]
)
async def test_otherwise_each_learns_what_became_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Recorder, dirty: int
) -> None:
    monkeypatch.setattr(sync_module, "dirty_bytes", lambda: dirty)
    group = group_with(recorder)
    missing = [group.sync(f"{tmp_path}/missing{number}") for number in range(3)]
    results = await asyncio.gather(sync_many(group, tmp_path, 5 * TOGETHER), *missing, return_exceptions=True)
    assert results[0] == [None] * (5 * TOGETHER)
    assert all(isinstance(result, StorageFailure) for result in results[1:])
    group.close()


async def test_a_missing_file_among_many_does_not_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "dirty_bytes", lambda: 0)
    group = group_with(Recorder())
    results = await asyncio.gather(
        sync_many(group, tmp_path, 5 * TOGETHER), group.sync(f"{tmp_path}/missing"), return_exceptions=True
    )
    assert results[0] == [None] * (5 * TOGETHER) and isinstance(results[1], StorageFailure)
    group.close()


def test_a_real_file_system(tmp_path: Path) -> None:
    systems = FileSystems()
    device = os.stat(tmp_path).st_dev
    if systems.trust([str(tmp_path)], {device}):  # ext4 or XFS; on others there is nothing to show but the refusal
        assert systems.sync({device})
    assert not systems.trust([str(tmp_path)], {device, device + 12345})
    systems.close()


def test_a_file_system_that_nobody_syncs_any_more_is_let_go(tmp_path: Path) -> None:
    """A host may make and drop many applications, each with threads that end when they end."""
    systems = FileSystems()
    if not systems.trust([str(tmp_path)], {os.stat(tmp_path).st_dev}):
        return
    place = str(tmp_path)
    assert place in open_files()
    del systems
    gc.collect()
    assert place not in open_files()


def open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found


def test_dirty_bytes_are_counted() -> None:
    assert dirty_bytes() >= 0
