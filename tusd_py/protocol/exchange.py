"""An HTTP request and an answer to it as values: what hooks are told, what hooks say, and what authorisation decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NO_REQUEST", "HttpRequest", "HttpResponse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request that caused something, as tusd tells its hooks about it.

    `method` is the real one even where X-HTTP-Method-Override names another; `uri` is the request target as it was sent, with
    its query; `remote_addr` is the peer as `host:port`, which behind a proxy is the proxy. Header names are in Go's canonical
    form (`X-Request-Id`), each with all its values, and `Host` is among them. `scope` is the ASGI scope, for what a host
    application has put into it; it is empty when the request is of the past, and is not compared.
    """

    method: str = ""
    uri: str = ""
    remote_addr: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scope: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def header(self, name: str) -> str | None:
        """The first value of a header, by its canonical name; None where there is none."""
        values = self.headers.get(name)
        return values[0] if values else None


NO_REQUEST = HttpRequest()
"""For what no request has caused: expiry, a final upload that is put together in the background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """What a hook wants of the answer to a request. What is None or missing stays as it would have been."""

    status: int | None = None
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def merged(self, other: HttpResponse) -> HttpResponse:
        """This, and over it what `other` says, header by header, as tusd merges what several hooks say."""
        return HttpResponse(
            status=self.status if other.status is None else other.status,
            body=self.body if other.body is None else other.body,
            headers={**self.headers, **other.headers},
        )
