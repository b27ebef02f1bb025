"""Putting finals together: of the contents of their partials where the files are to go anyway, else of the files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tusd_py.ports.datastore import Content, DataStore, Writer
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload
from tusd_py_cas.model import ChunksMissing, Manifest, Version
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.intake import Intake
from tusd_py_cas.serving.versions import IN_CHUNKS, Versions, in_chunks

__all__ = ["Joiner"]

PATIENCE = 10.0
"""Seconds that a final waits for partials that are still being taken in: copying them would take longer than a part of one,
and all of their bytes would be read again."""

LOOK = 0.1
"""Seconds between two looks for what other processes have taken in."""

PIECE = 1 << 20


class Joiner:
    """Concatenates as `DataStore` says. With `replaces`, files are going to be given up for chunks, so that none is made of
    partials that are in chunks. `working` says whether partials are being taken in at all at the moment."""

    def __init__(
        self,
        inner: DataStore,
        access: Access,
        versions: Versions,
        intake: Intake,
        *,
        replaces: bool,
        working: Callable[[], bool],
        patience: float = PATIENCE,
    ) -> None:
        self._inner, self._access, self._versions, self._intake = inner, access, versions, intake
        self._replaces, self._working, self._patience = replaces, working, patience
        self.waiting = 0
        """Finals that wait for their partials at the moment."""

    async def concatenate(
        self,
        final: Upload,
        partials: Sequence[Upload],
        open_content: Callable[[Upload], Awaitable[Content]],
        *,
        durable: bool,
    ) -> Mapping[str, str] | None:
        if self._replaces and partials and all(partial.finished for partial in partials):
            self.waiting += 1
            try:
                manifests = await self._contents(partials)
            finally:
                self.waiting -= 1
            if manifests is not None and await self._compose(final, manifests):
                return {**final.storage, "Type": IN_CHUNKS}
        if not any(map(in_chunks, partials)):
            try:
                return await self._inner.concatenate(final, partials, durable=durable)
            except UploadNotFound:  # files have been given up since these records were read: while others were waited for
                pass
        await self._copy(final, partials, open_content, durable=durable)
        return None

    async def _compose(self, final: Upload, manifests: Sequence[Manifest]) -> bool:
        """Its own file, which is empty, goes like any other that has been replaced. Nobody else is at work on it: its lock is
        held, and partials are kept as long as a final waits for them."""
        size = sum(manifest.size for manifest in manifests)
        manifest = await self._intake.compose(manifests, size)
        if manifest is None or final.length not in (None, size):
            return False
        now = time.time()
        with contextlib.suppress(ChunksMissing):
            _, is_new = await self._access.change(lambda: self._intake.add_version(final, manifest, now))
            if is_new:
                self._intake.count(size, None)
            return True
        return False

    async def _contents(self, partials: Sequence[Upload]) -> Sequence[Manifest] | None:
        """Those of the partials, in order, waiting for some if need be; None where it is not worth waiting."""
        deadline = asyncio.get_running_loop().time() + self._patience
        found: list[Manifest] = []
        while len(found) < len(partials):
            changed = self._intake.finished
            partial = partials[len(found)]
            manifest = await self._content(partial)
            if manifest is not None:
                found.append(manifest)
                continue
            hopeless = not self._working() or any(each.id in self._intake.failed for each in partials[len(found) :])
            if hopeless or asyncio.get_running_loop().time() > deadline:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await changed.wait()
        return found

    async def _content(self, partial: Upload) -> Manifest | None:
        chosen = await self._versions.choose(partial)
        if isinstance(chosen, Version):
            return chosen.manifest
        await chosen.close()
        return None

    async def _copy(
        self,
        final: Upload,
        partials: Sequence[Upload],
        open_content: Callable[[Upload], Awaitable[Content]],
        *,
        durable: bool,
    ) -> None:
        """Read what the partials have, wherever it is, and write it aside until it is whole."""
        writer = await self._inner.open_writer(final.evolve(offset=0), verified=False)
        try:
            for partial in partials:
                content = await open_content(partial)
                try:
                    await self._append(writer, content, partial)
                finally:
                    await content.close()
            await writer.commit()
            if durable:
                await writer.sync()
        finally:
            await writer.close()

    async def _append(self, writer: Writer, content: Content, partial: Upload) -> None:
        offset = 0
        while offset < partial.offset:
            data = await content.read(offset, min(PIECE, partial.offset - offset))
            if not data:
                raise StorageFailure(f"{partial.id!r} has {offset} bytes, its record says {partial.offset}")
            await self._access.change(functools.partial(writer.write, data))
            offset += len(data)
