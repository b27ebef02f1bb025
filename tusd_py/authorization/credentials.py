"""Where a request shows its permission: `Authorization: Bearer`, or a parameter of its URL; and how a server asks for one.

Knows nothing of what the credentials mean. One that is given twice is joined by a comma, as header fields are (RFC 9110, 5.3):
no credential of ours survives that, so that nobody can show one thing to a proxy in front and another to us.
"""

from __future__ import annotations

from collections.abc import Mapping

from tusd_py.protocol.exchange import HttpRequest

__all__ = ["MAX_CREDENTIAL", "bearer", "challenge", "header_value", "query_value"]

MAX_CREDENTIAL = 16 * 1024
"""Longest credential that is looked at, in characters: JWTs with long lists of groups stay below it, and a request head may be
1 MiB, which nobody should make us hash."""


def bearer(request: HttpRequest) -> str | None:
    """The token of `Authorization: Bearer TOKEN` (RFC 6750, 2.1); None where there is none of that scheme."""
    value = header_value(request, "Authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    return _bounded(token.strip(" ")) if scheme.lower() == "bearer" else None


def header_value(request: HttpRequest, name: str) -> str | None:
    """A header by its canonical name; None where there is none."""
    values = request.headers.get(name)
    return _bounded(", ".join(values)) if values else None


def query_value(request: HttpRequest, name: str) -> str | None:
    """A parameter of the request's URL; None where there is none. Our credentials need no escapes, so none are undone."""
    query = request.uri.partition("?")[2]
    pairs = (pair.partition("=") for pair in query.split("&"))
    values = [value for key, _, value in pairs if key == name]
    return _bounded(",".join(values)) if values else None


def _bounded(credential: str) -> str:
    """The credential, or what no credential is if it is too long."""
    return credential if len(credential) <= MAX_CREDENTIAL else ""


def challenge(description: str | None = None) -> Mapping[str, str]:
    """The header that belongs to a 401 (RFC 6750, 3). `description` says, in plain ASCII, what was wrong with a credential that
    was given; without one, none was."""
    value = 'Bearer realm="tusd-py"'
    if description is not None:
        value += f', error="invalid_token", error_description="{description}"'
    return {"WWW-Authenticate": value}
