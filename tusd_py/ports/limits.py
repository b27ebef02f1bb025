"""How much may be stored and begun: quotas, concurrent uploads, free space, rates. Asked at creation only."""

from __future__ import annotations

from typing import Protocol

from tusd_py.protocol.upload import Upload

__all__ = ["Limiter"]


class Limiter(Protocol):
    """Keeps account of uploads. Safe to be used by several tasks and processes at once: of two creations that race for the last
    free byte, one is refused. What it raises beside refusals is `StorageFailure`."""

    async def admit(self, upload: Upload, client: str) -> None:
        """Reserve room for an upload that is about to be created; `client` is the address that asks, or who asks.

        Raises `QuotaExceeded`, `TooManyUploads` or `RateLimited` (429 with Retry-After), `StorageFull` (507).
        """

    async def extend(self, before: Upload, after: Upload) -> None:
        """Reserve room for a deferred length that has been declared. Raises `QuotaExceeded`, `StorageFull`."""

    async def progress(self, upload: Upload) -> None:
        """Note how much of the upload has come, and that it is active; at the end of every body. Never raises a refusal."""

    async def forget(self, upload_id: str) -> None:
        """The upload is gone, or was never made: its room is free. Idempotent."""

    async def recover(self) -> None:
        """Make the account true again after a crash, or when it is opened for the first time; at start, beside serving."""

    async def close(self) -> None:
        """Let go. Never raises; idempotent."""
