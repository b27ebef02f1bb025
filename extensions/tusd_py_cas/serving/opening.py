"""Opens versions to be read, in all forms that they can be had in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from tusd_py.ports.datastore import Content
from tusd_py_cas.model import Manifest, Version
from tusd_py_cas.reading import Reader
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.content import CasContent
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.decoded import Shelf
from tusd_py_cas.serving.encoded import ZstdContent, frame_size

__all__ = ["Opener"]

WORTHWHILE = 0.95
"""A form that is larger than this share of the bytes saves the network less than it costs the client."""

LARGEST = 4 << 30
"""Bytes of a content whose frames are still counted: some 3300 chunks, 30 ms once. Larger ones are sent as they are."""

REMEMBERED = 4096
"""Contents of which it is known how large their frames are: half a megabyte."""


class Opener:
    """Belongs to an event loop."""

    def __init__(self, access: Access, counts: Counts) -> None:
        self._access, self._counts = access, counts
        self._shelf = Shelf(access)
        self._frames: OrderedDict[bytes, int] = OrderedDict()  # by the name of the content

    async def open(self, version: Version) -> CasContent:
        """The version as a `Content`. Raises `StorageFailure`."""
        encodings: Mapping[str, Content] = {}
        size = await self._frames_of(version.manifest)
        if size is not None and size < WORTHWHILE * version.manifest.size:
            encodings = {"zstd": ZstdContent(self._access, version, size, self._counts, self._forget)}
        return CasContent(self._access, self._shelf, version, self._counts, encodings)

    def _forget(self, name: bytes) -> None:
        self._frames.pop(name, None)

    async def _frames_of(self, manifest: Manifest) -> int | None:
        """Bytes of all frames together; None where that is not worth finding out."""
        if not 0 < manifest.size <= LARGEST:
            return None
        size = self._frames.get(manifest.name)
        if size is None:
            reader = Reader(self._access.repository, manifest)
            size = await self._access.look(lambda: sum(frame_size(piece.chunk) for piece in reader.pieces()))
            self._frames[manifest.name] = size
            if len(self._frames) > REMEMBERED:
                self._frames.popitem(last=False)
        return size
