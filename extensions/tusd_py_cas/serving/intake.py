"""Makes finished uploads versions of objects.

The bytes are stored by the ingest process, which takes its time. That they are the upload's version is then said under the
upload's lock and only if its file is still the one that was read: no removal, and no other upload of the same id, can come in
between, so that nothing is made a version of an upload that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tusd_py.ports.datastore import Content, DataStore
from tusd_py.ports.extension import Host
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.model import ChunksMissing, IndexDamaged, Manifest, Version
from tusd_py_cas.naming import object_name, text_metadata
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.described import post_ingest
from tusd_py_cas.serving.versions import Versions, in_chunks, is_made_of

__all__ = ["Intake", "Taken", "Taker"]

_log = logging.getLogger("tusd_py.cas")

AT_ONCE = 8
"""Files that are being taken in at once: each is open meanwhile. The ingest process has a bound of its own."""

PATIENCE = 10.0
"""Seconds that what is done in the background waits for a moment in which nothing is being taken in."""

LOCK_PAUSE = 0.05
LOCK_WAIT = 20.0
"""Seconds between two tries to lock an upload, and for how long. Finished uploads are locked for moments only."""

REMEMBERED = 1000
"""Uploads that are remembered to have failed."""

ATTEMPTS = 3
"""Times that a content is stored and then collected by somebody with no grace at all, before it is a failure."""


class Taker(Protocol):
    """The ingest process, as far as it is needed here."""

    async def take(self, segments: Sequence[Segment]) -> Ingested:
        """Store the content that the segments make up. Raises `StorageFailure`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An upload and its version; `fresh` if that was made, and told of, just now."""

    upload: Upload
    version: Version
    fresh: bool = False


@dataclass(slots=True)
class _Turn:
    """At an upload; `wanted_by` counts who has it and who waits for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted_by: int = 0


