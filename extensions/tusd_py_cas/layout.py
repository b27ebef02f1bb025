"""What is where in a repository's directory, and how files and directories there are made.

    repository.json       see `description`
    index.db              see `sqlite_index`
    chunks/ab/<64 hex>    a chunk as it is; with `.zst` behind it, as a zstd frame; ab are the first two digits of its name
    tmp/                  files that are being written
    quarantine/           damaged files of chunks, for people to look at

Nothing here is for other users of the machine: directories have mode 0700, files 0600.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass

from tusd_py.fs.directories import sync_directory
from tusd_py_cas.model import NAME_SIZE, Codec
from tusd_py_cas.past_cache import write_past_cache

__all__ = [
    "DIRECTORY_MODE",
    "FILE_MODE",
    "Layout",
    "file_name",
    "make_directory",
    "parse_file_name",
    "write_all",
    "write_temporary",
]

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600

_PAST_CACHE_FROM = 128 << 10
"""Bytes of a file: with fewer there is nothing to be gained."""

_NAME = re.compile(r"([0-9a-f]{64})(\.zst)?")
_SUFFIXES = {Codec.RAW: "", Codec.ZSTD: ".zst"}
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the repository in the directory `root`."""

    root: str

    @property
    def description(self) -> str:
        return f"{self.root}/repository.json"

    @property
    def index(self) -> str:
        return f"{self.root}/index.db"

    @property
    def chunks(self) -> str:
        return f"{self.root}/chunks"

    @property
    def temporary(self) -> str:
        return f"{self.root}/tmp"

    @property
    def quarantine(self) -> str:
        return f"{self.root}/quarantine"

    def chunk_directory(self, name: bytes) -> str:
        """The directory of all chunks whose names begin with the same byte."""
        return f"{self.root}/chunks/{name[:1].hex()}"

    def chunk(self, name: bytes, codec: Codec) -> str:
        file = file_name(name, codec)
        return f"{self.root}/chunks/{file[:2]}/{file}"

    def new_temporary(self) -> str:
        """A path that no other process and thread will think of."""
        return f"{self.root}/tmp/{os.urandom(12).hex()}"


def file_name(name: bytes, codec: Codec) -> str:
    """What the file of a chunk is called. `ValueError` unless `name` has the size of a name."""
    if len(name) != NAME_SIZE:
        raise ValueError(f"a chunk's name has {NAME_SIZE} bytes, not {len(name)}")
    return name.hex() + _SUFFIXES[codec]


def parse_file_name(text: str) -> tuple[bytes, Codec] | None:
    """The inverse of `file_name`; None for anything else."""
    match = _NAME.fullmatch(text)
    return None if match is None else (bytes.fromhex(match[1]), Codec.ZSTD if match[2] else Codec.RAW)


def write_temporary(path: str, data: bytes | memoryview, *, durable: bool) -> None:
    """Make the new file `path` with all of `data`, durably if asked for; nothing is left of it on failure. Raises `OSError`."""
    fd = os.open(path, _CREATE, FILE_MODE)
    try:
        try:
            done = write_past_cache(fd, data) if durable and len(data) >= _PAST_CACHE_FROM else 0
            write_all(fd, memoryview(data)[done:])
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however often the kernel takes only a part of it. Raises `OSError`."""
    rest = memoryview(data)
    while rest:
        written = os.write(fd, rest)
        if written == 0:
            raise OSError(errno.EIO, "the file takes no more bytes")
        rest = rest[written:]


def make_directory(path: str, *, durable: bool) -> None:
    """Make a directory and those that lead to it, where they are missing; `path` is absolute. Raises `OSError`."""
    try:
        _make_one(path)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            make_directory(parent, durable=durable)
        _make_one(path)  # raises where the parent is there and can't have children, as in /proc
    if durable:  # also where it was there: whoever made it a moment ago may not have got so far
        sync_directory(os.path.dirname(path))


def _make_one(path: str) -> None:
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
