"""Bytes on their way into an upload, until they are committed, durable and, with the last of them, the upload finished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import monotonic, perf_counter

from tusd_py.ports.body import Body, Sink
from tusd_py.ports.call import Call
from tusd_py.ports.datastore import Writer
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.commands import Payload
from tusd_py.protocol.refusals import FinishRejected
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.assembling import Assembler
from tusd_py.uploads.finishing import Finisher
from tusd_py.uploads.holding import Hold
from tusd_py.uploads.parts import Durability, Parts
from tusd_py.uploads.receiving import receive
from tusd_py.uploads.sniffing import read_prefix

__all__ = ["Committer"]


class Committer:
    """Receives, commits and finishes, under the lock of the upload."""

    def __init__(self, parts: Parts, finisher: Finisher, assembler: Assembler) -> None:
        self._data, self._info, self._finisher, self._assembler = parts.data, parts.info, finisher, assembler
        self._announcer, self._limiter, self._observer = parts.announcer, parts.limiter, parts.observer
        self._types, self._durability, self._clock = parts.types, parts.durability, parts.clock

    async def receive(
        self, upload: Upload, payload: Payload, body: Body, writer: Writer, limit: int, hold: Hold, *, created: bool = False
    ) -> Upload:
        """The record once the body is in `writer`, or as much of it as there is to be. Raises what the client has to be told,
        `FinishRejected`, `HookFailed`, `StorageFailure`."""
        before, call = upload, hold.call
        hold.receive(upload, writer)
        self._observer.chunk_started(call, upload, limit if payload.length is None else payload.length)
        try:
            sink = writer if self._types is None else await self._watched(upload, writer)
            reception = await receive(body, payload, writer, sink, limit)
            if reception.position != upload.offset:
                upload = upload.evolve(offset=reception.position, active_at=self._clock())
                await self._info.commit_offset(upload)
            if created or upload is not before:
                await self._make_durable(before, upload, writer)
        finally:
            hold.received()
            await writer.close()
        self._observer.chunk_complete(call, upload, upload.offset - before.offset, monotonic() - hold.started)
        if upload is not before:
            await self._received(upload, hold)
        if upload.complete and not before.finished:
            upload = await self.finish(upload, call)
        reception.check(hold.refusal)
        return upload

    async def _watched(self, upload: Upload, writer: Writer) -> Sink:
        """A way into `writer` that lets only files through that may be uploaded."""
        assert self._types is not None
        prefix = await read_prefix(self._data, upload) if self._types.looks_at(upload) else b""
        return self._types.watch(upload, writer, prefix)

    async def _received(self, upload: Upload, hold: Hold) -> None:
        """More of the upload is here."""
        if self._limiter is not None:
            await self._limiter.progress(upload)
        if self._announcer is not None and hold.told != upload.offset:
            hold.told = upload.offset
            await self._announcer.received(upload, hold.call)

    async def finish(self, upload: Upload, call: Call) -> Upload:
        """The upload is complete and durable. Raises `FinishRejected`, `HookFailed`."""
        try:
            upload = await self._finisher.finish(upload, call)
        except FinishRejected:
            if upload.is_partial:
                await self._assembler.partial_changed(upload.id)
            raise
        if upload.is_partial and upload.finished:
            await self._assembler.partial_changed(upload.id)
        return upload

    async def finish_by_declaration(self, before: Upload, upload: Upload, call: Call) -> Upload:
        """All bytes were there already when the length was declared (D04), and may be uploaded."""
        if self.must_sync(upload):
            try:
                await self._data.sync(upload)
                await self._info.sync(upload)
            except StorageFailure:
                await self._info.replace(before)
                raise
        return await self.finish(upload, call)

    async def _make_durable(self, before: Upload, upload: Upload, writer: Writer) -> None:
        """Sync bytes and record where the durability level asks for it. When that fails, the upload is as it was before."""
        if not self.must_sync(upload):
            return
        started = perf_counter()
        try:
            if self._durability is Durability.EVERY_PATCH and upload.offset > before.offset:
                await writer.sync()
                await self._info.replace(upload, synced=True)  # a restart after a power cut keeps what it says
                await self._info.sync(upload)
            else:
                await _both(writer.sync(), self._info.sync(upload))
        except StorageFailure:
            await writer.rollback()
            await self._info.commit_offset(before)
            raise
        self._observer.synced(perf_counter() - started)

    def must_sync(self, upload: Upload) -> bool:
        """Whether bytes and record must survive a power cut before the client hears of them."""
        if self._durability is Durability.FINAL:
            return upload.complete
        return self._durability is Durability.EVERY_PATCH


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    """Return once both are done: what waits together is synced together. Raises the failure of the first that failed."""
    for done in await asyncio.gather(first, second, return_exceptions=True):
        if done is not None:
            raise done
