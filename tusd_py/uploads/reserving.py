"""What a creation needs before anything is stored: room, a permission to use up, and its events written down.

All of it is given back when the creation comes to nothing, so that nothing is left of an upload that nobody was told of.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from tusd_py.ports.call import Call
from tusd_py.ports.failures import StorageFailure
from tusd_py.ports.limits import Limiter
from tusd_py.ports.locker import Lease, ignore
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.announcing import Announcer

__all__ = ["Reservation"]

_log = logging.getLogger("tusd_py.uploads")


class Reservation:
    """What one creation has taken. `take` it, then either store the upload or `give_back`."""

    def __init__(self, upload: Upload, call: Call, limiter: Limiter | None, announcer: Announcer | None) -> None:
        self._upload, self._call = upload, call
        self._limiter, self._announcer = limiter, announcer
        self._undo: list[Callable[[], Awaitable[None]]] = []
        self._announced = False
        self.lease: Lease | None = None  # of an upload whose id others may want as well
        self.interrupt: Callable[[], None] = ignore  # when they do

    async def release(self) -> None:
        """Let go of the lock. Idempotent."""
        lease, self.lease = self.lease, None
        if lease is not None:
            await lease.release()

    async def take(self) -> None:
        """Take everything or nothing. Raises the `Refusal` that applies, `StorageFailure`."""
        try:
            await self._take()
        except BaseException:
            await self.give_back()
            raise

    async def _take(self) -> None:
        upload, call = self._upload, self._call
        if self._limiter is not None:
            limiter = self._limiter
            await limiter.admit(upload, call.owner or call.client)
            self._undo.append(lambda: limiter.forget(upload.id))
        if call.claim is not None:
            self._undo.append(await call.claim())
        if self._announcer is not None:
            self._undo.append(self._forget_events)
            await self._announcer.before_creation(upload, call)

    async def announce(self, upload: Upload) -> None:
        """The upload is there."""
        self._announced = True
        if self._announcer is not None:
            await self._announcer.created(upload, self._call)

    async def before_forgetting(self) -> None:
        """The upload is about to be removed again: whoever was told that it is there must hear of that, whatever happens in
        between. Never raises: what nobody was given a URL of goes in any case."""
        if self._announced and self._announcer is not None:
            try:
                await self._announcer.before_removal(self._upload, self._call)
            except StorageFailure:
                _log.exception("a removal could not be written down", extra={"fields": {"id": self._upload.id}})

    async def _forget_events(self) -> None:
        assert self._announcer is not None
        if self._announced:  # whoever was told that it is there is told that it is gone
            await self._announcer.removed(self._upload, self._call)
        else:
            await self._announcer.not_created(self._upload.id)

    async def give_back(self) -> None:
        """Give everything back. Never raises: what can't be given back now is found by the owner of the account later."""
        while self._undo:
            try:
                await self._undo.pop()()
            except Exception:  # one that fails must not keep the others from being tried
                _log.exception("a reservation could not be given back", extra={"fields": {"id": self._upload.id}})
