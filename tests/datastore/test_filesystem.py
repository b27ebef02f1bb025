"""`FilesystemStore` keeps the port's promises; and what only files can do: links, modes, staging, full disks, short writes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tusd_py.datastore.file_writers as writers
import tusd_py.datastore.filesystem as module
import tusd_py.fs.copying as copying
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tusd_py.datastore.filesystem import FilesystemStore
from tusd_py.fs.sync import GroupSync
from tusd_py.fs.temporary import ABANDONED_AFTER, remove_abandoned
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure, UploadExists
from tusd_py.protocol.upload import Upload
from tusd_py.testing import DataStoreSuite

BIG = writers.MEMORY_LIMIT + 1
"""One byte more than stays in memory: staged in a file."""


class Syncs:
    """A group that counts."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.group = GroupSync(2, self._fsync)

    def _fsync(self, fd: int) -> None:
        os.fsync(fd)
        self.paths.append(os.readlink(f"/proc/self/fd/{fd}"))


@pytest.fixture
def syncs() -> Iterator[Syncs]:
    syncs = Syncs()
    yield syncs
    syncs.group.close()


@pytest.fixture
def store(tmp_path: Path, syncs: Syncs) -> Iterator[FilesystemStore]:
    store = FilesystemStore(str(tmp_path), group=syncs.group, file_mode=0o640, dir_mode=0o750)
    yield store
    store.close()


class TestFilesystemStore(DataStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path, syncs: Syncs) -> Iterator[FilesystemStore]:
        store = FilesystemStore(str(tmp_path), group=syncs.group)
        yield store
        store.close()


async def make(store: FilesystemStore, upload_id: str, data: bytes = b"", storage: dict[str, str] | None = None) -> Upload:
    upload = Upload(id=upload_id, length=None, storage=storage or store.place(upload_id))
    writer = await store.create(upload)
    writer.write(data)
    await writer.close()
    return upload.evolve(offset=len(data))


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def short_writes(monkeypatch: pytest.MonkeyPatch, at_most: int, fail_after: int | None = None) -> None:
    """Let `pwrite` take `at_most` bytes at once, and after `fail_after` of them none at all."""
    real = os.pwrite
    taken = 0

    def pwrite(fd: int, data: bytes, position: int) -> int:
        nonlocal taken
        if fail_after is not None and taken >= fail_after:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(fd, bytes(data[:at_most]), position)
        taken += count
        return count

    monkeypatch.setattr(os, "pwrite", pwrite)


# Files


async def test_files_are_where_tusd_puts_them(tmp_path: Path, store: FilesystemStore) -> None:
    upload = await make(store, "a/b/x", b"bytes")
    assert upload.storage == {"Type": "filestore", "Path": f"{tmp_path}/a/b/x"}
    assert files(tmp_path) == ["a/b/x"]
    assert (tmp_path / "a/b/x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("path", ["videos/new.mp4", "{root}/videos/new.mp4"])
async def test_a_hook_may_choose_the_path(tmp_path: Path, store: FilesystemStore, path: str) -> None:
    await make(store, "x", b"bytes", {"Path": path.format(root=tmp_path)})
    assert (tmp_path / "videos" / "new.mp4").read_bytes() == b"bytes"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "{root}", ".tusd-py/tmp/x", "other.info", "{root}2/x"])
async def test_but_not_outside(tmp_path: Path, store: FilesystemStore, path: str) -> None:
    upload = Upload(id="x", length=1, storage={"Path": path.format(root=tmp_path)})
    for operation in (store.create, store.open_writer, store.open_content, store.remove, store.sync):
        with pytest.raises(StorageFailure):
            await operation(upload)
    assert files(tmp_path) == []


async def test_an_upload_is_no_directory(store: FilesystemStore) -> None:
    await make(store, "a", b"bytes")
    with pytest.raises(UploadExists):
        await store.create(Upload(id="a/b", length=1))
    await make(store, "c/d")
    with pytest.raises(UploadExists):
        await store.create(Upload(id="c", length=1))


async def test_many_ids_too_long_for_a_file_are_failures(store: FilesystemStore) -> None:
    with pytest.raises(StorageFailure):
        await store.create(Upload(id="x" * 300, length=1))


async def test_links_are_not_written_through(tmp_path: Path, store: FilesystemStore) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "x").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageFailure):
        await store.open_writer(Upload(id="x", length=10))
    assert (tmp_path / "precious").read_bytes() == b"precious"


async def test_removing_leaves_the_neighbours(tmp_path: Path, store: FilesystemStore) -> None:
    upload = await make(store, "a/x", b"bytes")
    for name in ("x.info", "x.lock", "y"):
        (tmp_path / "a" / name).touch()
    await store.remove(upload)
    assert files(tmp_path) == ["a/x.info", "a/x.lock", "a/y"]


