"""Recognises signed upload intents in requests: `?intent=`, the header `Upload-Intent`, or `Authorization: Bearer`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from tusd_py.authorization.credentials import bearer, challenge, header_value, query_value
from tusd_py.authorization.intents import PREFIX, Intent, InvalidIntent, read_intent
from tusd_py.authorization.keys import Keys
from tusd_py.authorization.watched import WatchedFile
from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.ports.call import Claim
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.metadata import parse_metadata
from tusd_py.protocol.upload import Upload

__all__ = ["HEADER", "PARAMETER", "UploadIntents", "UsedStore"]

PARAMETER, HEADER = "intent", "Upload-Intent"


class UsedStore(Protocol):
    """Remembers what has been used (`tusd_py.authorization.used`)."""

    async def use(self, nonce: str, expires: int) -> Callable[[], Awaitable[None]]:
        """Use an intent up; returns how to give it back. Raises `Refusal` if it is used, `StorageFailure`."""


class UploadIntents:
    """Allows the creations that an intent describes, and nothing else: what has been created is reached by a capability in its
    URL, or by other credentials of its owner."""

    def __init__(self, keys: WatchedFile[Keys], used: UsedStore, *, clock: Clock = system_clock) -> None:
        self._keys, self._used, self._clock = keys, used, clock

    def __repr__(self) -> str:
        return f"<UploadIntents {str(self._keys.path)!r}>"

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """The decision of the intent that the request shows; None if it shows none, or does not create."""
        token = _shown(request)
        if token is None or action is not Action.CREATE:
            return None
        try:
            intent = read_intent(token, await self._keys.current(), self._clock())
        except InvalidIntent as error:
            return deny(str(error), status=401, headers=challenge(str(error)))
        if not intent.allows_type(_declared_type(request)):
            return deny(f"the upload intent allows other types only: {', '.join(intent.types)} expected as filetype")
        return allow(
            intent.owner,
            max_size=intent.max_size,
            metadata={key: value.encode() for key, value in intent.metadata.items()},
            claim=self._claim(intent),
        )

    def _claim(self, intent: Intent) -> Claim | None:
        return None if intent.reusable else partial(self._used.use, intent.nonce, intent.expires)


def _shown(request: HttpRequest) -> str | None:
    """The intent of the request. A bearer token that does not look like one is somebody else's."""
    for token in (query_value(request, PARAMETER), header_value(request, HEADER)):
        if token is not None:
            return token
    token = bearer(request)
    return token if token and token.startswith(PREFIX) else None


def _declared_type(request: HttpRequest) -> str | None:
    return parse_metadata(header_value(request, "Upload-Metadata") or "").text("filetype")
