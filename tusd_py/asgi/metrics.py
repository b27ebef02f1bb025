"""The page of metrics: an ASGI application for the stand-alone server's site, or to mount in a host's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = ["MetricsPage"]


class MetricsPage:
    """Answers GET and HEAD with what `scrape` tells, which raises TimeoutError when it takes too long."""

    def __init__(self, scrape: Callable[[], Awaitable[bytes]], content_type: str) -> None:
        self._scrape, self._content_type = scrape, content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._answer(scope["method"]))(scope, receive, send)

    async def _answer(self, method: str) -> Response:
        if method not in ("GET", "HEAD"):
            return PlainTextResponse("method not allowed\n", 405, {"Allow": "GET, HEAD"})
        try:
            text = await self._scrape()
        except TimeoutError:
            return PlainTextResponse("the metrics could not be put together in time\n", 503)
        return Response(text, headers={"Content-Type": self._content_type})
