"""The server's store, around the one that it would have without this extension.

Whatever is not finished is the inner store's alone. Of what is finished, the version is read where there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from tusd_py.ports.datastore import Content, DataStore, Writer
from tusd_py.ports.failures import OutOfSpace, StorageFailure
from tusd_py.protocol.upload import Upload
from tusd_py_cas.model import Version
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.joining import Joiner
from tusd_py_cas.serving.opening import Opener
from tusd_py_cas.serving.versions import Versions, in_chunks

__all__ = ["CasStore"]

_log = logging.getLogger("tusd_py.cas")


class CasStore:
    """The port `DataStore`."""

    def __init__(self, inner: DataStore, access: Access, versions: Versions, opener: Opener, joiner: Joiner) -> None:
        self._inner, self._access, self._versions = inner, access, versions
        self._opener, self._joiner = opener, joiner
        self._index = access.repository.index

    def __repr__(self) -> str:
        return f"<CasStore around {self._inner!r}>"

    def place(self, upload_id: str, path: str | None = None) -> Mapping[str, str]:
        return self._inner.place(upload_id, path)

    async def create(self, upload: Upload, *, verified: bool = True, fresh: bool = False) -> Writer:
        writer = await self._inner.create(upload, verified=verified, fresh=fresh)
        if not fresh:  # the id may have been removed while this extension was turned off
            try:
                await self._drop(upload.id)
            except BaseException:
                await writer.close()
                await self._inner.remove(upload)
                raise
        return writer

    async def open_writer(self, upload: Upload, *, verified: bool = True) -> Writer:
        if in_chunks(upload):
            return _FinishedWriter(upload)
        return await self._inner.open_writer(upload, verified=verified)

    async def open_content(self, upload: Upload) -> Content:
        if not upload.finished:
            return await self._inner.open_content(upload)
        chosen = await self._versions.choose(upload)
        return await self._opener.open(chosen) if isinstance(chosen, Version) else chosen

    async def concatenate(self, final: Upload, partials: Sequence[Upload], *, durable: bool = True) -> Mapping[str, str] | None:
        return await self._joiner.concatenate(final, partials, self.open_content, durable=durable)

    async def sync(self, upload: Upload) -> None:
        if not in_chunks(upload):  # else what it is made of was durable before its record said so
            await self._inner.sync(upload)

    async def remove(self, upload: Upload) -> None:
        """A version that stays behind is dropped by the `Clearer`, once there is no record."""
        try:
            await self._drop(upload.id)
        except OutOfSpace:  # removals are what makes room
            _log.warning("the version of an upload that is removed stays for now", extra={"fields": {"id": upload.id}})
        except StorageFailure:
            if in_chunks(upload):  # its record is gone already: nobody else is going to remove what there is of a file
                await self._inner.remove(upload)
            raise
        await self._inner.remove(upload)

    async def _drop(self, upload_id: str) -> None:
        """Most uploads that are removed were never finished: looking costs less than a transaction."""
        try:
            if await self._versions.find(upload_id) is None:
                return
        except StorageFailure:  # a version that can't be read can be dropped
            pass
        await self._access.change(lambda: self._index.drop_version(upload_id))


class _FinishedWriter:
    """To an upload that is finished, and whose bytes are in chunks, nothing can be added. Clients ask, for an empty PATCH at
    the end of what is finished is allowed."""

    def __init__(self, upload: Upload) -> None:
        self._id, self.position = upload.id, upload.offset

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        if data:
            raise StorageFailure(f"{self._id!r} is finished: nothing can be written to it")

    async def commit(self) -> None:
        """Nothing was written."""

    async def sync(self) -> None:
        """It was durable before its record said where its bytes are."""

    async def rollback(self) -> None:
        """Nothing was written."""

    async def close(self) -> None:
        """Nothing is open."""
