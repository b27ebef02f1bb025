"""Cross-origin requests: which origins may call, and what browsers may send and read. Rows O01 to O07."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tusd_py.protocol.headers import Headers
from tusd_py.protocol.refusals import OriginNotAllowed

__all__ = ["ALLOW_HEADERS", "ALLOW_METHODS", "EXPOSE_HEADERS", "Cors"]

ALLOW_METHODS = "POST, HEAD, PATCH, OPTIONS, GET, DELETE"
ALLOW_HEADERS = (
    "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Content-Type, Upload-Length, "
    "Upload-Offset, Tus-Resumable, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, "
    "Upload-Draft-Interop-Version, Upload-Checksum"
)
EXPOSE_HEADERS = (
    "Upload-Offset, Location, Upload-Length, Tus-Version, Tus-Resumable, Tus-Max-Size, Tus-Extension, Upload-Metadata, "
    "Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version, Upload-Expires, "
    "Tus-Checksum-Algorithm, ETag, Repr-Digest, Retry-After"
)

VARY = (b"vary", b"Origin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Cross-origin policy. `allow_origin` may match anywhere in the origin, as tusd's does; the lists are header values."""

    allow_origin: re.Pattern[str] = re.compile(".*")
    allow_credentials: bool = False
    allow_methods: str = ALLOW_METHODS
    allow_headers: str = ALLOW_HEADERS
    expose_headers: str = EXPOSE_HEADERS
    max_age: str = "86400"
    _preflight: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False)
    _plain: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        credentials = ((b"access-control-allow-credentials", b"true"),) if self.allow_credentials else ()
        preflight = (
            (b"access-control-allow-methods", self.allow_methods.encode()),
            (b"access-control-allow-headers", self.allow_headers.encode()),
            (b"access-control-max-age", self.max_age.encode()),
        )
        object.__setattr__(self, "_preflight", credentials + preflight)
        object.__setattr__(self, "_plain", (*credentials, (b"access-control-expose-headers", self.expose_headers.encode())))

    def answer(self, headers: Headers, *, preflight: bool) -> list[tuple[bytes, bytes]]:
        """Headers for the answer, whatever its status. Raises `OriginNotAllowed` (O03).

        `Vary` is there without an Origin, too: a cache must not hand that answer to a page of another origin (O04).
        """
        origin = headers.get(b"origin")
        if origin is None:
            return [VARY]
        if not self.allow_origin.search(origin.decode("latin-1")):
            raise OriginNotAllowed(headers={"Vary": "Origin"})
        return [VARY, (b"access-control-allow-origin", origin), *(self._preflight if preflight else self._plain)]
