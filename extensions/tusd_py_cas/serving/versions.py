"""Which of an upload's two forms counts: its own file, or the version that it has become.

An id can be used again, also while this extension is turned off or a file is being taken in. So where a file is there, a
version counts only if it was made of a file of this size and this modification time, which is what `Version.created_at` says.
"""

from __future__ import annotations

import logging

from tusd_py.ports.datastore import Content, DataStore
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload
from tusd_py_cas.model import Version
from tusd_py_cas.serving.access import Access

__all__ = ["IN_CHUNKS", "Versions", "in_chunks", "is_made_of"]

_log = logging.getLogger("tusd_py.cas")

IN_CHUNKS = "cas"
"""What `Storage.Type` is of an upload whose bytes are in chunks, so that there need be no file."""


def in_chunks(upload: Upload) -> bool:
    """Whether the record says that there need be no file."""
    return upload.storage.get("Type") == IN_CHUNKS


def is_made_of(version: Version, file: Content) -> bool:
    """Whether the version has the bytes of this file, which has not changed since."""
    return version.manifest.size == file.size and version.created_at == file.modified


class Versions:
    """Looks at the index and at the files in `inner`."""

    def __init__(self, access: Access, inner: DataStore) -> None:
        self._access, self._inner = access, inner

    async def find(self, upload_id: str) -> Version | None:
        """What the index has, whether or not it counts. Raises `StorageFailure`."""
        index = self._access.repository.index
        return await self._access.look(lambda: index.find_version(upload_id))

    async def choose(self, upload: Upload) -> Version | Content:
        """Where the bytes of a finished upload are to be read: its version or, opened, its file.

        Raises `UploadNotFound` where there is neither, `StorageFailure`.
        """
        try:
            version = await self.find(upload.id)
        except StorageFailure as failure:
            if in_chunks(upload):
                raise
            try:
                return await self._inner.open_content(upload)  # its file is as good
            except UploadNotFound:
                raise failure from None  # it may have been given up for a version
        return await self.choose_from(upload, version)

    async def choose_from(self, upload: Upload, version: Version | None) -> Version | Content:
        """`choose`, with what `find` has found."""
        if version is not None and version.manifest.size != upload.length:
            version = None
        if in_chunks(upload):
            return await self._left_over(upload) if version is None else version
        return await self._newer(upload, version)

    async def _newer(self, upload: Upload, version: Version | None) -> Version | Content:
        try:
            file = await self._inner.open_content(upload)
        except UploadNotFound:
            # It may have just been given up for a version, made after we looked; the record that we have is from before that.
            version = await self.find(upload.id)
            if version is None or version.manifest.size != upload.length:
                raise
            return version
        if version is None or not is_made_of(version, file):
            return file
        await file.close()
        return version

    async def _left_over(self, upload: Upload) -> Content:
        """The file of an upload whose version is gone: somebody is removing it, or a removal was cut short, or its id was used
        again at the moment when it was to be given up."""
        try:
            file = await self._inner.open_content(upload)
        except StorageFailure as failure:
            _log.warning("the chunks of an upload are not known any more", extra={"fields": {"id": upload.id}})
            raise UploadNotFound(f"{upload.id!r} has neither a version nor a file") from failure
        if file.size != upload.length:
            await file.close()
            raise UploadNotFound(f"{upload.id!r} has no version, and its file {file.size} bytes, not {upload.length}")
        return file
