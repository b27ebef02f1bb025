"""A server reduced to what the extension asks of it: a directory, records in a dictionary, and locks; with faults on demand."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.keeping.collecting import collect
from tusd_py_cas.model import Manifest, Parameters, Version
from tusd_py_cas.repository import Repository
from tusd_py_cas.serving.opened import OpenedCas
from tusd_py_cas.serving.store import CasStore

from tusd_py.datastore.filesystem import FilesystemStore
from tusd_py.fs.sync import GroupSync
from tusd_py.ports.datastore import Content, DataStore
from tusd_py.ports.extension import Received
from tusd_py.protocol.hooks import HookEvent
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload

SMALL = Parameters(seed=7, min_size=1 << 10, avg_size=4 << 10, max_size=16 << 10)
"""Small chunks, so that little data has many."""

NOISE = random.Random("serving").randbytes(200_000)
TEXT = b"".join(b"line %d of a text that is easy to compress\n" % number for number in range(8_000))

CONTENTS = {
    "nothing": b"",
    "a byte": b"x",
    "noise": NOISE,
    "text": TEXT,
    "zeros": bytes(300_000),
    "mixed": TEXT[:100_000] + NOISE[:100_000] + TEXT[100_000:],
    "a chunk": NOISE[: 1 << 10],
}


class Crash(Exception):
    """Where a test wants the process to end."""


class Faults:
    """Sees every call of what is under it, before and after; ends the process at one of these moments, or does something."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at: int | None = None
        self.acts: dict[str, Callable[[], Awaitable[None] | None]] = {}

    def reset(self, at: int | None = None) -> None:
        self.calls, self.at = [], at

    def step(self, name: str) -> None:
        self.calls.append(name)
        if self.at is not None and len(self.calls) > self.at:
            raise Crash(f"at {name}")

    async def act(self, name: str) -> None:
        """What is to happen once, at this moment."""
        if name in self.acts:
            done = self.acts.pop(name)()
            if done is not None:
                await done


