"""A request as the application needs it: its head in a form that is cheap to look things up in, and its body."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope

from tusd_py.asgi.body import AsgiBody
from tusd_py.protocol.headers import Headers, body_length, collect_headers
from tusd_py.protocol.location import known_hosts, origin

__all__ = ["BODY_EXTENSION", "Request"]

BODY_EXTENSION = "tusd_py.body"
"""Our transport puts the request's `Body` into `scope["extensions"]` under this name."""


class Request:
    """One HTTP request. `method` is the overriding one where there is an override (C11 to C14)."""

    __slots__ = ("_root", "body", "headers", "method", "scope")

    def __init__(self, scope: Scope, receive: Receive, root: str, timeout: float) -> None:
        self.scope = scope
        # a Body with `complete`: whether nothing of it is left on the connection
        self.body: Any = (scope.get("extensions") or {}).get(BODY_EXTENSION)
        pairs = scope["headers"]
        self.headers: Headers = collect_headers(pairs)
        if self.body is None:
            early = _early_trailers(self.headers)
            if early:
                self.headers = {name: value for name, value in self.headers.items() if name not in early}
            self.body = AsgiBody(receive, body_length(self.headers), pairs, early, timeout)
        self.method: str = scope["method"]
        if override := self.headers.get(b"x-http-method-override"):
            self.method = override.decode("latin-1").strip().upper()
        self._root = root

    def location(self, upload_id: str, *, behind_proxy: bool) -> bytes:
        """The absolute URL of an upload."""
        here = origin(self.headers, self.scope["scheme"].encode(), self._host(), behind_proxy=behind_proxy)
        return here + (self._root + upload_id).encode()

    def hosts(self, *, behind_proxy: bool) -> frozenset[str]:
        """Hosts under which the client may know us."""
        return known_hosts(self.headers, self._host(), behind_proxy=behind_proxy)

    @property
    def root(self) -> str:
        """Path of the creation URL, with a slash at its end."""
        return self._root

    def _host(self) -> bytes:
        host = self.headers.get(b"host")
        if host:
            return host
        server = self.scope.get("server")  # HTTP/1.0 knows no Host
        return b"%s:%d" % (server[0].encode(), server[1]) if server and server[1] else b"localhost"


def _early_trailers(headers: Headers) -> dict[bytes, bytes]:
    """Trailers that uvicorn has put among the headers because they came in one piece with the head: those announced."""
    if b"trailer" not in headers or b"transfer-encoding" not in headers:
        return {}
    announced = {name.strip().lower() for name in headers[b"trailer"].split(b",")}
    return {name: value for name, value in headers.items() if name in announced}
