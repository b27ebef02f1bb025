"""The stand-alone server's whole site: uploads below the base path, pages for whoever operates it, a greeting elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Site"]

GREETING = """tusd-py is running.

This is a server for resumable uploads. Uploads are created by a POST to {path}
with any client that speaks tus 1.0 (https://tus.io).
"""


class Site:
    """Sends what is below `base_path` (which starts and ends with a slash, and may be `/`) to `app`, without a detour through
    a router: that would cost half as much as an upload.

    `pages` are applications for exactly these paths. One below the base path takes GET and HEAD away from an upload of that
    name; other methods go to the upload.
    """

    def __init__(self, app: ASGIApp, base_path: str, *, greeting: bool, pages: Mapping[str, ASGIApp] | None = None) -> None:
        self._app, self._base = app, base_path
        self._bare = base_path.removesuffix("/")
        self._page = PlainTextResponse(GREETING.format(path=base_path)) if greeting and base_path != "/" else None
        self._pages = dict(pages or {})
        self._pages_below = {path: page for path, page in self._pages.items() if path.startswith(base_path)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if not path.startswith(self._base) and path != self._bare:
                await self._find(path)(scope, receive, send)
                return
            if self._pages_below and path in self._pages_below and scope["method"] in ("GET", "HEAD"):
                await self._pages_below[path](scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _find(self, path: str) -> ASGIApp:
        return self._pages.get(path) or self._page or PlainTextResponse("not found\n", status_code=404)
