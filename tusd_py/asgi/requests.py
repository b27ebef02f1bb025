"""A request as the application needs it: its head in a form that is cheap to look things up in, and its body."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from starlette.types import Receive, Scope

from tusd_py.asgi.body import AsgiBody
from tusd_py.ports.authorization import Decision
from tusd_py.ports.call import Claim
from tusd_py.protocol.exchange import HttpRequest, HttpResponse
from tusd_py.protocol.headers import Headers, body_length, collect_headers
from tusd_py.protocol.hook_messages import go_canonical
from tusd_py.protocol.location import known_hosts, origin

__all__ = ["BODY_EXTENSION", "Request"]

BODY_EXTENSION = "tusd_py.body"
"""Our transport puts the request's `Body` into `scope["extensions"]` under this name."""


_NOT_TOLD = frozenset((b"trailer", b"transfer-encoding"))
"""Headers that Go takes out of a request, so that tusd's hooks are not told of them."""

_OUR_PARAMETERS = re.compile("[?&](?:intent|capability)=")
_OUR_HEADER = "Upload-Intent"
# Where an upload intent or a URL's capability stands (docs/reference/authorization.md).

MAX_REQUEST_ID = 36
"""Characters of X-Request-ID that are kept: those of a UUID, as in tusd."""


class Request:
    """One HTTP request, and the `Call` behind a use case. `method` is the overriding one where there is an override (C11 to
    C14); `path` is the part below `root`. `behind_proxy` says that what a proxy tells about the client counts."""

    # Nearly no request has any of these: as attributes of the class they cost nothing.
    owner: str | None = None
    any_owner: bool = False
    max_size: int | None = None
    claim: Claim | None = None
    response: HttpResponse | None = None
    notes: Any = None
    _facts: HttpRequest | None = None
    _located: tuple[str, bytes] = ("", b"")

    def __init__(
        self, scope: Scope, receive: Receive, root: str, timeout: float, path: str = "", behind_proxy: bool = False
    ) -> None:
        self.scope = scope
        self.path, self._behind_proxy = path, behind_proxy
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

    def admit(self, decision: Decision) -> None:
        """Remember what authorisation has found about who asks."""
        self.owner, self.any_owner = decision.owner, decision.any_owner
        self.max_size, self.claim = decision.max_size, decision.claim

    @property
    def name(self) -> str:
        return self.method

    @property
    def request_id(self) -> str:
        value = self.headers.get(b"x-request-id")
        return value.decode("latin-1")[:MAX_REQUEST_ID] if value else ""

    @property
    def client(self) -> str:
        """The address that the request came from; behind a proxy, the one that the proxy has seen, which it puts last."""
        forwarded = self.headers.get(b"x-forwarded-for") if self._behind_proxy else None
        if forwarded:
            return forwarded.rpartition(b",")[2].strip().decode("latin-1")
        peer = self.scope.get("client")
        return peer[0] if peer else ""

    def http_request(self) -> HttpRequest:
        """What hooks are told, and what the outbox keeps: without permissions of ours, which are nobody else's business."""
        facts = self.with_credentials()
        if _OUR_HEADER not in facts.headers and not _OUR_PARAMETERS.search(facts.uri):
            return facts
        path, _, query = facts.uri.partition("?")
        kept = "&".join(pair for pair in query.split("&") if not _OUR_PARAMETERS.search(f"?{pair}"))
        headers = {name: values for name, values in facts.headers.items() if name != _OUR_HEADER}
        return replace(facts, uri=f"{path}?{kept}" if kept else path, headers=headers)

    def with_credentials(self) -> HttpRequest:
        """The request as it came, for authorisation."""
        if self._facts is None:
            self._facts = self._collect_facts()
        return self._facts

    def _collect_facts(self) -> HttpRequest:
        scope = self.scope
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in scope["headers"]:
            key = go_canonical(name)
            if name in self.headers and name not in _NOT_TOLD:  # else it is a trailer
                headers[key] = (*headers.get(key, ()), value.decode("latin-1"))
        uri = scope.get("raw_path") or scope["path"].encode()
        if query := scope.get("query_string"):
            uri += b"?" + query
        peer = scope.get("client")
        return HttpRequest(
            method=scope["method"],
            uri=uri.decode("latin-1"),
            remote_addr=_address(peer) if peer else "",
            headers=headers,
            scope=scope,
        )

    def location(self, upload_id: str) -> bytes:
        """The absolute URL of an upload."""
        known, url = self._located
        if known != upload_id:  # log and answer name the same one
            here = origin(self.headers, self.scope["scheme"].encode(), self._host(), behind_proxy=self._behind_proxy)
            url = here + (self._root + upload_id).encode()
            self._located = upload_id, url
        return url

    def url_of(self, upload_id: str) -> str:
        return self.location(upload_id).decode("latin-1")

    def hosts(self) -> frozenset[str]:
        """Hosts under which the client may know us."""
        return known_hosts(self.headers, self._host(), behind_proxy=self._behind_proxy)

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


def _address(peer: tuple[str, int]) -> str:
    """As Go writes it."""
    host, port = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _early_trailers(headers: Headers) -> dict[bytes, bytes]:
    """Trailers that uvicorn has put among the headers because they came in one piece with the head: those announced."""
    if b"trailer" not in headers or b"transfer-encoding" not in headers:
        return {}
    announced = {name.strip().lower() for name in headers[b"trailer"].split(b",")}
    return {name: value for name, value in headers.items() if name in announced}
