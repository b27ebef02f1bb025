"""Hooks as takers of events from the outbox."""

from __future__ import annotations

from collections.abc import Callable

from tusd_py.ports.hooks import Hooks
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import EVENTS, HookEvent, HookType

__all__ = ["HookConsumer", "Stop"]

Stop = Callable[[str, HttpResponse], None]
"""Stops who is sending to the upload of this id, as a post-receive hook wants it; the response is for them."""


class HookConsumer:
    """Tells `hooks` about events; their failures go up, so that the event is tried again.

    The one thing that an event's answer can say is that an upload has to stop: then `stop` is called; again, if the
    event is delivered again, so that stopping what is stopped must do nothing.
    """

    name = "hooks"

    def __init__(self, hooks: Hooks, stop: Stop | None = None) -> None:
        self._hooks, self._stop = hooks, stop

    @property
    def types(self) -> frozenset[HookType]:
        return self._hooks.types & EVENTS

    async def deliver(self, event: HookEvent) -> None:
        answer = await self._hooks.invoke(event)
        if answer.stop_upload and event.type is HookType.POST_RECEIVE and self._stop is not None:
            self._stop(event.upload.id, answer.response)
