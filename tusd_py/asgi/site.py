"""The stand-alone server's whole site: uploads below the base path, a greeting elsewhere."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Site"]

GREETING = """tusd-py is running.

This is a server for resumable uploads. Uploads are created by a POST to {path}
with any client that speaks tus 1.0 (https://tus.io).
"""


class Site:
    """Sends what is below `base_path` (which starts and ends with a slash, and may be `/`) to `app`, without a detour through
    a router: that would cost half as much as an upload."""

    def __init__(self, app: ASGIApp, base_path: str, *, greeting: bool) -> None:
        self._app, self._base = app, base_path
        self._bare = base_path.removesuffix("/")
        self._page = PlainTextResponse(GREETING.format(path=base_path)) if greeting and base_path != "/" else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if not path.startswith(self._base) and path != self._bare:
                page = self._page or PlainTextResponse("not found\n", status_code=404)
                await page(scope, receive, send)
                return
        await self._app(scope, receive, send)
