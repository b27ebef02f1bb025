"""Records in tusd's own directory: `<id>.info` beside `<id>`, and the size of `<id>` is the committed offset.

A directory that tusd has written opens as it is, with uploads in flight, and tusd opens what we write. tusd's lock and stop
files are not ours. What tusd has no place for (tombstones, finals that wait for their partials) is under `.tusd-py/`.
Where the bytes of a finished upload are in the care of an extension (`Storage.Type` says whose), there need be no file.
The record's own `Offset`, which tusd writes and does not read, is up to where the bytes are known to be synced.
Knows files; what is in a record is `info_format`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from tusd_py.fs.directories import make_parents, prepare_root, prepare_state
from tusd_py.fs.errors import translate
from tusd_py.fs.intents import Intents
from tusd_py.fs.paths import STATE_DIR, OutsideRoot, ancestors, confine, data_path, info_path
from tusd_py.fs.replace import replace, write_new
from tusd_py.fs.sync import GroupSync
from tusd_py.fs.temporary import remove_abandoned
from tusd_py.infostore.info_format import build_info, parse_info
from tusd_py.infostore.listing import RecordLister
from tusd_py.infostore.power_loss import Suspect, Watch, identify, look_at_all
from tusd_py.infostore.tombstones import Tombstones
from tusd_py.infostore.waiting import WaitingFinals
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.ports.failures import RecordDamaged, StorageFailure, UploadExists, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["TusdDirectory"]

logger = logging.getLogger(__name__)

_MAX_RECORD = 16 * 1024 * 1024
"""Bytes of a record: a request head is a small part of that, and a file this large with such a name is no record."""


class TusdDirectory:
    """An `InfoStore` in the directory `root`. `group` is shared with whoever else syncs files there.

    With `durable=False` records are still replaced as a whole, but a power cut may lose the new and the old.
    The modes are subject to the process's umask. Raises `ReadOnlyStorage` if the directory can't be used, `StorageFailure`.
    Blocks: the first to open the directory after a restart of the machine looks at all records, and everybody waits for that.
    `identity` is for tests that cut the power of a directory.
    """

    def __init__(
        self,
        root: str,
        *,
        group: GroupSync,
        dir_mode: int = 0o775,
        file_mode: int = 0o664,
        durable: bool = True,
        clock: Clock = system_clock,
        identity: Callable[[str], str] = identify,
    ) -> None:
        self._root = prepare_root(root, dir_mode)
        self._tmp_dir = prepare_state(self._root, "tmp", dir_mode)
        self._dir_mode, self._file_mode = dir_mode, file_mode
        self._group, self._record_group = group, group if durable else None
        self._tombstones = Tombstones(prepare_state(self._root, "tombstones", dir_mode), file_mode, clock)
        self._waiting = WaitingFinals(
            prepare_state(self._root, "waiting", dir_mode), self._tmp_dir, dir_mode, file_mode, self._record_group
        )
        self._intents = Intents(self._root, dir_mode)
        self._watch = Watch(f"{self._root}/{STATE_DIR}", self._tmp_dir, file_mode)
        self._watch.begin(identity(self._root), self._look_at_all)

    def __repr__(self) -> str:
        return f"<TusdDirectory {self._root!r}>"

    def place(self, upload_id: str) -> Mapping[str, str]:
        return {"InfoPath": info_path(self._root, upload_id)}

    async def create(self, upload: Upload) -> None:
        """Add a record, before the file that its bytes are in: until that is there, there is no upload to be read.

        So the record may be written in place, which is cheaper than any way of having it appear as a whole.
        """
        path = info_path(self._root, upload.id)
        data = build_info(upload, self._storage(upload, path))
        try:
            try:
                write_new(path, data, self._file_mode)
            except FileNotFoundError:
                make_parents(path, self._dir_mode)
                write_new(path, data, self._file_mode)
        except (FileExistsError, NotADirectoryError) as error:
            raise UploadExists(f"creating {path!r}: there is something already") from error
        except OSError as error:
            raise translate(error, f"creating {path!r}") from error

    async def replace(self, upload: Upload, *, synced: bool = False) -> None:
        path = info_path(self._root, upload.id)
        if not synced:
            upload = upload.evolve(offset=self._synced_offset(path, upload.id))
        data = build_info(upload, self._storage(upload, path))
        try:
            await replace(path, data, tmp_dir=self._tmp_dir, mode=self._file_mode, group=self._record_group)
        except OSError as error:
            raise translate(error, f"replacing {path!r}") from error

    def _synced_offset(self, path: str, upload_id: str) -> int:
        """What the record that is there says; no bytes are known to be synced where it says nothing."""
        try:
            return parse_info(self._read(path)[0], upload_id).offset
        except (UploadNotFound, RecordDamaged):
            return 0

    def _storage(self, upload: Upload, path: str) -> dict[str, str]:
        """What tusd has under `Storage`; without these, it can't find the bytes."""
        known = upload.storage
        if "Type" in known and "Path" in known:
            return {**known, "InfoPath": path}
        return {"Type": "filestore", "Path": data_path(self._root, upload.id), **known, "InfoPath": path}

    async def load(self, upload_id: str) -> Upload:
        try:
            return self._load(upload_id)
        except UploadNotFound:  # another process may have just given its file up: then the record says so by now
            return self._load(upload_id)

    def _load(self, upload_id: str) -> Upload:
        path = info_path(self._root, upload_id)
        data, written_at = self._read(path)
        try:
            upload = self._parse(data, upload_id)
            if upload.relocated and upload.length is not None:
                return upload.evolve(offset=upload.length, active_at=written_at, storage={**upload.storage, "InfoPath": path})
            data_file, found, size = self._find_data(upload)
        except RecordDamaged as error:
            logger.error("record %r is damaged: %s", path, error)
            raise
        return upload.evolve(
            offset=size if upload.length is None else min(size, upload.length),
            active_at=max(found.st_mtime, written_at),
            storage={"Type": "filestore", **upload.storage, "InfoPath": path, "Path": data_file},
        )

    def _parse(self, data: bytes, upload_id: str) -> Upload:
        """The record in `data`. One that can't be read and has no bytes is no damage: it is being written, or was when a
        server died."""
        try:
            return parse_info(data, upload_id)
        except RecordDamaged:
            if not os.path.lexists(data_path(self._root, upload_id)):
                raise UploadNotFound(f"the record of {upload_id!r} is only begun") from None
            raise

    def _read(self, path: str) -> tuple[bytes, float]:
        """The bytes of a record, and when it was written."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                if found.st_size > _MAX_RECORD:
                    raise RecordDamaged(f"{path!r} is too large for a record")
                return os.pread(fd, found.st_size, 0), found.st_mtime
            finally:
                os.close(fd)
        except OSError as error:
            raise translate(error, f"reading {path!r}", missing=UploadNotFound) from error

    def _find_data(self, upload: Upload) -> tuple[str, os.stat_result, int]:
        """Where the bytes are, and how many are the upload's. A path from before the directory was moved, or from elsewhere,
        gives way to the usual place."""
        usual = data_path(self._root, upload.id)
        outside: OutsideRoot | None = None
        try:
            stored = confine(self._root, upload.storage.get("Path") or usual)
        except OutsideRoot as error:
            stored, outside = usual, error
        for path in (stored, usual):
            try:
                found, size = self._intents.measure(upload.id, path, upload.length)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise translate(error, f"looking for {path!r}", missing=UploadNotFound) from error
            if stat.S_ISREG(found.st_mode):
                return path, found, size
        if outside is not None:
            raise RecordDamaged(str(outside)) from outside
        raise UploadNotFound(f"there is a record of {upload.id!r}, but no {stored!r}")

    def _look_at_all(self) -> None:
        """After a power cut: of what was not confirmed as finished, keep what is known to have been stored."""
        look_at_all(self._root, self._find_suspect)
        self._intents.forget_all()

    def _find_suspect(self, upload_id: str) -> Suspect | None:
        upload = self._parse(self._read(info_path(self._root, upload_id))[0], upload_id)
        if upload.relocated:
            return None
        path, found, _ = self._find_data(upload)
        if upload.length is None or found.st_size < upload.length:
            return Suspect(upload_id, path, found, upload.offset, self._intents.offset(upload_id))
        if upload.is_final:  # as a whole or not at all
            return None
        return Suspect(upload_id, path, found, upload.offset, finished=True)

    async def commit_offset(self, upload: Upload) -> None:
        """The size of the data file says it."""

    async def sync(self, upload: Upload) -> None:
        path = info_path(self._root, upload.id)
        await self._group.sync(path, *ancestors(self._root, path))

    async def remove(self, upload_id: str, *, tombstone: bool = False, durable: bool = False) -> None:
        path = info_path(self._root, upload_id)
        try:
            if tombstone:
                self._tombstones.add(upload_id)
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise translate(error, f"removing {path!r}") from error
        if durable:
            await self._group.sync(os.path.dirname(path))

    async def without_record(self, upload_ids: Sequence[str]) -> Sequence[str]:
        return await asyncio.to_thread(lambda: [upload_id for upload_id in upload_ids if not self._has_record(upload_id)])

    def _has_record(self, upload_id: str) -> bool:
        path = info_path(self._root, upload_id)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise translate(error, f"looking for {path!r}") from error
        return True

    async def is_gone(self, upload_id: str) -> bool:
        return self._tombstones.has(upload_id)

    async def expect(self, final: Upload) -> None:
        await self._waiting.add(final.id, final.partials or ())

    async def expected_by(self, partial_id: str) -> tuple[str, ...]:
        return self._waiting.finals_of(partial_id)

    async def unexpect(self, final: Upload) -> None:
        await self._waiting.remove(final.id, final.partials or ())

    async def waiting_finals(self) -> tuple[str, ...]:
        return await asyncio.to_thread(self._waiting.all_finals)

    async def ids(self) -> AsyncIterator[str]:
        lister = RecordLister(self._root)
        while batch := await asyncio.to_thread(lister.next_batch):
            for upload_id in batch:
                yield upload_id

    async def tidy(self) -> None:
        await asyncio.to_thread(self._tidy)

    def _tidy(self) -> None:
        try:
            remove_abandoned(self._tmp_dir, time.time())
            self._tombstones.drop_old()
        except OSError as error:
            raise StorageFailure(f"tidying {self._root!r}: {error.strerror}") from error