class Intake:
    """Takes uploads in whose files are in `inner`. `host` is set before anything is asked for. Belongs to an event loop."""

    host: Host

    def __init__(self, access: Access, versions: Versions, inner: DataStore, taker: Taker, counts: Counts) -> None:
        self._access, self._index = access, access.repository.index
        self._versions, self._inner, self._taker, self._counts = versions, inner, taker, counts
        self._room = asyncio.Semaphore(AT_ONCE)
        self._turns: dict[str, _Turn] = {}  # by the upload's id
        self.finished = asyncio.Event()
        """Set when something has been taken in, or could not be; then another is in its place."""
        self.failed: dict[str, None] = {}
        """Ids of uploads that could not be taken in, the latest of them."""

    def __repr__(self) -> str:
        return f"<Intake busy with {len(self._turns)}>"

    async def idle(self) -> None:
        """Return when nothing is being taken in, or after `PATIENCE` seconds: where there is always something, what is done in
        the background goes on slowly."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._turns:
                    await self.finished.wait()

    async def take(self, upload_id: str) -> Taken | None:
        """See to it that a finished upload is a version; None where there is no such upload (any more).

        Raises `StorageFailure`, also for what cannot be read. The same again costs no more than a look.
        """
        try:
            async with self._alone(upload_id):
                taken = await self._take(upload_id)
        except StorageFailure:
            self._counts.failures += 1
            self.failed.pop(upload_id, None)
            self.failed[upload_id] = None
            if len(self.failed) > REMEMBERED:
                del self.failed[next(iter(self.failed))]
            raise
        self.failed.pop(upload_id, None)
        return taken

    async def mend(self, upload: Upload) -> None:
        """Store what is damaged of an upload's version again, from its file. Raises `StorageFailure`."""
        _log.warning("chunks are damaged: they are stored again from the upload's file", extra={"fields": {"id": upload.id}})
        async with self._alone(upload.id), self._room:
            file = await self._inner.open_content(upload)
            try:
                await self._taker.take(segments_of(file, upload.id))
            finally:
                await file.close()

    async def tell(self, taken: Taken) -> None:
        """Publish that an upload has become a version, if that was not told when it became one; the same event whenever that is
        told, and under the upload's lock: nothing is told behind its removal. Raises `StorageFailure`."""

        async def publish(upload: Upload) -> None:
            now = await self._versions.find(upload.id)
            if now is not None and now.manifest.name == taken.version.manifest.name:
                await self.host.publish(post_ingest(upload, now, None))

        if not taken.fresh:
            await self._under_lock(taken.version.upload_id, publish)

    @contextlib.asynccontextmanager
    async def _alone(self, upload_id: str) -> AsyncIterator[None]:
        """Nobody else in this process takes this upload in. In another one somebody may: that costs time, and nothing else."""
        turn = self._turns.setdefault(upload_id, _Turn())
        turn.wanted_by += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted_by -= 1
            if not turn.wanted_by:
                del self._turns[upload_id]
            self.finished.set()
            self.finished = asyncio.Event()

    async def _take(self, upload_id: str) -> Taken | None:
        for _ in range(ATTEMPTS):
            upload = await self.host.look(upload_id)
            if upload is None:
                return None
            try:
                chosen = await self._versions.choose(upload)
            except UploadNotFound:
                return None  # it has just been removed
            if isinstance(chosen, Version):
                return Taken(upload, chosen)
            try:
                taken = await self._take_file(upload, chosen)
            finally:
                await chosen.close()
            if taken is not None:
                return taken
        if await self.host.look(upload_id) is None:
            return None
        raise StorageFailure(f"{upload_id!r} was changed or collected {ATTEMPTS} times while it was taken in")

    async def _take_file(self, upload: Upload, file: Content) -> Taken | None:
        """None where it was changed, removed or collected meanwhile."""
        if file.size != upload.length:
            raise StorageFailure(f"the file of {upload.id!r} has {file.size} bytes, not {upload.length}")
        manifest = await self._compose(upload, file) if upload.partials else None
        ingested = None
        if manifest is None:
            async with self._room:
                ingested = await self._taker.take(segments_of(file, upload.id))
            manifest = ingested.manifest
        try:
            return await self._attach(upload.id, file, manifest, ingested)
        except ChunksMissing:
            return None

    def count(self, size: int, ingested: Ingested | None) -> None:
        """An upload of `size` bytes has become a version; without `ingested`, of what was stored already."""
        self._counts.ingested += 1
        self._counts.bytes_in += size
        self._counts.bytes_deduplicated += size if ingested is None else size - ingested.bytes_new
        self._counts.bytes_stored += 0 if ingested is None else ingested.bytes_stored

    async def _attach(self, upload_id: str, file: Content, manifest: Manifest, ingested: Ingested | None) -> Taken | None:
        """Say, under the upload's lock, that this is its content, if its file is still the one that was read, and tell so."""
        made: list[Taken] = []

        async def attach(upload: Upload) -> None:
            try:
                now = await self._inner.open_content(upload)
            except StorageFailure:
                if in_chunks(upload):
                    return  # somebody else has taken it in, and given its file up
                raise
            await now.close()
            if now.version == file.version:
                version, is_new = await self._access.change(lambda: self.add_version(upload, manifest, file.modified, file))
                if is_new:
                    self.count(file.size, ingested)
                made.append(Taken(upload, version, fresh=True))
                await self.host.publish(post_ingest(upload, version, ingested))

        await self._under_lock(upload_id, attach)
        return made[0] if made else None

    async def _under_lock(self, upload_id: str, act: Callable[[Upload], Awaitable[None]]) -> None:
        """Do something under an upload's lock, if there is (still) such an upload. Raises `StorageFailure`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_WAIT
        while not await self.host.relocate(upload_id, {}, act):
            if await self.host.look(upload_id) is None:
                return
            if loop.time() > deadline:
                raise StorageFailure(f"{upload_id!r} stayed locked for {LOCK_WAIT:g} s after it was finished")
            await asyncio.sleep(LOCK_PAUSE)

    def add_version(self, upload: Upload, manifest: Manifest, at: float, file: Content | None = None) -> tuple[Version, bool]:
        """The version, and whether it is new: another process may have been faster. Blocks. A version that this id had before,
        for another file, makes way, and so does a damaged one."""
        try:
            existing = self._index.find_version(upload.id)
        except IndexDamaged:  # the index puts the new one in its place
            existing = None
        if existing is not None and file is not None and not is_made_of(existing, file):
            self._index.drop_version(upload.id)
            existing = None
        version = self._index.add_version(
            upload_id=upload.id,
            object=object_name(upload),
            owner=upload.owner,
            manifest=manifest,
            metadata=text_metadata(upload),
            raw=True,
            at=at,
        )
        return version, existing is None or existing.manifest.name != manifest.name

    # Finals

    async def _compose(self, final: Upload, file: Content) -> Manifest | None:
        """The content of a final, made of those of its partials without reading a byte. None where some have changed since it
        was put together, or can't be taken in."""
        manifests = []
        for partial_id in final.partials or ():
            try:
                taken = await self.take(partial_id)
            except StorageFailure as failure:
                fields = {"id": final.id, "partial": partial_id, "error": str(failure)}
                _log.info("a final upload is taken in by itself", extra={"fields": fields})
                return None
            if taken is None or not taken.version.created_at < file.modified:
                return None  # not the one that the final was made of: its id has been used again
            manifests.append(taken.version.manifest)
        return await self.compose(manifests, file.size)

    async def compose(self, manifests: Sequence[Manifest], size: int) -> Manifest | None:
        """The content of `size` bytes that these make one behind the other; None where they do not."""
        if sum(manifest.size for manifest in manifests) != size:
            return None
        try:
            return await self._access.change(lambda: self._index.compose(manifests))
        except ChunksMissing:
            return None


def segments_of(file: Content, upload_id: str) -> list[Segment]:
    """Where another process finds these bytes, as long as the file is open here. Raises `StorageFailure`."""
    if not file.size:
        return []
    extents = file.extents(0, file.size)
    if extents is None:
        raise StorageFailure(f"{upload_id!r} can't be taken in: its bytes are in no file")
    return [Segment(f"/proc/{os.getpid()}/fd/{fd}", offset, count) for fd, offset, count in extents]
