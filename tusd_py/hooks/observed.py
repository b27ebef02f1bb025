"""Hooks that somebody watches: the log and the metrics hear of each call."""

from __future__ import annotations

import time

from tusd_py.ports.hooks import Hooks
from tusd_py.ports.observer import Observer
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["ObservedHooks"]


class ObservedHooks:
    """`hooks`, whose calls `observer` is told about: that one begins, and how it ends."""

    def __init__(self, hooks: Hooks, observer: Observer) -> None:
        self._hooks, self._observer = hooks, observer

    def __repr__(self) -> str:
        return f"<ObservedHooks {self._hooks!r}>"

    @property
    def types(self) -> frozenset[HookType]:
        return self._hooks.types

    async def invoke(self, event: HookEvent) -> HookAnswer:
        kind, upload_id, begin = event.type, event.upload.id, time.perf_counter()
        self._observer.hook_started(kind, upload_id)
        try:
            answer = await self._hooks.invoke(event)
        except BaseException as error:  # a cancellation as well: what was started has ended
            text = str(error) or type(error).__name__
            self._observer.hook_failed(kind, upload_id, time.perf_counter() - begin, text)
            raise
        self._observer.hook_complete(kind, upload_id, time.perf_counter() - begin)
        return answer

    async def close(self) -> None:
        await self._hooks.close()
