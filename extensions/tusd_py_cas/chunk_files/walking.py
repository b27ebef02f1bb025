"""Looking through the directories of chunks, a directory at a time."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from tusd_py_cas.layout import Layout, parse_file_name
from tusd_py_cas.model import Codec
from tusd_py_cas.os_errors import reading_failed

__all__ = ["Found", "is_empty", "walk"]

_DIRECTORIES = [bytes([first]) for first in range(256)]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is called as one of a chunk is: its size in bytes, and when it was last written (seconds since the epoch)."""

    name: bytes
    codec: Codec
    size: int
    modified: float


def walk(layout: Layout) -> Iterator[Found]:
    """All regular files that are called as those of chunks are, in their directories; nothing else. In the order
    of the directories, not of names. Raises `StorageFailure`."""
    for first in _DIRECTORIES:
        directory = layout.chunk_directory(first)
        try:
            found = _files_in(directory, first)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise reading_failed(error, f"looking through {directory!r}") from error
        yield from found


def is_empty(layout: Layout) -> bool:
    """Whether there is nothing that is called as a chunk's file is. Raises `StorageFailure`."""
    for directory in map(layout.chunk_directory, _DIRECTORIES):
        try:
            with os.scandir(directory) as entries:
                if any(parse_file_name(entry.name) for entry in entries):
                    return False
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise reading_failed(error, f"looking through {directory!r}") from error
    return True


def _files_in(directory: str, first: bytes) -> list[Found]:
    """As a list, so that nothing stays open while the caller works."""
    if stat.S_ISLNK(os.stat(directory, follow_symlinks=False).st_mode):
        return []
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            parsed = parse_file_name(entry.name)
            if parsed is None or not parsed[0].startswith(first):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(Found(*parsed, status.st_size, status.st_mtime))
    return found
