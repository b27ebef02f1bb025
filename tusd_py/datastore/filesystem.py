"""Bytes in a directory, a file per upload: tusd's file store, with the promises that tusd does not make.

Files are created exclusively (tusd truncates an upload whose id is created again), written at explicit positions, and never
outside the upload directory. Cheap system calls are made on the event loop: a thread hop costs more than creating a file.
Knows nothing of records; `Upload.storage["Path"]` is all it asks of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import aiofiles.os

from tusd_py.datastore.file_writers import LARGE, DirectWriter, Place, StagedWriter, cut
from tusd_py.fs.copying import CopyStopped, copy_bytes
from tusd_py.fs.directories import make_parents, prepare_root, prepare_state
from tusd_py.fs.errors import translate
from tusd_py.fs.intents import Intents
from tusd_py.fs.paths import ancestors, confine, data_path
from tusd_py.fs.sync import GroupSync
from tusd_py.fs.temporary import TemporaryFile
from tusd_py.fs.threads import run_to_end
from tusd_py.ports.datastore import Extent, PlainContent
from tusd_py.ports.failures import StorageFailure, UploadExists, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["DEFAULT_THREADS", "FileContent", "FilesystemStore"]

DEFAULT_THREADS = 8
"""For reads, concatenations and large removals: enough to keep a disk busy, few enough to be no burden when idle."""

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_CLOEXEC


class FilesystemStore:
    """A `DataStore` in the directory `root`, which may be tusd's. `group` is shared with whoever else syncs files there.

    The modes are subject to the process's umask, as tusd's are. Raises `ReadOnlyStorage` if the directory can't be used.
    """

    def __init__(
        self, root: str, *, group: GroupSync, dir_mode: int = 0o775, file_mode: int = 0o664, threads: int = DEFAULT_THREADS
    ) -> None:
        self._root = prepare_root(root, dir_mode)
        self._tmp_dir = prepare_state(self._root, "tmp", dir_mode)
        self._intents = Intents(self._root, dir_mode)
        self._dir_mode, self._file_mode, self._group = dir_mode, file_mode, group
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tusd-files")

    def __repr__(self) -> str:
        return f"<FilesystemStore {self._root!r}>"

    def close(self) -> None:
        """Let the threads go once they have done what was asked of them."""
        self._pool.shutdown(wait=False)

    def place(self, upload_id: str, path: str | None = None) -> Mapping[str, str]:
        where = data_path(self._root, upload_id) if path is None else confine(self._root, path)
        return {"Type": "filestore", "Path": where}

    async def create(self, upload: Upload, *, verified: bool = True, fresh: bool = False) -> DirectWriter:
        path = self._path(upload)
        fd = -1
        try:
            try:
                fd = os.open(path, _CREATE, self._file_mode)
            except FileNotFoundError:
                make_parents(path, self._dir_mode)
                fd = os.open(path, _CREATE, self._file_mode)
            if not fresh:
                self._intents.end(upload.id)  # of an upload that had this id and was removed by somebody else
        except (FileExistsError, NotADirectoryError) as error:  # the latter: `a/b`, and `a` is an upload
            raise UploadExists(f"creating {path!r}: there is something already") from error
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise translate(error, f"creating {path!r}") from error
        return (DirectWriter if verified else StagedWriter)(self._place(path, upload.id), fd, 0)

    async def open_writer(self, upload: Upload, *, verified: bool = True) -> DirectWriter:
        path = self._path(upload)
        fd = -1
        try:
            fd = os.open(path, _WRITE)
            size = os.fstat(fd).st_size
            if size < upload.offset:
                raise StorageFailure(f"{path!r} has {size} bytes, its record says {upload.offset}")
            if size > upload.offset:
                await cut(fd, size, upload.offset, self._pool)
            self._intents.end(upload.id)  # of a commit that was killed half-way; what it wrote is gone now
        except BaseException as error:
            if fd >= 0:
                os.close(fd)
            if isinstance(error, OSError):
                raise translate(error, f"opening {path!r} for writing", missing=UploadNotFound) from error
            raise
        return (DirectWriter if verified else StagedWriter)(self._place(path, upload.id), fd, upload.offset)

    async def open_content(self, upload: Upload) -> FileContent:
        path = self._path(upload)
        try:
            fd = self._open_for_reading(path)
        except UploadNotFound:
            if upload.relocated:
                keeper = upload.storage["Type"]
                raise StorageFailure(f"the bytes of {upload.id!r} are kept by {keeper!r}: turn that extension on") from None
            raise
        committed = None
        if not upload.finished:
            try:
                _, committed = self._intents.measure(upload.id, path, None)
            except OSError as error:
                os.close(fd)
                raise translate(error, f"measuring {path!r}", missing=UploadNotFound) from error
        return FileContent(path, fd, self._pool, committed)

    async def concatenate(self, final: Upload, partials: Sequence[Upload], *, durable: bool = True) -> None:
        path = self._path(final)
        parts = [(self._path(partial), partial.offset) for partial in partials]
        try:
            temporary = TemporaryFile(self._tmp_dir, self._file_mode, hold=True)
            try:
                await run_to_end(self._pool, lambda stop: self._gather(temporary.fd, parts, stop))
                if durable:
                    await self._group.sync(temporary.fd)
                temporary.publish(path)
            finally:
                await run_to_end(self._pool, lambda _stop: temporary.discard())
        except OSError as error:
            raise translate(error, f"concatenating into {path!r}") from error
        if durable:
            await self._group.sync(*ancestors(self._root, path))

    def _gather(self, target: int, parts: Sequence[tuple[str, int]], stop: Event) -> None:
        position = 0
        for path, size in parts:
            source = self._open_for_reading(path)
            try:
                copy_bytes(source, 0, target, position, size, stop)
            except CopyStopped:
                return  # nobody waits for the result: a cancelled task is
            finally:
                os.close(source)
            position += size

    async def sync(self, upload: Upload) -> None:
        path = self._path(upload)
        await self._group.sync(path, *ancestors(self._root, path))

    async def remove(self, upload: Upload) -> None:
        path = self._path(upload)
        try:
            self._intents.end(upload.id)
            if os.stat(path).st_size > LARGE:
                await aiofiles.os.unlink(path)
            else:
                os.unlink(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # the latter: its file had gone before, for `a/b`
            return
        except OSError as error:
            raise translate(error, f"removing {path!r}") from error

    def _path(self, upload: Upload) -> str:
        path = upload.storage.get("Path")
        usual = data_path(self._root, upload.id)
        return confine(self._root, path) if path and path != usual else usual

    def _place(self, path: str, upload_id: str) -> Place:
        return Place(upload_id, path, self._intents, self._root, self._tmp_dir, self._file_mode, self._group, self._pool)

    def _open_for_reading(self, path: str) -> int:
        try:
            return os.open(path, _READ)
        except OSError as error:
            raise translate(error, f"opening {path!r}", missing=UploadNotFound) from error


class FileContent(PlainContent):
    """An open file, perhaps with bytes at its end that are no part of the upload yet.

    Removing or replacing it doesn't change what is read here.
    """

    def __init__(self, path: str, fd: int, pool: ThreadPoolExecutor, committed: int | None = None) -> None:
        self._path, self._fd, self._pool = path, fd, pool
        found = os.fstat(fd)
        self.size = found.st_size if committed is None else min(found.st_size, committed)
        self.modified = found.st_mtime
        # not the modification time, which anybody can set back after an edit: an ETag must never lie
        self.version = f"{found.st_ino:x}-{found.st_ctime_ns:x}-{found.st_size:x}"

    def __repr__(self) -> str:
        return f"<FileContent {self._path!r} {self.size} bytes{' closed' if self._fd < 0 else ''}>"

    def extents(self, offset: int, count: int) -> list[Extent]:
        return [(self._fd, offset, count)]

    async def read(self, offset: int, count: int) -> bytes:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, os.pread, self._fd, count, offset)
        except OSError as error:
            raise translate(error, f"reading {self._path!r}") from error

    async def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)
