"""`TusdDirectory` keeps the port's promises, and opens what tusd has written, whatever happened to it since."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tusd_py.infostore.tombstones as tombstones
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tusd_py.fs.sync import GroupSync
from tusd_py.fs.temporary import ABANDONED_AFTER
from tusd_py.infostore.tusd_dir import TusdDirectory
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, RecordDamaged, StorageFailure, UploadExists, UploadNotFound
from tusd_py.protocol.metadata import parse_metadata
from tusd_py.protocol.upload import Upload
from tusd_py.testing import InfoStoreSuite


@pytest.fixture
def group() -> Iterator[GroupSync]:
    group = GroupSync(2)
    yield group
    group.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


class TestTusdDirectory(InfoStoreSuite):
    @pytest.fixture
    def store(self, root: Path, group: GroupSync) -> TusdDirectory:
        self.root = root
        return TusdDirectory(str(root), group=group)

    async def put_bytes(self, upload: Upload, count: int) -> None:
        path = self.root / upload.id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, count)


@pytest.fixture
def store(root: Path, group: GroupSync) -> TusdDirectory:
    return TusdDirectory(str(root), group=group)


def put(root: Path, name: str, info: str | bytes | None = '{"ID":"x","Size":5}', data: bytes | None = b"abc") -> None:
    """Files as tusd leaves them."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        (root / name).write_bytes(data)
    if info is not None:
        (root / f"{name}.info").write_bytes(info if isinstance(info, bytes) else info.encode())