class Under:
    """Something under `faults`: its methods, and those of what it opens, sync or async."""

    def __init__(self, inner: Any, faults: Faults, name: str) -> None:
        self.__dict__.update(_inner=inner, _faults=faults, _name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        full = f"{self._name}.{name}"
        if inspect.iscoroutinefunction(member):

            async def call(*args: Any, **kwargs: Any) -> Any:
                self._faults.step(full)
                await self._faults.act(full)
                result = await member(*args, **kwargs)
                self._faults.step(f"{full} done")
                return result

            return call
        if not inspect.ismethod(member):
            return member

        def plain(*args: Any, **kwargs: Any) -> Any:
            self._faults.step(full)
            result = member(*args, **kwargs)
            self._faults.step(f"{full} done")
            return result

        return plain


class DictHost:
    """The port `Host`, over the records in `records`."""

    def __init__(self) -> None:
        self.records: dict[str, Upload] = {}
        self.locked: set[str] = set()
        self.events: dict[str, HookEvent] = {}
        self.waiting: dict[str, int] = {}
        self.received = Received(0, 0)

    async def look(self, upload_id: str) -> Upload | None:
        upload = self.records.get(upload_id)
        return upload if upload is not None and upload.finished else None

    async def relocate(self, upload_id: str, storage: Mapping[str, str], release: Callable[[Upload], Awaitable[None]]) -> bool:
        upload = await self.look(upload_id)
        if upload is None or upload_id in self.locked:
            return False
        self.locked.add(upload_id)
        try:
            moved = self.records[upload_id] = upload.evolve(storage={**upload.storage, **storage})
            await release(moved)
        finally:
            self.locked.discard(upload_id)
        return True

    async def publish(self, event: HookEvent) -> None:
        self.events.setdefault(event.id, event)

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        assert besides == "cas"
        return self.waiting.get(upload_id, 0)

    async def without_record(self, upload_ids: Sequence[str]) -> Sequence[str]:
        return [upload_id for upload_id in upload_ids if upload_id not in self.records]

    async def clear_away(self, upload_id: str, remove: Callable[[], Awaitable[None]]) -> bool:
        if upload_id in self.locked or upload_id in self.records:
            return False
        self.locked.add(upload_id)
        try:
            await remove()
        finally:
            self.locked.discard(upload_id)
        return True

    async def ids(self) -> AsyncIterator[str]:
        for upload_id in list(self.records):
            yield upload_id


class Worker:
    """What is asked of the ingest process, in threads of this one."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._engine = Engine(repository, threads=1)
        self.bytes_read = self.digested = 0
        self.working = asyncio.Event()

    async def take(self, segments: Sequence[Segment]) -> Ingested:
        self.bytes_read += sum(segment.size for segment in segments)
        return await asyncio.to_thread(self._engine.ingest, segments)

    def pace(self, share: float | None) -> None:
        self._engine.pace.set(share)

    def hurry(self) -> None:
        """It has the same index."""

    async def digest(self, manifest: Manifest) -> tuple[bytes, bytes]:
        blake3, sha256 = await asyncio.to_thread(self._engine.digest, manifest)
        await asyncio.to_thread(lambda: self._repository.index.set_digests(manifest, blake3=blake3, sha256=sha256))
        self.digested += 1
        return blake3, sha256

    async def collect(self, *, grace: float) -> Mapping[str, Any]:
        return asdict(await asyncio.to_thread(lambda: collect(self._repository, grace=grace, now=time.time() + 1)))

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)


class Server:
    """One process with the extension in it. Several may share a directory and a host."""

    def __init__(
        self, directory: Path, mode: str = "keep", *, host: DictHost | None = None, parameters: Parameters = SMALL
    ) -> None:
        self.directory, self.faults = directory, Faults()
        self.host = host or DictHost()
        self.repository = Repository.open(str(directory / ".tusd-py" / "cas"), create=parameters, durable=False)
        self.worker = Worker(self.repository)
        self.inner = FilesystemStore(str(directory), group=GroupSync())
        self.repository.index = Under(self.repository.index, self.faults, "index")
        self.opened = OpenedCas(
            self.repository,
            Under(self.worker, self.faults, "worker"),
            replaces=mode == "replace",
            gc_interval=0.0,
            gc_grace=0.0,
        )
        inner: DataStore = Under(self.inner, self.faults, "inner")  # type: ignore[assignment]
        self.store: CasStore = self.opened.around(inner)
        self.opened.attach(Under(self.host, self.faults, "host"))
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.faults.reset()
        await self.stop()
        await self.opened.close()
        self.inner.close()

    def run(self) -> None:
        """Begin to work in the background."""
        self.running = asyncio.create_task(self.opened.run())

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
            self.running = None

    # What the use cases do

    async def put(self, upload_id: str, data: bytes, metadata: Mapping[str, bytes] | None = None, **fields: Any) -> Upload:
        """A finished upload."""
        upload = Upload(
            id=upload_id,
            length=len(data),
            metadata=Metadata(dict(metadata or {})),
            storage=self.inner.place(upload_id),
            **fields,
        )
        writer = await self.store.create(upload)
        writer.write(data)
        await writer.commit()
        await writer.close()
        self.host.records[upload_id] = upload.evolve(offset=len(data))
        return self.host.records[upload_id]

    async def begin_final(self, upload_id: str, partials: Sequence[str]) -> Upload:
        """A final that is still empty."""
        length = sum(self.host.records[each].offset for each in partials)
        upload = Upload(id=upload_id, length=length, partials=tuple(partials), storage=self.inner.place(upload_id))
        writer = await self.store.create(upload)
        await writer.close()
        self.host.records[upload_id] = upload
        return upload

    async def assemble(self, upload_id: str, partials: Sequence[str]) -> Upload:
        """A finished final."""
        final = self.host.records.get(upload_id) or await self.begin_final(upload_id, partials)
        storage = await self.store.concatenate(final, [self.host.records[each] for each in partials])
        final = final.evolve(offset=final.length, storage=storage or final.storage)
        self.host.records[upload_id] = final
        return final

    async def remove(self, upload_id: str) -> None:
        await self.store.remove(self.host.records[upload_id])
        del self.host.records[upload_id]

    async def deliver(self, upload_id: str) -> None:
        """What is done with an upload that has been finished, to the end."""
        await self.opened.take(upload_id)

    async def find(self) -> bool:
        """Have all that was missed taken in; whether all could be looked at."""
        looked = await self.opened.finder.look_at_all() and await self.opened.finder.look_at_versions()
        working = asyncio.create_task(self.opened.queue.run())
        await until(lambda: not self.opened.queue._waiting and not self.opened.queue._running)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return looked

    async def take(self, upload_id: str, data: bytes, **fields: Any) -> Upload:
        """An upload that is finished and taken in."""
        await self.put(upload_id, data, **fields)
        await self.deliver(upload_id)
        return self.host.records[upload_id]

    async def replace(self, upload_id: str) -> bool:
        return await self.opened.replacer.replace(upload_id)

    async def open(self, upload_id: str) -> Content:
        return await self.store.open_content(self.host.records[upload_id])

    async def read(self, upload_id: str) -> bytes:
        content = await self.open(upload_id)
        try:
            return await content.read(0, content.size + 1)
        finally:
            await content.close()

    async def is_served_from_chunks(self, upload_id: str) -> bool:
        content = await self.open(upload_id)
        await content.close()
        return content.is_named_by_content

    # What there is

    def version(self, upload_id: str) -> Version | None:
        return self.repository.index.find_version(upload_id)

    def path(self, upload_id: str) -> Path:
        return self.directory / upload_id

    def chunk_files(self) -> Iterator[Path]:
        return (path for path in (self.directory / ".tusd-py" / "cas" / "chunks").rglob("*") if path.is_file())

    def damage(self) -> None:
        """Flip a bit in every chunk's file."""
        for path in self.chunk_files():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)


async def until(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Wait until `condition` is true."""
    async with asyncio.timeout(timeout):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def age(path: Path, seconds: float = 10.0) -> None:
    """Let a file have been changed some time ago."""
    found = os.stat(path)
    os.utime(path, (found.st_atime, found.st_mtime - seconds))
