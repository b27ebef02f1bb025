"""Files that appear as a whole or not at all, below a directory that they can't leave.

A file is written beside its place under another name, synced, and then linked or renamed to its place; directories on the way
are made, and links among them are not followed. Knows bytes and paths, not where they come from.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Self

from tusd_py_cas.layout import write_all
from tusd_py_cas.os_errors import NO_LINKS

__all__ = ["Destination", "Exists", "InTheWay"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NO_DIRECTORY = frozenset({errno.ENOTDIR, errno.ELOOP})
_NO_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class Exists(Exception):
    """There is something at the path `parts`, which is to be kept."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        super().__init__(b"/".join(parts))
        self.parts = parts


class InTheWay(Exception):
    """A directory is needed where a file is, or a file where there is something else, such as a directory or a device."""


class Destination:
    """The directory `path`, which exists. What was written is durable after `close`. Raises `OSError`."""

    def __init__(self, path: str) -> None:
        self._root = os.open(path, _DIRECTORY)
        self._directory = self._root
        self._where: tuple[bytes, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, parts: Sequence[bytes], content: Iterable[bytes], *, force: bool, modified: float) -> None:
        """Make the file, last changed at `modified`, subject to the umask; in the place of another one only with `force`.

        Raises `Exists`, `InTheWay`, `OSError`, and what `content` raises; then nothing is there that was not before.
        """
        self.check(parts, force=force)
        temporary = f".tusd-py-export-{os.urandom(8).hex()}".encode()
        fd = os.open(temporary, _CREATE, 0o666, dir_fd=self._directory)
        try:
            try:
                for piece in content:
                    write_all(fd, piece)
                os.utime(fd, (modified, modified))
                os.fsync(fd)
            finally:
                os.close(fd)
            self._publish(temporary, parts, force)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._directory)

    def close(self) -> None:
        """Idempotent."""
        try:
            self._leave()
        finally:
            root, self._root = self._root, -1
            if root >= 0:
                os.close(root)

    def _enter(self, directories: tuple[bytes, ...]) -> None:
        """Objects come in the order of their names, so that many in a row have the same directory."""
        if directories == self._where:
            return
        self._leave()
        current = self._root
        try:
            for name in directories:
                below = _descend(current, name)
                if current != self._root:
                    os.close(current)
                current = below
        except BaseException:
            if current != self._root:
                os.close(current)
            raise
        self._directory, self._where = current, directories

    def _leave(self) -> None:
        directory, self._directory, self._where = self._directory, self._root, ()
        if directory < 0 or self._root < 0:
            return
        try:
            _sync(directory)
        finally:
            if directory != self._root:
                os.close(directory)

    def check(self, parts: Sequence[bytes], *, force: bool) -> None:
        """Before any byte is read; whoever comes in between is found by the link. Raises as `write` does."""
        *directories, last = parts
        self._enter(tuple(directories))
        try:
            mode = os.stat(last, dir_fd=self._directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not force:
            raise Exists(parts)
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise InTheWay

    def _publish(self, temporary: bytes, parts: Sequence[bytes], force: bool) -> None:
        here, name = self._directory, parts[-1]
        if not force:
            try:
                os.link(temporary, name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
            except FileExistsError:
                raise Exists(parts) from None
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                self.check(parts, force=force)
            else:
                return
        try:
            os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
        except IsADirectoryError:
            raise InTheWay from None


def _descend(directory: int, name: bytes) -> int:
    try:
        os.mkdir(name, dir_fd=directory)
    except FileExistsError:
        pass
    else:
        _sync(directory)
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_DIRECTORY:
            raise InTheWay from None
        raise


def _sync(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
