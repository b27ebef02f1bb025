"""Who hears durably that uploads are finished, where hooks are told what becomes of them.

What `Opened.finished` says is lost with the process, and with it the event that tells of a version which was just made. So
where somebody wants those, uploads come by way of the outbox, which delivers again whatever was not told to the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py_cas.naming import series_of

__all__ = ["CasConsumer"]


class CasConsumer:
    """The port `Consumer`; `take` is called with the id of each upload that is finished, for versions of one object one after
    the other: so their numbers are in the order in which the uploads were finished."""

    name = "cas"
    types = frozenset({HookType.POST_FINISH})

    def __init__(self, take: Callable[[str], Awaitable[None]]) -> None:
        self._take = take
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()  # by the series

    async def deliver(self, event: HookEvent) -> None:
        """Take the upload in, and tell so. Raises `StorageFailure`; then it is tried again."""
        series = series_of(event.upload)
        turn = asyncio.Lock() if series is None else self._turns.setdefault(series, asyncio.Lock())
        async with turn:
            await self._take(event.upload.id)
