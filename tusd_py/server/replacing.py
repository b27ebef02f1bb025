"""Waiting for a successor on an event loop. Apart from `tusd_py.server.succession`, which a supervisor imports, too."""

from __future__ import annotations

import asyncio
import os
import signal

from tusd_py.server.succession import MESSAGE, START_TIMEOUT, Succession, Successor, Verdict

__all__ = ["replace"]

# Seconds that a successor which has said that it failed may take to end.
END_GRACE = 5.0


async def replace(succession: Succession) -> bool:
    """Start a successor and wait until it serves (true) or has failed (false). Cancelled, it ends the successor."""
    successor = succession.start()
    if successor is None:
        return False
    with successor.channel:
        verdict = await _verdict(successor)
    if not verdict.ready:
        await _ended(successor)
    return succession.conclude(successor.pid, verdict)


async def _verdict(successor: Successor) -> Verdict:
    loop = asyncio.get_running_loop()
    try:
        return Verdict.of(await asyncio.wait_for(loop.sock_recv(successor.channel, MESSAGE), START_TIMEOUT))
    except TimeoutError:
        successor.signal(signal.SIGKILL)
        return Verdict(False, reason=f"it was not ready after {START_TIMEOUT:.0f} s")
    except asyncio.CancelledError:
        successor.signal(signal.SIGTERM)
        raise


async def _ended(successor: Successor) -> None:
    """Wait until the process has ended, and see to it that it does: it must not go on as a second server."""
    end = asyncio.ensure_future(asyncio.to_thread(os.waitpid, successor.pid, 0))
    await asyncio.wait((end,), timeout=END_GRACE)
    if not end.done():
        successor.signal(signal.SIGKILL)
    await end