def fill(directory: Path) -> None:
    """Leave no space on the file system of `directory`."""
    with open(directory / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while filler.write(b"x" * 4096):
            pass


# What is written


async def test_the_record_is_tusds_to_the_letter(root: Path, store: TusdDirectory) -> None:
    await store.create(Upload(id="cd8e", length=11, metadata=parse_metadata("filename YS50eHQ=")))
    assert (root / "cd8e.info").read_text() == (
        '{"ID":"cd8e","Size":11,"SizeIsDeferred":false,"Offset":0,"MetaData":{"filename":"a.txt"},"IsPartial":false,"IsFinal":false,'
        f'"PartialUploads":null,"Storage":{{"InfoPath":"{root}/cd8e.info","Path":"{root}/cd8e","Type":"filestore"}},'
        '"TusdPy":{"Version":1,"Metadata":"filename YS50eHQ="}}'
    )


async def test_nothing_but_the_record_is_left_in_the_directory(root: Path, store: TusdDirectory) -> None:
    upload = Upload(id="x", length=5)
    await store.create(upload)
    await store.replace(upload)
    assert sorted(os.listdir(root)) == [".tusd-py", "x.info"]
    assert os.listdir(root / ".tusd-py" / "tmp") == []


async def test_removing_removes_the_record_only(root: Path, store: TusdDirectory) -> None:
    for name in ("x", "x.lock", "x.stop", "x.info", "x.infos", "xx.info"):
        (root / name).write_bytes(b"")
    await store.remove("x")
    assert sorted(os.listdir(root)) == [".tusd-py", "x", "x.infos", "x.lock", "x.stop", "xx.info"]


async def test_modes_are_as_asked_for(root: Path, group: GroupSync) -> None:
    store = TusdDirectory(str(root), group=group, dir_mode=0o750, file_mode=0o640)
    await store.create(Upload(id="a/x", length=5))
    assert (root / "a" / "x.info").stat().st_mode & 0o777 == 0o640
    assert (root / "a").stat().st_mode & 0o777 == 0o750
    await store.replace(Upload(id="a/x", length=6))
    assert (root / "a" / "x.info").stat().st_mode & 0o777 == 0o640


async def test_a_reader_never_meets_half_a_record(root: Path, store: TusdDirectory) -> None:
    """Another process, which shares nothing with the writer but the directory, reads all the time."""
    put(root, "x")
    upload = Upload(id="x", length=5, metadata=parse_metadata("k " + "QUFB" * 4000))
    await store.replace(upload)
    code = (
        "import json, sys\nprint('ready', flush=True)\nfor _ in range(20000):\n"
        f"    data = open({str(root / 'x.info')!r}).read()\n    json.loads(data)\nprint('good')"
    )
    reader = await asyncio.create_subprocess_exec("python3", "-c", code, stdout=asyncio.subprocess.PIPE)
    assert reader.stdout is not None
    await reader.stdout.readline()
    ended = asyncio.create_task(reader.wait())
    while not ended.done():
        await store.replace(upload)
    assert await reader.stdout.read() == b"good\n"


# What tusd, or time, has left


async def test_a_minimal_record_is_enough(root: Path, store: TusdDirectory) -> None:
    put(root, "x")
    upload = await store.load("x")
    assert (upload.id, upload.length, upload.offset) == ("x", 5, 3)
    assert upload.storage == {"Type": "filestore", "Path": f"{root}/x", "InfoPath": f"{root}/x.info"}


async def test_the_id_is_the_one_asked_for(root: Path, store: TusdDirectory) -> None:
    put(root, "dir/copy", '{"ID":"../../original","Size":5}')
    assert (await store.load("dir/copy")).id == "dir/copy"


@pytest.mark.parametrize(("data", "offset"), [(b"", 0), (b"abc", 3), (b"abcde", 5), (b"abcdefg", 5)])
async def test_the_offset_is_the_smaller_of_size_and_length(root: Path, store: TusdDirectory, data: bytes, offset: int) -> None:
    put(root, "x", '{"Size":5,"Offset":4}', data)
    assert (await store.load("x")).offset == offset


async def test_while_the_length_is_deferred_all_bytes_count(root: Path, store: TusdDirectory) -> None:
    put(root, "x", '{"Size":0,"SizeIsDeferred":true}', b"abc")
    upload = await store.load("x")
    assert (upload.length, upload.offset) == (None, 3)


@pytest.mark.parametrize(("data", "info", "active"), [(1000, 2000, 2000), (3000, 2000, 3000)])
async def test_activity_is_the_later_change(root: Path, store: TusdDirectory, data: int, info: int, active: int) -> None:
    put(root, "x")
    os.utime(root / "x", (1, data))
    os.utime(root / "x.info", (1, info))
    assert (await store.load("x")).active_at == active


@pytest.mark.parametrize(
    "path",
    [
        *("", "{root}/x", "{root}/./x", "x", "/moved/away/x", "{root}/renamed", "../outside", "{root}/../outside"),
        *("{root}/y.info", "{root}/.tusd-py/tmp/x", "{root}", "x\0"),
    ],
)
async def test_a_path_that_leads_nowhere_gives_way_to_the_usual(root: Path, store: TusdDirectory, path: str) -> None:
    put(root, "x", json.dumps({"Size": 5, "Storage": {"Path": path.format(root=root)}}))
    (root.parent / "outside").write_bytes(b"secret")
    upload = await store.load("x")
    assert upload.storage["Path"] == f"{root}/x"
    assert upload.offset == 3


async def test_a_file_that_is_given_up_while_its_record_is_read(
    root: Path, store: TusdDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"Size": 3, "Storage": {"Type": "filestore", "Path": f"{root}/x"}}
    put(root, "x", json.dumps(record), b"abc")
    find_data = store._find_data

    def given_up(upload: Upload) -> object:
        monkeypatch.undo()
        put(root, "x", json.dumps({**record, "Storage": {"Type": "cas", "Path": f"{root}/x"}}), None)
        (root / "x").unlink()
        return find_data(upload)

    monkeypatch.setattr(store, "_find_data", given_up)
    upload = await store.load("x")
    assert upload.finished and upload.relocated


async def test_what_an_extension_has_needs_no_file(root: Path, store: TusdDirectory, group: GroupSync) -> None:
    for data in (None, b"", b"abc"):  # of a final that is put together elsewhere, the empty file may still be there
        put(root, "x", json.dumps({"Size": 5, "Storage": {"Type": "cas", "Path": f"{root}/x"}}), data)
        upload = await store.load("x")
        assert (upload.offset, upload.finished, upload.relocated) == (5, True, True)
    await store.replace(upload)
    assert (await store.load("x")).storage["Type"] == "cas"
    put(root, "y", json.dumps({"Size": 0, "SizeIsDeferred": True, "Storage": {"Type": "cas"}}), b"ab")
    assert (await store.load("y")).offset == 2, "nobody takes over what is not finished"


async def test_what_an_extension_has_is_not_shortened_after_a_power_cut(root: Path, group: GroupSync) -> None:
    TusdDirectory(str(root), group=group, identity=lambda _: "one")
    put(root, "x", json.dumps({"Size": 5, "Storage": {"Type": "cas", "Path": f"{root}/x"}}), b"ab\0\0")
    store = TusdDirectory(str(root), group=group, identity=lambda _: "two")
    assert (root / "x").read_bytes() == b"ab\0\0"
    assert (await store.load("x")).offset == 5


async def test_a_path_below_the_root_is_where_the_bytes_are(root: Path, store: TusdDirectory) -> None:
    put(root, "elsewhere/bytes", None, b"abcd")
    for stored in (f"{root}/elsewhere/bytes", "elsewhere/bytes"):
        put(root, "x", json.dumps({"Size": 5, "Storage": {"Path": stored, "Other": "kept"}}), None)
        upload = await store.load("x")
        assert upload.offset == 4
        assert upload.storage["Path"] == f"{root}/elsewhere/bytes"
        assert upload.storage["Other"] == "kept"


async def test_a_path_outside_is_damage_where_there_is_no_other(root: Path, store: TusdDirectory) -> None:
    (root.parent / "outside").write_bytes(b"secret")
    put(root, "x", json.dumps({"Size": 5, "Storage": {"Path": f"{root.parent}/outside"}}), None)
    with pytest.raises(RecordDamaged, match="outside"):
        await store.load("x")


async def test_a_record_without_bytes_is_no_upload(root: Path, store: TusdDirectory) -> None:
    put(root, "x", data=None)
    with pytest.raises(UploadNotFound):
        await store.load("x")
    (root / "x").mkdir()
    with pytest.raises(UploadNotFound):
        await store.load("x")


@pytest.mark.parametrize("info", [b"", b"{", b"null", b'{"Size":-1}', b"\0" * 300])
async def test_damage_is_told_and_logged(
    root: Path, store: TusdDirectory, info: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(root, "x", info)
    with pytest.raises(RecordDamaged):
        await store.load("x")
    assert f"{root}/x.info" in caplog.text
    with pytest.raises(UploadExists):
        await store.create(Upload(id="x", length=1))


async def test_a_huge_file_is_no_record(root: Path, store: TusdDirectory) -> None:
    put(root, "x")
    os.truncate(root / "x.info", 1 << 40)
    with pytest.raises(RecordDamaged, match="large"):
        await store.load("x")


async def test_a_directory_in_the_place_of_a_record_is_a_failure(root: Path, store: TusdDirectory) -> None:
    (root / "x.info").mkdir(parents=True)
    with pytest.raises(StorageFailure):
        await store.load("x")
    assert [upload_id async for upload_id in store.ids()] == []


async def test_only_records_are_listed(root: Path, store: TusdDirectory) -> None:
    put(root, "x")
    put(root, "a/b/y")
    put(root, ".hidden/z")
    put(root, ".dot")
    for name in ("x.lock", "x.stop", "orphan", ".tusd-py/tmp/t.info", "bad name.info", ".info"):
        (root / name).touch()
    (root / "link").symlink_to(root / "a")
    assert sorted([upload_id async for upload_id in store.ids()]) == ["a/b/y", "x"]


def test_directories_of_others_do_not_keep_records_from_being_listed(root: Path) -> None:
    """Such as the `lost+found` of a file system that is mounted there, which is root's."""
    root.mkdir()
    (root / "x.info").write_bytes(b"{}")
    (root / "lost+found").mkdir(mode=0)
    drop = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    program = "import sys; from tusd_py.infostore.listing import RecordLister; print(RecordLister(sys.argv[1]).next_batch())"
    done = subprocess.run([*drop, sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['x']\n", "")


async def test_more_records_than_a_batch_are_listed(root: Path, store: TusdDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusd_py.infostore.listing.BATCH", 3)
    for number in range(10):
        put(root, f"d{number % 2}/x{number}")
    assert len([upload_id async for upload_id in store.ids()]) == 10


# What is left behind


async def test_tidying_beside_another_process(root: Path, group: GroupSync, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found may be gone when it is looked at."""
    store, scan = TusdDirectory(str(root), group=group), os.scandir
    (root / ".tusd-py" / "tombstones" / ".probe-1").touch()

    @contextmanager
    def scan_and_lose(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with scan(path) as entries:
            found = list(entries)
        for entry in found:
            os.unlink(entry.path)
        yield found

    monkeypatch.setattr(tombstones.os, "scandir", scan_and_lose)
    await store.tidy()
    assert not (root / ".tusd-py" / "tombstones" / ".probe-1").exists()


async def test_tidying_drops_old_tombstones(root: Path, group: GroupSync) -> None:
    now = 1e9
    store = TusdDirectory(str(root), group=group, clock=lambda: now)
    await store.remove("old", tombstone=True)
    now += tombstones.KEEP - 1
    await store.remove("new", tombstone=True)
    await store.tidy()
    assert await store.is_gone("old")
    now += 2
    await store.tidy()
    assert not await store.is_gone("old")
    assert await store.is_gone("new")


async def test_tidying_drops_what_crashes_left(root: Path, store: TusdDirectory) -> None:
    left = root / ".tusd-py" / "tmp" / "left"
    left.touch()
    await store.tidy()
    assert left.exists()
    old = left.stat().st_mtime - ABANDONED_AFTER - 60
    os.utime(left, (old, old))
    await store.tidy()
    assert not left.exists()


async def test_a_cancelled_replacement_leaves_the_old_record(root: Path, store: TusdDirectory) -> None:
    put(root, "x")
    task = asyncio.create_task(store.replace(Upload(id="x", length=6)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await store.load("x")).length == 5
    assert os.listdir(root / ".tusd-py" / "tmp") == []


class Syncs:
    """A group that counts."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.group = GroupSync(1, lambda fd: self.paths.append(os.readlink(f"/proc/self/fd/{fd}")))


@pytest.fixture
async def syncs() -> AsyncIterator[Syncs]:
    syncs = Syncs()
    yield syncs
    syncs.group.close()


async def test_a_record_is_synced_with_all_that_leads_to_it(root: Path, syncs: Syncs) -> None:
    store = TusdDirectory(str(root), group=syncs.group)
    upload = Upload(id="a/b/x", length=5)
    await store.create(upload)
    assert syncs.paths == [], "creation is not what durability is promised for"
    await store.sync(upload)
    assert sorted(syncs.paths) == [str(root), f"{root}/a", f"{root}/a/b", f"{root}/a/b/x.info"]


async def test_replacing_syncs_before_it_renames_unless_told_not_to(root: Path, syncs: Syncs) -> None:
    await TusdDirectory(str(root), group=syncs.group).replace(Upload(id="x", length=5))
    assert [os.path.dirname(path) for path in syncs.paths] == [f"{root}/.tusd-py/tmp"]
    await TusdDirectory(str(root), group=syncs.group, durable=False).replace(Upload(id="x", length=6))
    assert len(syncs.paths) == 1


async def test_expectations_are_durable(root: Path, syncs: Syncs) -> None:
    store = TusdDirectory(str(root), group=syncs.group)
    await store.expect(Upload(id="final", length=None, partials=("a",)))
    waiting = f"{root}/.tusd-py/waiting"
    assert sorted(syncs.paths) == [waiting, f"{waiting}/a", f"{waiting}/a/final"]


# What can go wrong


async def test_names_too_long_for_a_file_are_not_found(store: TusdDirectory) -> None:
    with pytest.raises(UploadNotFound):
        await store.load("x" * 300)


@pytest.mark.root
async def test_a_full_disk_leaves_no_half_record(tmp_path: Path, group: GroupSync) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "mount", "size=64k") as mount:
        store = TusdDirectory(str(mount), group=group)
        put(mount, "x")
        fill(mount)
        with pytest.raises(OutOfSpace):
            await store.create(Upload(id="new", length=5))
        with pytest.raises(OutOfSpace):
            await store.replace(Upload(id="x", length=6))
        assert sorted(os.listdir(mount)) == [".tusd-py", "filler", "x", "x.info"]
        assert os.listdir(mount / ".tusd-py" / "tmp") == []
        assert (await store.load("x")).length == 5


async def test_what_may_not_be_written_is_said_at_start(tmp_path: Path, group: GroupSync) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReadOnlyStorage, match=f"{tmp_path}/file"):
        TusdDirectory(str(tmp_path / "file"), group=group)


async def test_an_upload_in_the_way_of_a_directory_is_an_upload(root: Path, store: TusdDirectory) -> None:
    put(root, "a")
    with pytest.raises(UploadExists):
        await store.create(Upload(id="a/b", length=5))


async def test_io_errors_are_translated(root: Path, store: TusdDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "x")

    def fail(*args: object, **options: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageFailure, match=r"x\.info.*Input/output"):
        await store.load("x")
    with pytest.raises(StorageFailure):
        await store.create(Upload(id="y", length=5))
    with pytest.raises(StorageFailure):
        await store.replace(Upload(id="x", length=5))
