"""Several ways to show a permission, asked one after the other: the first that recognises what the request shows decides.

The order is: the capability in the upload's own URL, upload intents, static tokens, JWTs, the user's own function. Where nobody
recognises anything, the answer is 401.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tusd_py.authorization.capabilities import PARAMETER, UrlCapabilities
from tusd_py.authorization.credentials import challenge, header_value, query_value
from tusd_py.ports.authorization import Action, Decision, deny
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["CombinedAuthorizer", "Recognizer"]


class Recognizer(Protocol):
    """Knows one kind of credentials."""

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """The decision, or None where the request shows no credentials that are known here."""


class CombinedAuthorizer:
    """An `Authorizer` of several recognisers, and possibly of capabilities in URLs, which come first."""

    def __init__(self, recognizers: Sequence[Recognizer], capabilities: UrlCapabilities | None = None) -> None:
        self._capabilities = capabilities
        self._recognizers = [capabilities, *recognizers] if capabilities is not None else list(recognizers)

    def __repr__(self) -> str:
        return f"<CombinedAuthorizer {self._recognizers}>"

    async def authorize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
        """The first decision there is; else 401."""
        for recognizer in self._recognizers:
            decision = await recognizer.recognize(request, action, upload)
            if decision is not None:
                return decision
        if header_value(request, "Authorization") is None and query_value(request, PARAMETER) is None:
            return deny("credentials are missing", status=401, headers=challenge())
        reason = "the credentials are not valid for this"
        return deny(reason, status=401, headers=challenge(reason))

    def sign_url(self, upload: Upload) -> str:
        """A capability, where URLs have them; else nothing."""
        return "" if self._capabilities is None else self._capabilities.sign_url(upload)
