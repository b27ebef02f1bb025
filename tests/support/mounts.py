"""File systems of a test's own: small ones that fill up, and ones whose power can be cut. All of it needs root.

Whatever happens in the test, leaving the `with` block gives everything back: a busy mount is detached lazily, and the
kernel frees the loop device with the last reference to it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Self

import pytest

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32): EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are the same number
NO_LOG_FLUSH = struct.pack("I", 2)  # neither data nor journal is written any more: what a power cut leaves
IMAGE_SIZE = 320 << 20  # mkfs.xfs refuses less than 300 MB; the image is sparse


class MountFailed(Exception):
    """A mount command failed; the message has what it said."""


def run(*command: str | Path) -> str:
    """What the command says. Raises `MountFailed`."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    if done.returncode:
        raise MountFailed(f"{' '.join(map(str, command))}: {done.stdout.strip()}")
    return done.stdout


@cache
def why_no_mounts() -> str:
    """Why this process can't mount anything; empty when it can."""
    if os.geteuid() != 0:
        return "needs root: mounts file systems"
    try:
        with tempfile.TemporaryDirectory() as directory, mounted_tmpfs(Path(directory) / "probe", "size=64k"):
            return ""
    except MountFailed as failure:
        return f"root may not mount here: {failure}"


def requires_mounts(kind: str = "tmpfs") -> None:
    """Skip the running test where a file system of this kind can't be made and mounted."""
    if reason := why_no_mounts():
        pytest.skip(reason)
    if kind != "tmpfs" and shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")


def unmount(mount: Path) -> None:
    """Unmount for good: at once where nothing is open any more, else detached now and freed by the kernel later."""
    try:
        run("umount", mount)
    except MountFailed:
        with suppress(MountFailed):
            run("umount", "-l", mount)


@contextmanager
def mounted_tmpfs(mount: Path, options: str) -> Iterator[Path]:
    """A tmpfs, for example with `size=4m` or `size=4m,nr_inodes=20`."""
    mount.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", mount)
    try:
        yield mount
    finally:
        unmount(mount)


def remount(mount: Path, options: str) -> None:
    run("mount", "-o", f"remount,{options}", mount)


class LoopDisk:
    """A file system in a file, mounted on `path`. `cut_power` loses what was not synced; `mount` brings the rest back.

    The file is in memory where possible, unless `direct`: then each write takes as long as the disk needs, and the power can be
    cut while it is on its way.
    """

    def __init__(
        self,
        kind: str = "ext4",
        size: int = IMAGE_SIZE,
        mkfs_options: tuple[str, ...] = (),
        mount_options: str = "",
        *,
        direct: bool = False,
    ) -> None:
        self.kind, self.size, self.mkfs_options, self.mount_options = kind, size, mkfs_options, mount_options
        self.direct = direct
        self.directory_fd: int | None = None

    def __enter__(self) -> Self:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) and not self.direct else None
        self.work = Path(tempfile.mkdtemp(prefix="tusd-py-disk-", dir=memory))
        self.image, self.path = self.work / "image", self.work / "mount"
        self.path.mkdir()
        try:
            with self.image.open("wb") as image:
                image.truncate(self.size)
            run(f"mkfs.{self.kind}", "-q", *self.mkfs_options, self.image)
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def mount(self) -> None:
        device = run("losetup", *(["--direct-io=on"] if self.direct else []), "--find", "--show", self.image).strip()
        run("mount", *(["-o", self.mount_options] if self.mount_options else []), device, self.path)
        run("losetup", "--detach", device)  # once it is unmounted
        self.directory_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def cut_power(self) -> None:
        """From here on every operation on the file system fails, as on a dead disk; nothing more reaches the image."""
        assert self.directory_fd is not None
        fcntl.ioctl(self.directory_fd, SHUTDOWN, NO_LOG_FLUSH)

    def sync(self) -> None:
        run("sync", "-f", self.path)

    def fail(self) -> None:
        """Make ext4 think that it has found an error; with `errors=remount-ro` it becomes read-only on the spot."""
        mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
        device = next(fields[0] for fields in mounts if fields[1] == str(self.path))
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("tests want to see what happens\n")

    def unmount(self) -> None:
        if self.directory_fd is not None:
            os.close(self.directory_fd)
            self.directory_fd = None
            unmount(self.path)

    def replug(self) -> None:
        """Mount again what `cut_power` has left. Whoever had files open must have ended."""
        assert self.directory_fd is not None
        os.close(self.directory_fd)
        self.directory_fd = None
        run("umount", self.path)  # not lazily: the old file system has to be gone before its image is read again
        self.mount()

    def __exit__(self, *exc: object) -> None:
        self.unmount()
        shutil.rmtree(self.work, ignore_errors=True)