async def test_removing_what_has_made_way_for_a_directory_leaves_what_is_in_it(tmp_path: Path, store: FilesystemStore) -> None:
    upload = await make(store, "a", b"bytes")
    await store.remove(upload)
    await make(store, "a/b", b"others")
    await store.remove(upload)
    assert files(tmp_path) == ["a/b"]


async def test_a_large_file_is_removed_and_cut(tmp_path: Path, store: FilesystemStore) -> None:
    upload = await make(store, "x")
    os.truncate(tmp_path / "x", writers.LARGE * 4)
    await (await store.open_writer(upload)).close()
    assert (tmp_path / "x").stat().st_size == 0
    os.truncate(tmp_path / "x", writers.LARGE * 4)
    await store.remove(upload)
    assert files(tmp_path) == []


# Writing


async def test_short_writes_are_continued(tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = await store.create(Upload(id="x", length=None))
    short_writes(monkeypatch, 3)
    writer.write(b"0123456789")
    writer.write(memoryview(b"abcd"))
    assert writer.position == 14
    await writer.close()
    assert (tmp_path / "x").read_bytes() == b"0123456789abcd"


async def test_what_was_taken_before_a_failure_counts(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await store.create(Upload(id="x", length=None))
    short_writes(monkeypatch, 3, fail_after=6)
    with pytest.raises(OutOfSpace):
        writer.write(b"0123456789")
    assert writer.position == 6
    await writer.close()
    assert (tmp_path / "x").read_bytes() == b"012345"


@pytest.mark.parametrize("size", [10, writers._WRITE_INLINE + 1])
async def test_a_commit_from_memory_that_fails_half_way_is_undone(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    upload = await make(store, "x", b"before")
    writer = await store.open_writer(upload, verified=False)
    writer.write(b"x" * size)
    with monkeypatch.context() as patch:
        short_writes(patch, 4, fail_after=8)
        with pytest.raises(OutOfSpace):
            await writer.commit()
    assert (tmp_path / "x").read_bytes() == b"before"
    await writer.close()


# Staging


async def test_staged_bytes_become_the_file_without_a_copy(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "copy_bytes", None)
    upload = await make(store, "x")
    os.chmod(tmp_path / "x", 0o604)
    writer = await store.open_writer(upload, verified=False)
    writer.write(b"a" * BIG)
    (staged,) = (tmp_path / ".tusd-py" / "tmp").iterdir()
    inode = staged.stat().st_ino
    await writer.commit()
    assert (tmp_path / "x").stat().st_ino == inode
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o604
    assert (tmp_path / "x").read_bytes() == b"a" * BIG
    await writer.rollback()
    await writer.close()
    assert (tmp_path / "x").read_bytes() == b""
    assert files(tmp_path) == ["x"]


async def test_staged_bytes_are_copied_where_they_cannot_become_the_file(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*args: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    writer = await store.create(Upload(id="x", length=None), verified=False)
    writer.write(b"a" * BIG)
    monkeypatch.setattr(os, "rename", elsewhere)
    await writer.commit()
    await writer.close()
    assert (tmp_path / "x").read_bytes() == b"a" * BIG
    assert files(tmp_path) == ["x"]


async def test_a_staged_commit_that_fails_half_way_is_undone(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await make(store, "x", b"before")
    writer = await store.open_writer(upload, verified=False)
    writer.write(b"a" * BIG)
    with monkeypatch.context() as patch:
        patch.setattr(copying, "_WAYS", copying._WAYS[-1:])
        patch.setattr(copying, "_BUFFER", 4096)
        short_writes(patch, 4096, fail_after=8192)
        with pytest.raises(OutOfSpace):
            await writer.commit()
    assert (tmp_path / "x").read_bytes() == b"before"
    await writer.close()
    assert files(tmp_path) == ["x"]


async def test_a_cancelled_commit_is_undone(tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await make(store, "x", b"before")
    writer = await store.open_writer(upload, verified=False)
    writer.write(b"a" * BIG)
    task = asyncio.create_task(cancelled_while_copying(monkeypatch, writer.commit))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "x").read_bytes() == b"before"
    await writer.close()
    assert files(tmp_path) == ["x"]


async def cancelled_while_copying(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Run `work()` and cancel it when its copy has written something."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    real = copying._read_and_write

    def way(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
        copied = real(source, source_offset, target, target_offset, min(count, 4096))
        loop.call_soon_threadsafe(task.cancel)
        return copied

    monkeypatch.setattr(copying, "_WAYS", (way,))
    await work()  # type: ignore[misc]


async def test_writing_after_commit_is_a_mistake(store: FilesystemStore) -> None:
    writer = await store.create(Upload(id="x", length=None), verified=False)
    await writer.commit()
    await writer.commit()
    with pytest.raises(ValueError, match="after commit"):
        writer.write(b"x")
    await writer.close()


async def test_staging_in_use_is_not_tidied_and_abandoned_staging_is(tmp_path: Path, store: FilesystemStore) -> None:
    writer = await store.create(Upload(id="x", length=None), verified=False)
    writer.write(b"a" * BIG)
    tmp_dir = tmp_path / ".tusd-py" / "tmp"
    later = next(tmp_dir.iterdir()).stat().st_mtime + ABANDONED_AFTER + 60
    assert remove_abandoned(str(tmp_dir), later) == 0
    await writer.commit()
    await writer.close()


# Concatenation


async def test_a_cancelled_concatenation_leaves_nothing(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, final = await make(store, "part", b"p" * 100_000), await make(store, "final")
    with monkeypatch.context() as patch:
        task = asyncio.create_task(cancelled_while_copying(patch, lambda: store.concatenate(final, [part, part])))
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files(tmp_path) == ["final", "part"]
    assert (tmp_path / "final").read_bytes() == b""
    await store.concatenate(final, [part, part])
    assert (tmp_path / "final").stat().st_size == 200_000


async def test_a_failed_concatenation_leaves_nothing(tmp_path: Path, store: FilesystemStore) -> None:
    part, final = await make(store, "part", b"bytes"), await make(store, "final")
    with pytest.raises(StorageFailure):
        await store.concatenate(final, [part, part.evolve(offset=6)])
    assert files(tmp_path) == ["final", "part"]


async def test_a_durable_final_is_synced_before_it_is_seen(tmp_path: Path, store: FilesystemStore, syncs: Syncs) -> None:
    part, final = await make(store, "part", b"bytes"), await make(store, "d/final")
    await store.concatenate(final, [part], durable=False)
    assert syncs.paths == []
    await store.concatenate(final, [part])
    assert os.path.dirname(syncs.paths[0]) == f"{tmp_path}/.tusd-py/tmp"
    assert sorted(syncs.paths[1:]) == [str(tmp_path), f"{tmp_path}/d"]


# Durability


@pytest.mark.parametrize("verified", [True, False])
async def test_syncing_covers_the_file_and_what_leads_to_it(
    tmp_path: Path, store: FilesystemStore, syncs: Syncs, verified: bool
) -> None:
    writer = await store.create(Upload(id="a/b/x", length=None), verified=verified)
    writer.write(b"a" * BIG)
    await writer.commit()
    await writer.sync()
    wanted = [str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/a/b", f"{tmp_path}/a/b/x"]
    assert sorted(syncs.paths) == wanted
    del syncs.paths[:]
    await store.sync(Upload(id="a/b/x", length=None))
    assert sorted(syncs.paths) == wanted
    await writer.close()


async def test_descriptors_do_not_leak(tmp_path: Path, store: FilesystemStore) -> None:
    upload = await make(store, "x", b"bytes")
    final = await make(store, "final")
    before = len(os.listdir("/proc/self/fd"))
    for verified in (True, False):
        writer = await store.open_writer(upload, verified=verified)
        writer.write(b"a" * BIG)
        await writer.commit()
        await writer.rollback()
        await writer.close()
    with pytest.raises(StorageFailure):
        await store.open_writer(upload.evolve(offset=99))
    await store.concatenate(final, [upload], durable=False)
    await (await store.open_content(upload)).close()
    assert len(os.listdir("/proc/self/fd")) == before


# Real file systems


@pytest.mark.root
@pytest.mark.parametrize("verified", [True, False])
async def test_a_full_disk(tmp_path: Path, syncs: Syncs, verified: bool) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "mount", "size=2m") as mount:
        store = FilesystemStore(str(mount), group=syncs.group)
        upload = await make(store, "x", b"before")
        writer = await store.open_writer(upload, verified=verified)
        with pytest.raises(OutOfSpace):
            for _ in range(40):
                writer.write(b"a" * 100_000)
            await writer.commit()
        if verified:
            assert writer.position == (mount / "x").stat().st_size, "every byte taken is there"
            assert writer.position > 1_000_000
        await writer.rollback()
        await writer.close()
        assert (mount / "x").read_bytes() == b"before"
        assert files(mount) == ["x"]
        store.close()


@pytest.mark.root
async def test_a_final_that_does_not_fit(tmp_path: Path, syncs: Syncs) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "mount", "size=2m") as mount:
        store = FilesystemStore(str(mount), group=syncs.group)
        part, final = await make(store, "part", b"a" * 900_000), await make(store, "final")
        with pytest.raises(OutOfSpace):
            await store.concatenate(final, [part, part])
        assert (mount / "final").read_bytes() == b""
        assert files(mount) == ["final", "part"]
        store.close()


def test_what_may_not_be_written_is_said_at_start(tmp_path: Path, syncs: Syncs) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReadOnlyStorage, match=f"{tmp_path}/file"):
        FilesystemStore(str(tmp_path / "file"), group=syncs.group)


async def test_reading_failures_are_translated(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    content = await store.open_content(await make(store, "x", b"bytes"))

    def fail(*args: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(StorageFailure, match="Input/output"):
            await content.read(0, 1)
    await content.close()
    assert "closed" in repr(content)


async def test_a_rollback_that_fails_is_logged(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = await store.create(Upload(id="x", length=None))
    writer.write(b"bytes")
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fail)
        await writer.rollback()
    assert "rolling back" in caplog.text
    assert writer.position == 5
    await writer.close()


def test_states_are_visible(store: FilesystemStore, tmp_path: Path) -> None:
    assert repr(store) == f"<FilesystemStore '{tmp_path}'>"
    assert module.DEFAULT_THREADS > 0


# Commits that were killed half-way


def note(root: Path, upload_id: str) -> Path:
    return root / ".tusd-py" / "committing" / upload_id


@pytest.mark.parametrize("size", [10, writers._WRITE_INLINE + 1, BIG])
async def test_a_note_stands_while_verified_bytes_are_copied(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    upload = await make(store, "x", b"before")
    writer = await store.open_writer(upload, verified=False)
    writer.write(b"a" * size)
    seen = []

    def spy(name: str) -> None:
        real = getattr(writers, name)

        def copy(*args: object) -> None:
            seen.append(os.readlink(note(tmp_path, "x")))
            real(*args)

        monkeypatch.setattr(writers, name, copy)

    spy("write_all")
    spy("copy_bytes")
    await writer.commit()
    await writer.close()
    assert seen == ["6"]
    assert not note(tmp_path, "x").is_symlink()


async def test_nothing_to_commit_needs_no_note(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "symlink", None)
    writer = await store.create(Upload(id="x", length=None), verified=False)
    await writer.commit()
    await writer.close()


@pytest.mark.parametrize("verified", [True, False])
async def test_the_next_writer_cuts_half_a_commit_and_its_note(tmp_path: Path, store: FilesystemStore, verified: bool) -> None:
    upload = await make(store, "x", b"before")
    (tmp_path / "x").write_bytes(b"before and half")
    note(tmp_path, "x").symlink_to("6")
    writer = await store.open_writer(upload, verified=verified)
    assert (tmp_path / "x").read_bytes() == b"before"
    assert not note(tmp_path, "x").is_symlink()
    await writer.close()


async def test_a_note_goes_with_its_upload(tmp_path: Path, store: FilesystemStore) -> None:
    upload = await make(store, "x")
    for _ in range(2):  # the second time, there are no bytes any more
        note(tmp_path, "x").symlink_to("0")
        await store.remove(upload)
        assert not note(tmp_path, "x").is_symlink()
    note(tmp_path, "x").symlink_to("0")
    await make(store, "x")
    assert not note(tmp_path, "x").is_symlink()


async def test_a_note_that_cannot_be_removed_fails_the_creation(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(tmp_path, "x").symlink_to("0")
    before = len(os.listdir("/proc/self/fd"))

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(StorageFailure, match="creating"):
        await store.create(Upload(id="x", length=None))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("failing", ["unlink", "ftruncate"])
async def test_a_commit_that_cannot_end_is_none(
    tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Either its bytes can be cut again, or the note keeps them out of the upload."""
    upload = await make(store, "x", b"before")
    writer = await store.open_writer(upload, verified=False)
    writer.write(b"after")

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        if failing == "ftruncate":
            short_writes(patch, 2, fail_after=2)
        with pytest.raises(StorageFailure):
            await writer.commit()
    await writer.close()
    assert os.readlink(note(tmp_path, "x")) == "6"
    assert (tmp_path / "x").read_bytes() == (b"before" if failing == "unlink" else b"beforeaf")


async def test_half_a_commit_is_not_read(tmp_path: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await make(store, "x", b"before and half")
    note(tmp_path, "x").symlink_to("6")
    content = await store.open_content(upload)
    assert content.size == 6
    await content.close()
    finished = await store.open_content(upload.evolve(length=15))
    assert finished.size == 15
    await finished.close()

    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "readlink", fail)
    with pytest.raises(StorageFailure, match="measuring"):
        await store.open_content(upload)
