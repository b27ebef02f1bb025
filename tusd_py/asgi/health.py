"""For whoever watches over the server: `/health` (the process serves requests) and `/ready` (and can take uploads)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = ["Check", "Health", "Readiness", "Verdict"]

CHECK_TIMEOUT = 2.0
"""Seconds that a check may take. Kubernetes, for one, waits one second by default, and asks again."""

CACHE = 1.0
"""Seconds for which a result is good."""

_HEADERS = {"Cache-Control": "no-store"}
_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check has found. `reason` is why not, `facts` is what else there is to know; both are shown to whoever asks."""

    ok: bool
    reason: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        told = {"ok": self.ok, **self.facts}
        return told if self.reason is None else {**told, "reason": self.reason}


Check = Callable[[], Awaitable[Verdict]]
"""Must not block. What takes longer than `CHECK_TIMEOUT`, or raises, has failed."""


class Health:
    """200 while the event loop turns."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = PlainTextResponse("ok\n", headers=_HEADERS) if scope["method"] in _METHODS else _not_allowed()
        await answer(scope, receive, send)


class Readiness:
    """200 when all checks say so, else 503; a JSON body tells what each has found. The last result is good for a second."""

    def __init__(self, checks: Mapping[str, Check], clock: Callable[[], float] = time.monotonic) -> None:
        self._checks, self._clock = dict(checks), clock
        self._stopping = False
        self._known: tuple[float, dict[str, Verdict]] | None = None
        self._looking: asyncio.Task[dict[str, Verdict]] | None = None

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def begin_shutdown(self) -> None:
        """Not ready from now on."""
        self._stopping = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer() if scope["method"] in _METHODS else _not_allowed()
        await answer(scope, receive, send)

    async def _answer(self) -> Response:
        verdicts = {**await self.verdicts(), "shutdown": Verdict(ok=not self._stopping, reason=self._why_stopping())}
        ready = all(verdict.ok for verdict in verdicts.values())
        body = {"ready": ready, "checks": {name: verdict.as_json() for name, verdict in verdicts.items()}}
        return JSONResponse(body, 200 if ready else 503, _HEADERS)

    def _why_stopping(self) -> str | None:
        return "the server is shutting down" if self._stopping else None

    async def verdicts(self) -> dict[str, Verdict]:
        """What the checks say, now or less than a second ago. Who asks while they are at it waits for the same result."""
        if self._known is not None and self._clock() - self._known[0] < CACHE:
            return self._known[1]
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    async def _look(self) -> dict[str, Verdict]:
        found = await asyncio.gather(*map(_judge, self._checks.values()))
        verdicts = dict(zip(self._checks, found, strict=True))
        self._known = self._clock(), verdicts
        return verdicts

    def _looked(self, _: asyncio.Task[dict[str, Verdict]]) -> None:
        self._looking = None


async def _judge(check: Check) -> Verdict:
    try:
        return await asyncio.wait_for(check(), CHECK_TIMEOUT)
    except TimeoutError:
        return Verdict(ok=False, reason=f"no answer for {CHECK_TIMEOUT:g} s")
    except Exception as failure:  # whatever keeps a check from telling keeps us from being ready
        return Verdict(ok=False, reason=f"the check failed: {failure}")


def _not_allowed() -> Response:
    return PlainTextResponse("method not allowed\n", 405, {"Allow": "GET, HEAD"})
