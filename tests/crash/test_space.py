"""Disks that are full, have no inodes left, or may not be written: what clients are told, what stays, how it goes on."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.crash.client import Headers, exchange
from tests.crash.ledger import digest, take_source
from tests.crash.scripts import seen
from tests.support.mounts import LoopDisk, mounted_tmpfs, remount, requires_mounts, run
from tests.support.server import ServerProcess
from tests.support.wire import Answer, TusClient, checksum, path_of

MEDIA = ("tmpfs", "ext4")
SIZE = 16 << 20
BLOCK = 4096
FULL = (507, "ERR_INSUFFICIENT_STORAGE")
READ_ONLY = (507, "ERR_STORAGE_READ_ONLY")


@dataclass
class Disk:
    """A small file system with an upload directory `data` and, beside it, ballast."""

    mount: Path

    @property
    def data(self) -> Path:
        return self.mount / "data"

    @property
    def free(self) -> int:
        found = os.statvfs(self.mount)
        return found.f_bfree * found.f_bsize

    def fill(self, leave: int) -> None:
        """Take space until `leave` bytes are free, as nearly as blocks allow; to leave none, until none can be had."""
        with (self.mount / "ballast").open("ab") as ballast:
            for size in (1 << 20, 1 << 16, BLOCK, 512):
                while (not leave or self.free - leave >= size) and self._take(ballast.fileno(), size):
                    pass

    @staticmethod
    def _take(fd: int, size: int) -> bool:
        try:
            os.write(fd, bytes(size))
            os.fsync(fd)
        except OSError:
            return False
        return True

    def relieve(self) -> None:
        (self.mount / "ballast").unlink()


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.root) for kind in MEDIA])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    requires_mounts(request.param)
    with ExitStack() as stack:
        if request.param == "tmpfs":
            yield Disk(stack.enter_context(mounted_tmpfs(tmp_path / "disk", f"size={SIZE}")))
        else:
            yield Disk(stack.enter_context(LoopDisk("ext4", SIZE, ("-m", "0"))).path)


@pytest.fixture
def server(disk: Disk) -> Iterator[ServerProcess]:
    with ServerProcess(disk.data) as server:
        yield server


@pytest.fixture
def source() -> bytes:
    return bytes(take_source(random.Random("space"), 5 << 20))


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.text.split(":")[0]


def patch(tus: TusClient, path: str, offset: int, body: bytes, **headers: object) -> Answer:
    pairs: Headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return exchange(tus, "PATCH", path, {"Upload-Offset": offset, **pairs}, body)


def finish(tus: TusClient, path: str, source: bytes) -> None:
    """Resume where the server says, then compare everything."""
    offset = tus.offset(path)
    if offset < len(source):
        answer = patch(tus, path, offset, source[offset:])
        assert (answer.status, answer.offset) == (204, len(source)), answer.text
    got = tus.get(path)
    assert got.status == 200 and digest(got.body) == digest(source)


def test_a_body_that_does_not_fit_is_kept_as_far_as_it_does(disk: Disk, server: ServerProcess, source: bytes) -> None:
    tus = server.client()
    path = tus.create(len(source))
    disk.fill(leave=2 << 20)
    answer = patch(tus, path, 0, source)
    assert told(answer) == FULL
    offset = tus.offset(path)
    stored = (disk.data / path.rsplit("/", 1)[1]).read_bytes()
    assert offset == len(stored) and stored == source[:offset]
    assert 1 << 20 <= offset < len(source), "there was room for more"
    again = patch(tus, path, offset, source[offset:])
    assert told(again) == FULL and tus.offset(path) >= offset
    disk.relieve()
    finish(tus, path, source)


def test_an_upload_beside_a_full_one_goes_on(disk: Disk, server: ServerProcess, source: bytes) -> None:
    tus = server.client()
    small, large = tus.create(BLOCK, source[:1000]), tus.create(len(source))
    disk.fill(leave=1 << 20)
    assert told(patch(tus, large, 0, source)) == FULL
    assert tus.offset(small) == 1000
    assert tus.delete(large).status == 204, "space can't be freed"
    finish(tus, small, source[:BLOCK])


@pytest.mark.parametrize("body", [b"", b"x" * 3000, b"x" * 300_000], ids=["empty", "small", "large"])
def test_a_creation_that_does_not_fit_leaves_nothing(disk: Disk, server: ServerProcess, body: bytes) -> None:
    tus = server.client()
    before = seen(disk.data)
    disk.fill(leave=0)
    metadata = f"filename {'QUFB' * 2500}"  # a record of several blocks: the directory itself may have room for a small one
    headers: Headers = {"Upload-Length": len(body) + 1000, "Upload-Metadata": metadata}
    answer = exchange(tus, "POST", tus.base, headers, body) if body else tus.request("POST", tus.base, headers)
    assert told(answer) == FULL
    assert seen(disk.data) == before
    disk.relieve()
    assert tus.request("POST", tus.base, headers).status == 201


@pytest.mark.parametrize("leave", [2 << 20, 7 << 20], ids=["not-once", "not-twice"])
def test_checksummed_bytes_that_do_not_fit_leave_no_trace(disk: Disk, server: ServerProcess, source: bytes, leave: int) -> None:
    """Whether there is no room to keep them until they are verified, or none for them beside themselves afterwards."""
    tus = server.client()
    path = tus.create(len(source), source[:1000])
    disk.fill(leave)
    before = disk.free
    rest = source[1000:]
    answer = patch(tus, path, 1000, rest, upload_checksum=checksum("sha1", rest))
    if answer.status != 204 or leave < len(rest):  # a server that moves them needs no room twice
        assert told(answer) == FULL
        assert tus.offset(path) == 1000
    if answer.status == 204:
        finish(tus, path, source)
        return
    assert disk.free >= before - 4 * BLOCK, "staged bytes were left behind"
    disk.relieve()
    answer = patch(tus, path, 1000, rest, upload_checksum=checksum("sha1", rest))
    assert (answer.status, answer.offset) == (204, len(source))
    finish(tus, path, source)


def test_a_concatenation_that_does_not_fit_harms_nothing(disk: Disk, server: ServerProcess, source: bytes) -> None:
    tus = server.client()
    pieces = source[: 2 << 20], source[2 << 20 :]
    parts = [tus.create(len(piece), piece, upload_concat="partial") for piece in pieces]
    disk.fill(leave=3 << 20)
    before, free = seen(disk.data), disk.free
    answer = tus.request("POST", tus.base, {"Upload-Concat": f"final;{' '.join(parts)}"})
    assert told(answer) == FULL
    assert seen(disk.data) == before, "half a final is left"
    assert disk.free >= free - 4 * BLOCK, "bytes of the final were left behind"
    for part, piece in zip(parts, pieces, strict=True):
        finish(tus, part, piece)
    disk.relieve()
    answer = tus.request("POST", tus.base, {"Upload-Concat": f"final;{' '.join(parts)}"})
    assert answer.status == 201
    finish(tus, path_of(answer.headers["location"]), source)


def test_a_server_starts_on_a_full_disk_so_that_space_can_be_freed(disk: Disk, source: bytes) -> None:
    with ServerProcess(disk.data) as server:
        tus = server.client()
        whole, begun = tus.create(1000, source[:1000]), tus.create(len(source), source[:BLOCK])
    disk.fill(leave=0)
    with ServerProcess(disk.data) as server:
        tus = server.client()
        assert tus.offset(begun) == BLOCK
        finish(tus, whole, source[:1000])
        assert tus.delete(whole).status == 204
        disk.relieve()
        finish(tus, begun, source)


@pytest.mark.root
@pytest.mark.parametrize("left", range(4))
def test_with_few_inodes_left_a_creation_works_or_leaves_nothing(tmp_path: Path, source: bytes, left: int) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=16m,nr_inodes=200") as mount, ServerProcess(mount / "data") as server:
        tus = server.client()
        path = tus.create(2000, source[:1000])
        used = take_inodes(mount, left)
        before = seen(mount / "data")
        answer = tus.request("POST", tus.base, {"Upload-Length": 10})
        assert answer.status == 201 or (told(answer) == FULL and seen(mount / "data") == before)
        assert answer.status == 507 or left >= 2, "there can't have been room for both files"
        assert tus.head(path).status == 200, "HEAD needs an inode"
        assert tus.get(path).status == 200
        again = patch(tus, path, 1000, source[1000:1500])
        assert again.status == 204 or told(again) == FULL
        assert tus.delete(path).status == 204, "nothing can be deleted"
        for ballast in used:
            ballast.unlink()
        finish(tus, tus.create(2000), source[:2000])


def take_inodes(mount: Path, leave: int) -> list[Path]:
    """Make empty files until `leave` inodes are free."""
    taken: list[Path] = []
    for number in count():
        try:
            (mount / f"inode-{number}").touch()
        except OSError:
            break
        taken.append(mount / f"inode-{number}")
    for _ in range(leave):
        taken.pop().unlink()
    return taken


def test_the_largest_file_size_ends_a_body_like_a_full_disk(start_server: StartServer, source: bytes) -> None:
    """Here the kernel really takes a part of a write: up to the limit."""
    server = start_server()
    tus = server.client()
    path = tus.create(len(source), source[:1000])
    limit, unlimited = 1_234_567, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    answer = patch(tus, path, 1000, source[1000:])
    assert told(answer) == FULL
    assert tus.offset(path) == limit
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    finish(tus, path, source)


@pytest.mark.parametrize("size", [800_000, 1_150_000, 3_000_000], ids=["memory", "file", "no-file"])
def test_checksummed_bytes_beyond_the_largest_file_size_leave_no_trace(
    start_server: StartServer, source: bytes, size: int
) -> None:
    """They are verified and good, and then only a part of them can be added."""
    server = start_server()
    tus = server.client()
    start = 1_000_000
    path, piece = tus.create(len(source), source[:start]), source[start : start + size]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1_234_567, resource.RLIM_INFINITY))
    assert told(patch(tus, path, start, piece, upload_checksum=checksum("sha1", piece))) == FULL
    assert tus.offset(path) == start
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert patch(tus, path, start, piece, upload_checksum=checksum("sha1", piece)).status == 204
    finish(tus, path, source)


def test_a_disk_that_became_read_only_still_serves(disk: Disk, source: bytes) -> None:
    with ServerProcess(disk.data) as server:
        tus = server.client()
        whole, begun = tus.create(BLOCK, source[:BLOCK]), tus.create(len(source), source[:1000])
    with ServerProcess(disk.data) as server:  # a new one: an administrator can't remount what somebody has open for writing
        tus = server.client()
        remount(disk.mount, "ro")
        check_read_only(tus, whole, begun, source)
        remount(disk.mount, "rw")
        finish(tus, begun, source)


@pytest.mark.root
def test_a_disk_that_failed_still_serves(source: bytes) -> None:
    """What ext4 does by itself when it finds an error: from one moment to the next nothing can be written."""
    requires_mounts("ext4")
    with LoopDisk("ext4", SIZE, mount_options="errors=remount-ro") as disk, ServerProcess(disk.path / "data") as server:
        tus = server.client()
        whole, begun = tus.create(BLOCK, source[:BLOCK]), tus.create(len(source), source[:1000])
        disk.sync()
        disk.fail()
        check_read_only(tus, whole, begun, source)


def check_read_only(tus: TusClient, whole: str, begun: str, source: bytes) -> None:
    """Nothing can be written, everything can be asked for and read."""
    assert told(tus.request("POST", tus.base, {"Upload-Length": 10})) == READ_ONLY
    assert told(exchange(tus, "POST", tus.base, {"Upload-Length": 10}, b"x" * 10)) == READ_ONLY
    assert told(patch(tus, begun, 1000, source[1000:])) == READ_ONLY
    rest = source[1000:]
    assert told(patch(tus, begun, 1000, rest, upload_checksum=checksum("sha1", rest))) == READ_ONLY
    assert told(tus.delete(whole)) == READ_ONLY
    assert tus.offset(begun) == 1000 and tus.offset(whole) == BLOCK
    assert tus.get(whole).body == source[:BLOCK]
    assert tus.request("HEAD", begun, tus=False).offset == 1000


def start_and_fail(directory: Path) -> None:
    """A server can't start here: it says so in one sentence that names the directory, and exits with status 1."""
    command = [sys.executable, "-m", "tusd_py", "-host=127.0.0.1", "-port=0", f"-upload-dir={directory}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    sentences = [line for line in done.stdout.splitlines() if str(directory) in line and "Using" not in line]
    assert len(sentences) == 1, f"one sentence about the directory was expected:\n{done.stdout}"


@pytest.mark.root
def test_a_server_does_not_start_on_a_read_only_file_system(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as mount:
        (mount / "there").mkdir()
        remount(mount, "ro")
        for name in ("there", "missing"):
            start_and_fail(mount / name)


@pytest.mark.root
def test_a_server_does_not_start_in_a_directory_it_may_not_write(tmp_path: Path) -> None:
    """Even root may not write to an immutable directory."""
    requires_mounts("ext4")
    with LoopDisk("ext4", SIZE) as disk:
        directory = disk.path / "data"
        directory.mkdir()
        run("chattr", "+i", directory)
        start_and_fail(directory)
        run("chattr", "-i", directory)


def test_a_server_does_not_start_where_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        start_and_fail(directory)
    assert (tmp_path / "file").read_text() == "in the way"
