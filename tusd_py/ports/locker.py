"""One request at a time may change an upload. The newest request wins by asking the holder to let go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Lease", "Locker", "ignore"]


def ignore() -> None:
    """The answer of a holder that is about to let go anyway."""


class Lease(Protocol):
    """A lock that is held. Ends by `release`, or by itself when the process dies."""

    async def release(self) -> None:
        """Let go. Never raises; idempotent; does its work even when the calling task is being cancelled."""


class Locker(Protocol):
    """Exclusive locks by upload id, between all tasks and processes that serve the same uploads.

    Waiting holds no thread and does not poll: the holder is told, and the waiter is told.
    """

    async def acquire(self, upload_id: str, on_release_request: Callable[[], None], timeout: float) -> Lease:
        """Wait at most `timeout` seconds for the lock, asking the present holder to let go.

        `on_release_request` is called on this event loop, perhaps several times, once somebody else wants the lock while
        the lease is held. Raises `LockTimeout`; a cancelled waiter leaves nothing behind.
        """

    async def try_acquire(self, upload_id: str, on_release_request: Callable[[], None] = ignore) -> Lease | None:
        """The lock if nobody has it, without asking anybody; else None. The callback is `acquire`'s."""

    async def close(self) -> None:
        """Stop listening to other processes. Leases that are held stay until they are released."""
