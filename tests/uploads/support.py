"""Uploads over stores in memory that can be watched, made to fail, and interfered with at every call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from tusd_py.datastore.memory import MemoryStore
from tusd_py.infostore.memory import MemoryInfoStore
from tusd_py.locker.memory import MemoryLocker
from tusd_py.protocol.commands import Append, Create, Payload
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.upload import Upload
from tusd_py.testing.bodies import ScriptedBody, Step
from tusd_py.uploads import Durability, Uploads

AGES = 30.0
"""Seconds that no test waits for, unless something is broken."""


class Probe:
    """Sees the calls of adapters in their order; raises, or does something else first, where told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._failing: list[tuple[str, int, BaseException]] = []
        self._once: dict[str, BaseException] = {}
        self._before: Callable[[int, str], Awaitable[None]] | None = None

    def fail(self, name: str, failure: BaseException, *, skip: int = 0) -> None:
        """Let calls of `name` fail, but the first `skip` from now on."""
        self._failing.append((name, self.calls.count(name) + skip, failure))

    def fail_once(self, name: str, failure: BaseException) -> None:
        """Let the next call of `name` fail."""
        self._once[name] = failure

    def mend(self) -> None:
        self._failing.clear()
        self._once.clear()

    def before(self, act: Callable[[int, str], Awaitable[None]]) -> None:
        """Await `act` with the number and name of every call from now on, before it."""
        self._before = act
        self.calls.clear()

    def begin(self, name: str) -> None:
        done = self.calls.count(name)
        self.calls.append(name)
        if name in self._once:
            raise self._once.pop(name)
        for failing, skip, failure in self._failing:
            if name == failing and done >= skip:
                raise failure

    async def begin_async(self, name: str) -> None:
        number = len(self.calls)
        self.begin(name)
        if self._before is not None:
            await self._before(number, name)
        await asyncio.sleep(0)  # as every real store does at times


class Probed:
    """An adapter, and the writers and contents it opens, under a probe."""

    def __init__(self, inner: Any, probe: Probe, name: str) -> None:
        self._inner, self._probe, self._name = inner, probe, name

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        full = f"{self._name}.{name}"
        if name == "write":

            def write(data: bytes) -> None:
                self._probe.begin(full)
                member(data)

            return write
        if not inspect.iscoroutinefunction(member):
            return member

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._probe.begin_async(full)
            result = await member(*args, **kwargs)
            kind = {"create": "writer", "open_writer": "writer", "open_content": "content"}.get(name)
            return result if kind is None or result is None else Probed(result, self._probe, kind)

        return call


def cancelling(name: str) -> Callable[[int, str], Awaitable[None]]:
    """For `Probe.before`: cancels whoever calls `name` first."""
    done = False

    async def cancel(_: int, called: str) -> None:
        nonlocal done
        if called == name and not done:
            done = True
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    return cancel


class World:
    """Stores, a clock that tests turn, and any number of `Uploads` over them, as so many processes would be."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.probe = Probe()
        self.store, self.records, self.locks = MemoryStore(), MemoryInfoStore(lambda: self.now), MemoryLocker()
        self._opened: list[Uploads] = []
        self._ids = 0

    def open(self, **options: Any) -> Uploads:
        uploads = Uploads(
            Probed(self.store, self.probe, "data"),
            Probed(self.records, self.probe, "info"),
            Probed(self.locks, self.probe, "locks"),
            clock=lambda: self.now,
            **{"new_id": self._new_id, "lock_timeout": AGES, "durability": Durability.NONE, **options},
        )
        self._opened.append(uploads)
        return uploads

    def _new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}"

    async def close(self) -> None:
        self.probe.mend()
        self.probe.before(nothing)
        for uploads in self._opened:
            await uploads.close()

    # What is there, seen past the probe

    def bytes_of(self, upload_id: str) -> bytes | None:
        found = self.store._uploads.get(upload_id)
        return None if found is None else bytes(found.data)

    async def record(self, upload_id: str) -> Upload:
        return await self.records.load(upload_id)

    async def ids(self) -> list[str]:
        return sorted([upload_id async for upload_id in self.records.ids()])

    async def is_empty(self) -> bool:
        return not await self.ids() and not self.store._uploads and not await self.records.waiting_finals()

    @property
    def unlocked(self) -> bool:
        return not self.locks._slots

    async def put(self, upload_id: str, data: bytes = b"", **fields: Any) -> Upload:
        """An upload as if somebody else had made it."""
        upload = Upload(id=upload_id, offset=len(data), **{"length": len(data), **fields})
        writer = await self.store.create(upload)
        writer.write(data)
        await writer.commit()
        await self.records.create(upload)
        return upload


async def nothing(number: int, name: str) -> None:
    """No interference."""


def create(length: int | None, *, body: int | None = -1, **more: Any) -> Create:
    """A Create; `body` is the length of its payload, if there is one."""
    return Create(length=length, payload=None if body == -1 else Payload(body), **more)


def append(upload_id: str, offset: int, payload: Payload | int | None = 0, length: int | None = None) -> Append:
    return Append(
        upload_id=upload_id,
        offset=offset,
        payload=payload if isinstance(payload, Payload) else Payload(payload),
        length=length,
    )


async def send(uploads: Uploads, upload_id: str, offset: int, *steps: Step, length: int | None = None) -> Upload:
    """Append a body."""
    body = ScriptedBody(*steps)
    return await uploads.append(append(upload_id, offset, body.length, length), body)


async def read(uploads: Uploads, upload_id: str) -> bytes:
    """All bytes of an upload, through the front door."""
    _, content = await uploads.open_content(upload_id)
    data = b""
    try:
        while piece := await content.read(len(data), 7):
            data += piece
        return data
    finally:
        await content.close()


async def until(condition: Callable[[], object]) -> None:
    """Let others work until `condition` is true."""
    async with asyncio.timeout(AGES):
        while not condition():  # noqa: ASYNC110 - any condition, of many objects
            await asyncio.sleep(0)


def assembling() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("settle ")]


async def quiet() -> None:
    """Return once nothing is being put together any more."""
    await until(lambda: not assembling())
    await asyncio.sleep(0)  # what is done when a task has ended


POLICY_DAY = Policy(expiry=86400.0)
