"""`ChunkFiles`: writing, reading, removing and setting aside the files of chunks."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from threading import Lock

from blake3 import blake3

from tusd_py_cas.chunk_files.opening import drop_cached, identity, opened, read_exactly
from tusd_py_cas.chunk_files.shared_sync import SharedSync
from tusd_py_cas.chunk_files.walking import Found, is_empty, walk
from tusd_py_cas.codec import BadFrame, content_size, decompress
from tusd_py_cas.layout import Layout, file_name, make_directory, write_temporary
from tusd_py_cas.model import ChunkDamaged, Codec, StoredChunk
from tusd_py_cas.os_errors import reading_failed, writing_failed

__all__ = ["ChunkFiles"]

_LARGEST = 16 << 20
"""Bytes of a chunk: more than this the chunker does not leave uncut."""


class ChunkFiles:
    """The files in the repository at `path`. May be used by several threads and processes at once; all methods block.

    Raises, besides `ChunkDamaged`, `OutOfSpace`, `ReadOnlyStorage` and `StorageFailure`. Without `durable` nothing is synced.
    """

    def __init__(self, path: str, *, durable: bool = True) -> None:
        self._layout = Layout(path)
        self._durable = durable
        self._sync = SharedSync()
        self._lock = Lock()  # guards what follows
        self._known: set[str] = set()  # directories that are there
        self._unsynced: set[str] = set()  # of those, the ones whose own names may not be durable yet

    def __repr__(self) -> str:
        return f"<ChunkFiles {self._layout.root!r}>"

    # Writing

    def write(self, name: bytes, codec: Codec, stored: bytes | memoryview) -> None:
        """Store a chunk in the place of what may be there. Durable after `sync_directories`, and whole whatever happens."""
        target = self._layout.chunk(name, codec)
        temporary = self._layout.new_temporary()
        try:
            write_temporary(temporary, stored, durable=self._durable)
            try:
                self._place(temporary, target, self._layout.chunk_directory(name))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise writing_failed(error, f"storing the chunk {name.hex()}") from error

    def _place(self, temporary: str, target: str, directory: str) -> None:
        self._make(directory)
        try:
            os.rename(temporary, target)
        except FileNotFoundError:  # somebody has tidied up: an empty directory is nothing to them
            with self._lock:
                self._known.discard(directory)
            self._make(directory)
            os.rename(temporary, target)

    def _make(self, directory: str) -> None:
        if directory in self._known:
            return
        make_directory(directory, durable=False)
        with self._lock:
            self._known.add(directory)
            self._unsynced.add(directory)  # even if it was there: its maker may not have synced it yet

    def sync_directories(self, names: Iterable[bytes]) -> None:
        """Make durable under which names these chunks have been written. Each directory is synced once, and for all threads
        that ask at that moment."""
        if not self._durable:
            return
        directories = {self._layout.chunk_directory(name) for name in names}
        try:
            for directory in sorted(directories):
                self._sync.sync(directory)
            with self._lock:
                unsynced = frozenset(self._unsynced)
            if unsynced & directories:
                self._sync.sync(self._layout.chunks)
                with self._lock:
                    self._unsynced -= unsynced
        except OSError as error:
            raise writing_failed(error, "syncing directories of chunks") from error

    # Reading

    def exists(self, chunk: StoredChunk) -> bool:
        """Whether there is a file of this name, codec and stored size."""
        try:
            found = os.stat(self._layout.chunk(chunk.name, chunk.codec), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise reading_failed(error, f"looking for the chunk {chunk.name.hex()}") from error
        return stat.S_ISREG(found.st_mode) and found.st_size == chunk.stored_size

    def read_stored(self, chunk: StoredChunk, *, from_disk: bool = False) -> bytes:
        """The bytes of its file, unverified but for their number. Raises `ChunkDamaged`.

        With `from_disk` the page cache is asked to forget them, before, so that it is the disk that tells, and after.
        """
        try:
            with opened(self._layout.chunk(chunk.name, chunk.codec), chunk.name) as fd:
                if from_disk:
                    drop_cached(fd)
                stored = read_exactly(fd, chunk)
                if from_disk:
                    drop_cached(fd)  # it was not asked for by anybody
                return stored
        except OSError as error:
            raise reading_failed(error, f"reading the chunk {chunk.name.hex()}") from error

    def read(self, chunk: StoredChunk, *, from_disk: bool = False) -> bytes:
        """The bytes of the chunk, verified. Raises `ChunkDamaged`."""
        return self.verify_stored(chunk, self.read_stored(chunk, from_disk=from_disk))

    def verify_stored(self, chunk: StoredChunk, stored: bytes) -> bytes:
        """The bytes of the chunk that `stored` is the stored form of: those that have its name. Raises `ChunkDamaged`."""
        data = stored
        if chunk.codec is Codec.ZSTD:
            try:
                data = decompress(stored, chunk.size)
            except BadFrame as error:
                raise ChunkDamaged(chunk.name, str(error)) from error
        if len(data) != chunk.size:
            raise ChunkDamaged(chunk.name, f"it has {len(data)} bytes, not {chunk.size}")
        if blake3(data).digest() != chunk.name:
            raise ChunkDamaged(chunk.name, "its bytes have another hash")
        return data

    def find_sound(self, name: bytes) -> StoredChunk | None:
        """The file, in any form, that holds the bytes of this name, whatever the index says of it."""
        for codec in Codec:
            try:
                with contextlib.suppress(ChunkDamaged), opened(self._layout.chunk(name, codec), name) as fd:
                    return self._described(name, codec, fd)
            except OSError as error:
                raise reading_failed(error, f"looking for the chunk {name.hex()}") from error
        return None

    def _described(self, name: bytes, codec: Codec, fd: int) -> StoredChunk:
        """What the index should say of the file, whose bytes have this name. Raises `ChunkDamaged` where they have not."""
        stored_size = os.fstat(fd).st_size
        if stored_size > _LARGEST:
            raise ChunkDamaged(name, f"its file has {stored_size} bytes, more than a chunk")
        chunk = StoredChunk(name, stored_size, stored_size, codec)
        stored = read_exactly(fd, chunk)
        if codec is Codec.ZSTD:
            try:
                chunk = replace(chunk, size=content_size(stored, at_most=_LARGEST))
            except BadFrame as error:
                raise ChunkDamaged(name, str(error)) from error
        self.verify_stored(chunk, stored)
        return chunk

    # Removing

    def remove(self, chunk: StoredChunk) -> None:
        """Remove its file, in the form that is given; a missing one is fine."""
        try:
            os.unlink(self._layout.chunk(chunk.name, chunk.codec))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise writing_failed(error, f"removing the chunk {chunk.name.hex()}") from error

    def quarantine(self, chunk: StoredChunk) -> bool:
        """Move what is in the place of its file to `quarantine/`; whether something was. What has become a sound chunk again by
        now stays, or comes back at once."""
        source = self._layout.chunk(chunk.name, chunk.codec)
        target = f"{self._layout.quarantine}/{file_name(chunk.name, chunk.codec)}.{os.urandom(4).hex()}"
        try:
            examined = self._identity_of_damaged(chunk)
            if examined is None:
                return False
            make_directory(self._layout.quarantine, durable=False)  # who has looked at all that is in it may have removed it
            os.rename(source, target)
            if identity(os.stat(target, follow_symlinks=False)) != examined:  # stored again between the two lines
                os.rename(target, source)
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise writing_failed(error, f"moving the chunk {chunk.name.hex()} to quarantine") from error
        return True

    def _identity_of_damaged(self, chunk: StoredChunk) -> tuple[int, int] | None:
        """Of what is in the place of its file now, unless that is sound, be it of another size than the index knows."""
        found = identity(os.stat(self._layout.chunk(chunk.name, chunk.codec), follow_symlinks=False))
        try:
            with opened(self._layout.chunk(chunk.name, chunk.codec), chunk.name) as fd:
                found = identity(os.fstat(fd))
                self._described(chunk.name, chunk.codec, fd)
        except ChunkDamaged:
            return found
        return None

    # Keeping house

    def is_empty(self) -> bool:
        """Whether there is nothing that is called as a chunk's file is."""
        return is_empty(self._layout)

    def walk(self) -> Iterator[Found]:
        """All files that are called as those of chunks are and lie where they belong. Anything else is passed over."""
        return walk(self._layout)

    def tidy(self, before: float) -> int:
        """Remove files that were being written and have not been touched since `before`; returns how many. A living writer is
        through with its file in seconds."""
        removed = 0
        try:
            with os.scandir(self._layout.temporary) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                            os.unlink(entry.path)
                            removed += 1
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise writing_failed(error, f"tidying {self._layout.temporary!r}") from error
        return removed
