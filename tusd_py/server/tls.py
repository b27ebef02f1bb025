"""tusd's three TLS modes (cmd/tusd/cli/serve.go, serveTLS)."""

from __future__ import annotations

import ssl

from tusd_py.server.errors import StartError, reason
from tusd_py.settings import Settings

__all__ = ["server_context"]

_INTERMEDIATE_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
_STRONG_SUITES = ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384")

_TLS12, _TLS13, _NEWEST = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED

# Lowest version, highest version, suites of TLS 1.2. The suites of TLS 1.3 are not configurable, in Go as in OpenSSL.
_MODES = {
    "tls12": (_TLS12, _NEWEST, _INTERMEDIATE_SUITES),
    "tls12-strong": (_TLS12, _TLS12, _STRONG_SUITES),
    "tls13": (_TLS13, _NEWEST, ()),
}


def server_context(settings: Settings) -> ssl.SSLContext:
    """The context for the configured certificate. Raises `StartError` when it cannot be used."""
    lowest, highest, suites = _MODES[settings.tls_mode]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = lowest, highest
    if suites:
        context.set_ciphers(":".join(suites))
    # HTTP/1.1 is all we speak: say so to clients that would rather have HTTP/2.
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    certificate, key = settings.tls_certificate, settings.tls_key
    assert certificate and key
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise StartError(f"cannot read the TLS {name} {path}: {reason(error)}") from None
    try:
        # OpenSSL asks the terminal for the password of an encrypted key, which a server must never wait for.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        detail = getattr(error, "reason", None) or error
        raise StartError(f"the TLS certificate {certificate} and key {key} cannot be used: {detail}") from None
