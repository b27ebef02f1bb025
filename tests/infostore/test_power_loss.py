"""What is cut off after a power cut, and what is not. `tests/crash/test_power.py` does it with real file systems."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tusd_py.infostore.power_loss as power_loss
from tests.support.mounts import LoopDisk, mounted_tmpfs, requires_mounts
from tusd_py.fs.intents import Intents
from tusd_py.fs.sync import GroupSync
from tusd_py.infostore.power_loss import RECENT, SCANNED, SUSPECT, Watch, identify, strip_zeros
from tusd_py.infostore.tusd_dir import TusdDirectory
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.upload import Upload


@pytest.fixture
def group() -> Iterator[GroupSync]:
    group = GroupSync(1)
    yield group
    group.close()


@pytest.fixture
def root(tmp_path: Path, group: GroupSync) -> Path:
    """A directory that was served before."""
    start(tmp_path, group, "first")
    return tmp_path


def start(root: Path, group: GroupSync, identity: str) -> TusdDirectory:
    return TusdDirectory(str(root), group=group, identity=lambda _: identity)


def put(root: Path, name: str, data: bytes, info: str = '{"Size":1000000}') -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
    (root / f"{name}.info").write_text(info)
    return root / name


# What is cut


@pytest.mark.parametrize(
    ("data", "floor", "left"),
    [
        (b"abc\0\0", 0, 3),
        (b"abc\0\0", 4, 4),
        (b"abc\0\0", 9, 5),
        (b"a\0c", 0, 3),
        (b"", 0, 0),
        (b"\0" * 100, 0, 0),
        (b"\0" * 100, 40, 40),
        (b"a" + b"\0" * (SUSPECT + 10), 0, 11),
        (b"a" * SUSPECT + b"\0" * (SUSPECT - 1), 0, SUSPECT),
    ],
)
def test_zeros_at_the_end_are_stripped(tmp_path: Path, data: bytes, floor: int, left: int) -> None:
    (tmp_path / "x").write_bytes(data)
    assert strip_zeros(str(tmp_path / "x"), floor) == len(data) - left
    assert (tmp_path / "x").read_bytes() == data[:left]


@pytest.mark.parametrize(("floor", "end", "left"), [(0, 2, 2), (0, 4, 3), (4, 3, 4), (0, 9, 3)])
def test_where_a_commit_began_the_upload_ends(tmp_path: Path, floor: int, end: int, left: int) -> None:
    (tmp_path / "x").write_bytes(b"abc\0\0")
    strip_zeros(str(tmp_path / "x"), floor, end, holes=True)
    assert (tmp_path / "x").stat().st_size == left


async def test_unfinished_uploads_are_shortened_after_a_power_cut(root: Path, group: GroupSync) -> None:
    put(root, "a/b/x", b"abc\0\0")
    put(root, "deferred", b"abc\0\0", '{"SizeIsDeferred":true}')
    store = start(root, group, "second")
    assert (await store.load("a/b/x")).offset == 3
    assert (await store.load("deferred")).offset == 3


async def test_finished_uploads_are_left_alone(root: Path, group: GroupSync) -> None:
    for size in (4, 5):
        put(root, f"x{size}", b"abc\0\0", f'{{"Size":{size}}}')
    put(root, "final", b"abc\0\0", '{"Size":5,"IsFinal":true,"PartialUploads":["x5"]}')
    Intents(str(root), 0o775).begin("x5", 3)
    store = start(root, group, "second")
    for name in ("x4", "x5", "final"):
        assert (root / name).read_bytes() == b"abc\0\0"
        assert (await store.load(name)).finished


async def test_a_commit_that_had_begun_is_undone(root: Path, group: GroupSync) -> None:
    put(root, "x", b"abcde")
    put(root, "synced", b"abcde", '{"Size":100,"Offset":4}')
    intents = Intents(str(root), 0o775)
    intents.begin("x", 2)
    intents.begin("synced", 2)
    intents.begin("removed", 2)
    store = start(root, group, "second")
    assert (await store.load("x")).offset == 2
    assert (await store.load("synced")).offset == 4
    assert os.listdir(intents.directory) == []


@pytest.mark.root
async def test_what_was_there_when_a_commit_began_may_be_lost_too(disk: Path, group: GroupSync) -> None:
    gap = b"a" * 5000 + b"\0" * (2 * BLOCK - 5000) + b"a" * ALL
    put_lossy(disk, "hole", b"a" * BLOCK, ALL, b"bcd", info='{"Size":100000000}')
    put_lossy(disk, "gap", gap, b"bcd", info='{"Size":100000000}')
    intents = Intents(str(disk), 0o775)
    intents.begin("hole", BLOCK + ALL)
    intents.begin("gap", len(gap))
    store = start(disk, group, "second")
    assert {name: (await store.load(name)).offset for name in ("hole", "gap")} == {"hole": BLOCK, "gap": 5000}


async def test_what_was_said_to_be_synced_stays(root: Path, group: GroupSync) -> None:
    store = start(root, group, "first")
    upload = Upload(id="x", length=100)
    await store.create(upload)
    (root / "x").write_bytes(b"abc\0\0")
    await store.replace(upload.evolve(offset=4), synced=True)
    await store.replace(upload.evolve(offset=5, length=200))
    assert '"Offset":4' in (root / "x.info").read_text(), "the one that was synced"
    del store
    found = await start(root, group, "second").load("x")
    assert (found.offset, found.length) == (4, 200)


async def test_nothing_is_known_to_be_synced_where_no_record_can_be_read(root: Path, group: GroupSync) -> None:
    (root / "x.info").write_text("{")
    await start(root, group, "first").replace(Upload(id="x", length=9, offset=5))
    assert '"Offset":0' in (root / "x.info").read_text()


async def test_damage_is_skipped_and_all_is_told(root: Path, group: GroupSync, caplog: pytest.LogCaptureFixture) -> None:
    put(root, "damaged", b"abc\0", "{")
    (root / "target").write_bytes(b"abc\0")
    (root / "link").symlink_to(root / "target")
    (root / "link.info").write_text('{"Size":9}')
    (root / "empty.info").write_text('{"Size":9}')
    put(root, "x", b"abc\0")
    with caplog.at_level(logging.INFO):
        store = start(root, group, "second")
    assert (await store.load("x")).offset == 3
    assert (root / "target").read_bytes() == b"abc\0"
    assert "'damaged'" in caplog.text and "'link'" in caplog.text and "'empty'" not in caplog.text
    assert "looked at 4 records" in caplog.text and "1 uploads shortened, 2 failures" in caplog.text


# Bytes that were on their way to the disk: ext4 has noted the size, and the blocks as not written


@pytest.fixture
def disk(group: GroupSync) -> Iterator[Path]:
    """A directory on ext4 that was served before."""
    requires_mounts("ext4")
    with LoopDisk("ext4") as disk:
        start(disk.path, group, "first")
        yield disk.path


def put_lossy(root: Path, name: str, *pieces: bytes | int, info: str, age: float = 0) -> Path:
    """An upload of bytes and, where there is a number, of so many that were lost; last written to `age` seconds ago."""
    path = put(root, name, b"", info)
    with path.open("wb") as file:
        for piece in pieces:
            if isinstance(piece, int):
                os.posix_fallocate(file.fileno(), file.tell(), piece)
                file.seek(piece, os.SEEK_CUR)
            else:
                file.write(piece)
                file.flush()
        os.fsync(file.fileno())
        os.utime(file.fileno(), (NOW, NOW - age))
    return path


NOW = 1_700_000_000.0
ALL, BLOCK = 1 << 20, 4096


@pytest.mark.root
@pytest.mark.parametrize(
    ("pieces", "floor", "left"),
    [
        ((ALL,), 0, 0),
        ((b"a" * BLOCK, ALL), 0, BLOCK),
        ((b"a" * BLOCK, ALL, b"a" * BLOCK), 0, BLOCK),
        ((b"a" * 5000, ALL), 0, 5000),
        ((b"a" * 5000 + b"\0" * 100, ALL), 0, 5000),
        ((b"a" * 5000 + b"\0" * 100, ALL), 5050, 5050),
        ((b"a" * BLOCK + b"\0" * ALL + b"a" * BLOCK,), 0, ALL + 2 * BLOCK),
        ((b"a" * 5000 + b"\0" * (2 * BLOCK - 5000) + b"a" * ALL,), 0, 5000),
        ((b"a" * 5000 + b"\0" * (2 * BLOCK - 5000) + b"a" * ALL,), 5050, 5050),
        ((b"a" * 5000 + b"\0" * (2 * BLOCK - 5000) + b"a" * ALL,), 2 * BLOCK, 2 * BLOCK + ALL),
        ((b"a" * 2 * ALL + b"a" * 5000 + b"\0" * (2 * BLOCK - 5000) + b"a" * ALL, ALL), 0, 2 * ALL + 5000),
        ((b"a" * 5000 + b"\0" * 100 + b"a" * ALL,), 0, 5100 + ALL),
        ((b"a" * (BLOCK - 7) + b"\0" * 7 + b"a" * ALL,), 0, BLOCK + ALL),
    ],
    ids=[
        "all",
        "the end",
        "the middle",
        "within a block",
        "zeros before it",
        "synced",
        "zeros that were written",
        "a block that had grown",
        "such a one, half of it synced",
        "such a one, synced",
        "such a one before a hole",
        "zeros within a block",
        "few zeros",
    ],
)
async def test_what_was_on_its_way_is_cut(
    disk: Path, group: GroupSync, pieces: tuple[bytes | int, ...], floor: int, left: int
) -> None:
    put_lossy(disk, "x", *pieces, info=f'{{"Size":100000000,"Offset":{floor}}}')
    assert (await start(disk, group, "second").load("x")).offset == left


@pytest.mark.root
async def test_what_was_written_long_before_has_no_gaps(disk: Path, group: GroupSync) -> None:
    """And not all of it is read, where it has zeros of its own."""
    data = b"a" * 5000 + b"\0" * (2 * BLOCK - 5000) + b"a" * ALL
    for name, age in (("old", RECENT + 1), ("recent", RECENT)):
        put_lossy(disk, name, data, info='{"Size":100000000}', age=age)
    put_lossy(disk, "new", data, b"a" * SCANNED, info='{"Size":100000000}')
    store = start(disk, group, "second")
    offsets = {name: (await store.load(name)).offset for name in ("old", "recent", "new")}
    assert offsets == {"old": len(data), "recent": 5000, "new": len(data) + SCANNED}


@pytest.mark.root
async def test_an_upload_is_not_complete_that_was_not_confirmed_and_has_lost_bytes(disk: Path, group: GroupSync) -> None:
    size = BLOCK + ALL
    put_lossy(disk, "lost", b"a" * BLOCK, ALL, info=f'{{"Size":{size}}}', age=RECENT)
    put_lossy(disk, "newer", b"a", info='{"Size":1}')
    await check_finished(start(disk, group, "second"), lost=False, newer=True)


@pytest.mark.root
async def test_other_uploads_that_are_complete_keep_their_holes(disk: Path, group: GroupSync) -> None:
    """Whoever copies files may make holes of zeros, and a final is as a whole or not at all."""
    size = BLOCK + ALL
    put_lossy(disk, "copied", b"a" * BLOCK, ALL, info=f'{{"Size":{size}}}', age=RECENT + 1)
    put_lossy(disk, "synced", b"a" * BLOCK, ALL, info=f'{{"Size":{size},"Offset":{size}}}')
    put_lossy(disk, "final", b"a" * BLOCK, ALL, info=f'{{"Size":{size},"IsFinal":true,"PartialUploads":["p"]}}')
    await check_finished(start(disk, group, "second"), copied=True, synced=True, final=True)


@pytest.mark.root
async def test_bytes_that_are_only_in_memory_are_not_lost(disk: Path, group: GroupSync) -> None:
    """A container that is started anew sees a new mount of a file system that has lost nothing."""
    for name, info in (("x", '{"Size":100000000}'), ("complete", f'{{"Size":{ALL}}}')):
        put(disk, name, b"a" * ALL, info)
    store = start(disk, group, "second")
    assert (await store.load("x")).offset == (await store.load("complete")).offset == ALL


@pytest.mark.root
async def test_holes_are_no_loss_on_other_file_systems(tmp_path: Path, group: GroupSync) -> None:
    """Some make holes of all zeros."""
    requires_mounts()
    with mounted_tmpfs(tmp_path / "tmpfs", "size=64m") as root:
        start(root, group, "first")
        path = put(root, "x", b"a", '{"Size":100000000}')
        os.truncate(path, ALL)
        with path.open("r+b") as file:
            file.seek(ALL)
            file.write(b"a")
        assert (await start(root, group, "second").load("x")).offset == ALL + 1


async def check_finished(store: TusdDirectory, **expected: bool) -> None:
    assert {name: (await store.load(name)).finished for name in expected} == expected


# When


async def test_nothing_is_cut_without_a_power_cut(root: Path, group: GroupSync) -> None:
    put(root, "x", b"abc\0\0")
    assert (await start(root, group, "first").load("x")).offset == 5


async def test_nothing_is_cut_in_a_directory_that_was_never_served(tmp_path: Path, group: GroupSync) -> None:
    put(tmp_path, "x", b"abc\0\0")
    assert (await start(tmp_path, group, "first").load("x")).offset == 5
    assert (tmp_path / ".tusd-py" / "session").read_text() == "first"


async def test_it_happens_once(root: Path, group: GroupSync) -> None:
    start(root, group, "second")
    put(root, "x", b"abc\0\0")
    assert (await start(root, group, "second").load("x")).offset == 5


async def test_nothing_is_cut_while_others_serve(root: Path, group: GroupSync) -> None:
    """Who sees the same directory by another mount, as a container does, has not lived through a power cut."""
    serving = start(root, group, "first")
    put(root, "x", b"abc\0\0")
    other = start(root, group, "another mount")
    assert (await other.load("x")).offset == 5
    del serving, other
    assert (await start(root, group, "another mount").load("x")).offset == 3


def test_one_looks_while_the_others_wait(root: Path) -> None:
    looks = []
    state, watches = str(root / ".tusd-py"), []

    def begin() -> None:
        watch = Watch(state, f"{state}/tmp", 0o664)
        watch.begin("second", lambda: looks.append(threading.get_ident()))
        watches.append(watch)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    with open(f"{state}/session.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for thread in threads:
            thread.start()
        assert not watches
    for thread in threads:
        thread.join(10)
    assert (len(looks), len(watches)) == (1, 8)


async def test_a_look_that_fails_is_repeated(root: Path, group: GroupSync, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "x", b"abc\0\0")
    with monkeypatch.context() as patch:
        patch.setattr("tusd_py.infostore.listing.BATCH", -1)
        with pytest.raises(ValueError, match="islice"):
            start(root, group, "second")
    assert (await start(root, group, "second").load("x")).offset == 3


async def test_a_full_disk_is_no_reason_not_to_start(
    root: Path, group: GroupSync, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(root, "x", b"abc\0\0")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(power_loss, "write_all", full)
        assert (await start(root, group, "second").load("x")).offset == 3
    assert "no space" in caplog.text
    assert (root / ".tusd-py" / "session").read_text() == "first"
    with monkeypatch.context() as patch:
        patch.setattr(power_loss, "TemporaryFile", lambda *args: (root / "missing").read_bytes())
        with pytest.raises(StorageFailure, match="power"):
            start(root, group, "second")


# Who this is


def test_the_identity_is_that_of_boot_and_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identify(str(tmp_path)) == identify(str(tmp_path))
    assert Path(power_loss._BOOT_ID).read_text().strip() in identify(str(tmp_path))
    monkeypatch.setattr(power_loss, "_statx_mount_id", lambda directory, flag: None)
    monkeypatch.setattr(power_loss, "_BOOT_ID", str(tmp_path / "missing"))
    assert identify(str(tmp_path)) == f"version=1 boot=unknown device={tmp_path.stat().st_dev}\n"


def test_a_kernel_that_does_not_know_a_flag_says_nothing(tmp_path: Path) -> None:
    assert power_loss._statx_mount_id(str(tmp_path), 0x4000_0000) is None
    assert power_loss._statx_mount_id(str(tmp_path / "missing"), 0x1000) is None
