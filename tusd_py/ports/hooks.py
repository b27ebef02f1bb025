"""Somebody who is asked before and told after things happen to uploads: scripts, web services, Python callables."""

from __future__ import annotations

from typing import Protocol

from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["HookFailure", "Hooks"]


class HookFailure(Exception):
    """A hook could not be asked, took too long, or answered what makes no sense.

    Unlike a `StorageFailure`'s, the message is shown to the client, as tusd shows it: it says what the hook said.
    """


class Hooks(Protocol):
    """One way of asking hooks. May be called any number of times at once; every call is bounded in time."""

    @property
    def types(self) -> frozenset[HookType]:
        """The hooks that are enabled; no other is asked."""

    async def invoke(self, event: HookEvent) -> HookAnswer:
        """Ask or tell. Raises `HookFailure`; a cancelled call leaves no process and no connection behind."""

    async def close(self) -> None:
        """Let go of connections. Never raises; idempotent."""
