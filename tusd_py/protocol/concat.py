"""The concatenation extension: `Upload-Concat: partial` and `final;url url ...`. Spec: concatenation; rows N01 to N26."""

from __future__ import annotations

from urllib.parse import unquote

from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.refusals import InvalidConcat, UploadMissing

__all__ = ["MAX_PARTIALS", "parse_concat", "partial_id"]

MAX_PARTIALS = 10_000
"""As many parts as S3 allows in one object; a header that lists more is a mistake or an attack."""


def parse_concat(value: str) -> tuple[str, ...] | None:
    """None for `partial`; the URLs, in order, for `final;...`. Raises `InvalidConcat` for anything else (N10)."""
    if value == "partial":
        return None
    kind, separator, urls = value.partition(";")
    partials = tuple(urls.split())
    if kind != "final" or not separator or not partials:
        raise InvalidConcat
    if len(partials) > MAX_PARTIALS:
        raise InvalidConcat(f"invalid Upload-Concat header: at most {MAX_PARTIALS} partial uploads expected")
    return partials


def partial_id(url: str, base_path: str, hosts: frozenset[str]) -> str:
    """The id that a partial's URL names: a path below `base_path`, alone or behind a scheme and one of `hosts` (N03 to N05).

    `base_path` ends with a slash. Raises `InvalidConcat` for a URL of another place, `UploadMissing` where no upload can be.
    """
    path = url
    scheme, absolute, rest = url.partition("://")
    if absolute:
        host, slash, path = rest.partition("/")
        if scheme.lower() not in ("http", "https") or host.lower() not in hosts:
            raise InvalidConcat("invalid Upload-Concat header: a partial upload of this server expected")
        path = slash + path
    path = path.partition("?")[0].partition("#")[0]
    if not path.startswith(base_path):
        raise InvalidConcat("invalid Upload-Concat header: a partial upload of this server expected")
    upload_id = unquote(path[len(base_path) :]).rstrip("/")
    if not is_valid_id(upload_id):
        raise UploadMissing
    return upload_id
