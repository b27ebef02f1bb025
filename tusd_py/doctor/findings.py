"""What was found, and who is likely to have done it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["ADVICE", "Finding", "Level", "Report", "advice", "layer_of"]


class Level(enum.StrEnum):
    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on one subject. `remedies` are what to set where, most likely first."""

    subject: str
    level: Level
    sentence: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """`url` is where uploads are created. `left` are uploads that could not be removed."""

    url: str
    findings: tuple[Finding, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: 0 all is well, 1 there are problems."""
        return int(any(finding.level is Level.PROBLEM for finding in self.findings))


# Header, what its value contains, who sends it.
_TRACES = (
    ("server", "nginx", "nginx"),
    ("server", "cloudflare", "Cloudflare"),
    ("cf-ray", "", "Cloudflare"),
    ("server", "envoy", "Envoy"),
    ("server", "apache", "Apache"),
    ("server", "caddy", "Caddy"),
    ("via", "caddy", "Caddy"),
    ("via", "varnish", "Varnish"),
    ("x-varnish", "", "Varnish"),
    ("x-amz-cf-id", "", "CloudFront"),
    ("server", "awselb", "AWS load balancer"),
)


def layer_of(headers: Iterable[tuple[str, str]]) -> str | None:
    """Who, in front of the server, has put its name into an answer. Names of headers in lower case."""
    pairs = [(name, value.lower()) for name, value in headers]
    for name, part, layer in _TRACES:
        if any(name == given and part in value for given, value in pairs):
            return layer
    return None


# By subject: what to set, in each layer that is known to do it.
ADVICE: Mapping[str, Mapping[str, str]] = {
    "buffering": {
        "nginx": "proxy_request_buffering off; proxy_http_version 1.1;",
        "HAProxy": "remove `option http-buffer-request`",
        "Apache": "remove SetEnv proxy-sendcl, and mod_security's SecRequestBodyAccess for this path",
        "Envoy": "take the buffer filter out of this route",
        "Cloudflare": "switch the inspection of bodies off for this path, or use a name that it does not proxy",
    },
    "body size": {
        "nginx": "client_max_body_size 0;",
        "Apache": "LimitRequestBody 0",
        "Cloudflare": "the plan's limit (100 MB on the free one) can't be raised here: set the clients' chunk size below it",
        "Caddy": "remove `request_body max_size`",
        "Envoy": "raise max_request_bytes of the buffer filter, or remove it",
    },
    "timeouts": {
        "nginx": "client_body_timeout 5m; proxy_send_timeout 5m; proxy_read_timeout 1h;",
        "HAProxy": "timeout client and timeout server longer than the server's -network-timeout (1m)",
        "Envoy": "request_timeout and stream_idle_timeout longer than the server's -network-timeout (1m)",
    },
    "location": {
        "nginx": "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host; "
        "proxy_set_header X-Forwarded-Proto $scheme; proxy_redirect off;",
        "HAProxy": "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "the server": "-behind-proxy",
    },
    "prefix": {
        "nginx": "pass the path on as it is (no path behind the upstream in proxy_pass), no proxy_redirect",
        "the server": "-base-path as in the public address",
    },
    "request headers": {
        "nginx": "no `proxy_pass_request_headers off;`; no proxy_set_header that empties Upload-... or Tus-Resumable",
        "HAProxy": "no `http-request del-header` for them",
    },
    "response headers": {
        "nginx": "no `proxy_hide_header` for it",
        "HAProxy": "no `http-response del-header` for it",
    },
    "methods": {
        "nginx": "no `limit_except`, no `if ($request_method ...)` without PATCH, HEAD, DELETE and OPTIONS",
        "Apache": "no <Limit> or <LimitExcept> without PATCH, HEAD, DELETE and OPTIONS",
        "a firewall": "permit PATCH, HEAD, DELETE and OPTIONS, or let clients use X-HTTP-Method-Override",
    },
    "caching": {
        "nginx": "proxy_cache off; or at least proxy_cache_convert_head off and no proxy_ignore_headers Cache-Control",
        "Cloudflare": "a cache rule that bypasses the cache for this path",
        "Varnish": "return (pass) for this path",
    },
    "chunked": {
        "nginx": "proxy_http_version 1.1; proxy_request_buffering off; chunked_transfer_encoding on;",
    },
    "cors": {
        "nginx": "no `add_header Access-Control-...`: the server sends these; no `proxy_hide_header` for them",
    },
    "downloads": {"nginx": "proxy_buffering off; gzip off;"},
    "events": {
        "nginx": "proxy_buffering off; gzip off;",
        "Cloudflare": "it holds compressed streams back: no compression here",
    },
    "http2": {
        "nginx": "http2_body_preread_size 512k; client_body_buffer_size 256k;",
        "Envoy": "raise initial_stream_window_size and initial_connection_window_size",
    },
}


def advice(subject: str, layers: Iterable[str]) -> tuple[str, ...]:
    """What to set, `layer: directive`: for the layers that were seen, or for all where none of these was."""
    known = ADVICE[subject]
    seen = [layer for layer in layers if layer in known]
    chosen = [*seen, *(name for name in known if name.startswith(("the ", "a ")))] if seen else list(known)
    return tuple(f"{layer}: {known[layer]}" for layer in dict.fromkeys(chosen))
