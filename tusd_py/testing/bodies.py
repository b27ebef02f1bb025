"""A request body that does what a script says, for tests of whatever takes a `tusd_py.ports.body.Body`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping

from tusd_py.ports.body import BodyEnd, Sink

__all__ = ["ScriptedBody", "Step"]

Step = bytes | BodyEnd | BaseException | asyncio.Event | Callable[[], Awaitable[object] | None]
"""Bytes arrive; an end comes about; an exception is raised; an event is waited for, as a slow client is, unless the body is
stopped meanwhile; a callable is called, and what it returns awaited."""


class ScriptedBody:
    """A `Body` of `steps`; COMPLETE behind the last of them.

    `length` is that of all bytes in the script; None makes the body chunked. `ready` says that nothing has to be waited for.
    """

    def __init__(
        self,
        *steps: Step,
        length: int | None = -1,
        ready: bool = False,
        trailers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        total = sum(len(step) for step in steps if isinstance(step, bytes))
        self._steps = steps
        self._stop = asyncio.Event()
        self.length = total if length == -1 else length
        self.ready = ready
        self.trailers: Mapping[bytes, bytes] = trailers or {}
        self.pumped = False
        """Whether anybody has asked for the bytes."""

    def __repr__(self) -> str:
        return f"<ScriptedBody of {len(self._steps)} steps{', stopped' if self.stopped else ''}>"

    @property
    def stopped(self) -> bool:
        """Whether `stop` has been called."""
        return self._stop.is_set()

    async def pump(self, sink: Sink, limit: int) -> BodyEnd:
        assert not self.pumped, "a body can be had once"
        self.pumped = True
        for step in self._steps:
            if self.stopped:
                return BodyEnd.STOPPED
            if isinstance(step, bytes):
                sink.write(step[:limit])
                if len(step) > limit:
                    return BodyEnd.EXCESS
                limit -= len(step)
            elif isinstance(step, BodyEnd):
                return step
            elif isinstance(step, BaseException):
                raise step
            elif isinstance(step, asyncio.Event):
                await self._wait(step)
            elif inspect.isawaitable(awaited := step()):
                await awaited
        return BodyEnd.STOPPED if self.stopped else BodyEnd.COMPLETE

    async def _wait(self, event: asyncio.Event) -> None:
        waiting = [asyncio.ensure_future(each.wait()) for each in (event, self._stop)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def stop(self) -> None:
        self._stop.set()
