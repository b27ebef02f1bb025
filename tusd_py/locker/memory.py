"""Locks among the tasks of one event loop: enough for a single process, and the inner half of `posix`.

A lock is a `_Slot` in a dictionary while somebody has it. Waiters stand in a queue of futures; who lets go hands over to the
first of them directly, so that nobody can slip in between. Knows no other process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tusd_py.ports.failures import LockTimeout
from tusd_py.ports.locker import ignore

__all__ = ["MemoryLease", "MemoryLocker"]


class _Slot:
    """A lock that somebody has, and those who wait for it, the longest first."""

    __slots__ = ("holder", "waiters")

    def __init__(self) -> None:
        self.holder: MemoryLease | None = None
        self.waiters: list[asyncio.Future[None]] = []  # few, and an empty deque is ten times the size


class MemoryLease:
    """A lock that is held until `release`."""

    __slots__ = ("_locker", "_on_release_request", "_slot", "upload_id")

    def __init__(self, locker: MemoryLocker, slot: _Slot, upload_id: str, on_release_request: Callable[[], None]) -> None:
        self._locker, self._slot, self.upload_id = locker, slot, upload_id
        self._on_release_request = on_release_request

    def __repr__(self) -> str:
        return f"<MemoryLease {self.upload_id!r}{'' if self.held else ' released'}>"

    @property
    def held(self) -> bool:
        return self._slot.holder is self

    def ask(self) -> None:
        """Tell the holder that somebody else wants the lock; soon, because a callback's failure is not the asker's."""
        asyncio.get_running_loop().call_soon(self._ask_now)

    def _ask_now(self) -> None:
        if self.held:
            self._on_release_request()

    def let_go(self) -> None:
        """`release` for those who can't await."""
        if self.held:
            self._locker._hand_over(self.upload_id, self._slot)

    async def release(self) -> None:
        self.let_go()  # awaits nothing, so that a cancellation can't get in between


class MemoryLocker:
    """A `Locker` between the tasks of one event loop. Waiters are served in their order."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}

    def __repr__(self) -> str:
        return f"<MemoryLocker {len(self._slots)} held, {sum(len(slot.waiters) for slot in self._slots.values())} waiting>"

    async def acquire(self, upload_id: str, on_release_request: Callable[[], None], timeout: float) -> MemoryLease:
        slot = self._slots.get(upload_id)
        if slot is None:
            return self._take(upload_id, on_release_request)
        if slot.holder is not None:
            slot.holder.ask()
        await self._wait(upload_id, slot, timeout)
        lease = slot.holder = MemoryLease(self, slot, upload_id, on_release_request)
        if slot.waiters:
            lease.ask()
        return lease

    async def try_acquire(self, upload_id: str, on_release_request: Callable[[], None] = ignore) -> MemoryLease | None:
        return None if upload_id in self._slots else self._take(upload_id, on_release_request)

    async def close(self) -> None:
        """There is nobody to listen to."""

    def _take(self, upload_id: str, on_release_request: Callable[[], None]) -> MemoryLease:
        slot = self._slots[upload_id] = _Slot()
        slot.holder = MemoryLease(self, slot, upload_id, on_release_request)
        return slot.holder

    async def _wait(self, upload_id: str, slot: _Slot, timeout: float) -> None:
        """Return once the slot is ours, `holder` still to be filled in."""
        turn = asyncio.get_running_loop().create_future()
        slot.waiters.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # handed over to us in the very moment that we gave up
                self._hand_over(upload_id, slot)
            elif turn in slot.waiters:
                slot.waiters.remove(turn)
            if isinstance(error, TimeoutError):
                raise LockTimeout(f"upload {upload_id!r} stayed locked for {timeout:g} s") from None
            raise

    def _hand_over(self, upload_id: str, slot: _Slot) -> None:
        slot.holder = None
        while slot.waiters:
            turn = slot.waiters.pop(0)
            if not turn.done():  # else it is being cancelled
                turn.set_result(None)
                return
        del self._slots[upload_id]
