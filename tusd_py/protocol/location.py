"""Under which scheme and host the client knows us: for Location, and for absolute URLs in Upload-Concat (R13 to R18, N03)."""

from __future__ import annotations

from tusd_py.protocol.headers import Headers

__all__ = ["known_hosts", "origin"]

_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


def origin(headers: Headers, scheme: bytes, host: bytes, *, behind_proxy: bool) -> bytes:
    """`scheme://host` as the client sees it.

    `scheme` and `host` are the connection's own. Behind a proxy, `Forwarded` wins over `X-Forwarded-*`; of a list the first
    element counts, which is the one nearest to the client.
    """
    if behind_proxy:
        scheme, host = _forwarded(headers, scheme, host)
    return scheme + b"://" + host


def known_hosts(headers: Headers, host: bytes, *, behind_proxy: bool) -> frozenset[str]:
    """Hosts, in lower case, that an absolute URL of ours may name."""
    hosts = {host}
    if behind_proxy:
        for scheme in (b"http", b"https"):
            hosts.add(_forwarded(headers, scheme, host)[1])
    return frozenset(each.decode("latin-1").lower() for each in hosts)


def _forwarded(headers: Headers, scheme: bytes, host: bytes) -> tuple[bytes, bytes]:
    fields = _forwarded_fields(headers.get(b"forwarded", b""))
    proto = fields.get(b"proto") or _first(headers.get(b"x-forwarded-proto", b""))
    if proto.lower() in _DEFAULT_PORTS:
        scheme = proto.lower()
    named = fields.get(b"host") or _first(headers.get(b"x-forwarded-host", b""))
    if named:
        host = named.removesuffix(_DEFAULT_PORTS.get(scheme, b""))
    return scheme, host


def _first(value: bytes) -> bytes:
    return value.partition(b",")[0].strip()


def _forwarded_fields(value: bytes) -> dict[bytes, bytes]:
    """Parameters of the first element of a Forwarded field (RFC 7239)."""
    pairs = (pair.partition(b"=") for pair in _first(value).split(b";"))
    return {name.strip().lower(): content.strip().strip(b'"') for name, _, content in pairs}
