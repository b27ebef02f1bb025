"""An upload's own URL as a permission: `Location: .../files/ID?capability=...`.

Who has the URL may go on with that upload, even when the session in which it was created is over; nobody who only guesses or
learns its id can.

The format, to the byte, is in docs/reference/authorization.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tusd_py.authorization.credentials import query_value
from tusd_py.authorization.keys import Keys
from tusd_py.authorization.signatures import is_signed, sign
from tusd_py.authorization.watched import WatchedFile
from tusd_py.ports.authorization import Action, Decision, allow
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["DEFAULT_ACTIONS", "PARAMETER", "UrlCapabilities"]

PARAMETER = "capability"
PREFIX = "tc1."
CONTEXT = "tusd-py url capability"

DEFAULT_ACTIONS = (Action.APPEND, Action.DESCRIBE, Action.TERMINATE)
"""What a client needs to finish, resume and abort. Not to download: URLs get around."""

_LETTERS = {Action.APPEND: "a", Action.DESCRIBE: "d", Action.DOWNLOAD: "g", Action.TERMINATE: "t"}

_CAPABILITY = re.compile(r"(tc1\.([adgt]{1,4})\.(0|[1-9][0-9]{0,15}))\.([A-Za-z0-9_-]{43})")


class UrlCapabilities:
    """Signs and recognises capabilities. One is for one upload, for `actions`, until `lifetime` seconds after it was signed;
    0 is for as long as the upload lives."""

    def __init__(
        self,
        keys: WatchedFile[Keys],
        *,
        actions: Iterable[Action] = DEFAULT_ACTIONS,
        lifetime: float = 0.0,
        clock: Clock = system_clock,
    ) -> None:
        self._keys, self._lifetime, self._clock = keys, lifetime, clock
        unfit = set(actions) - _LETTERS.keys()
        if unfit:
            raise ValueError(f"a URL can't be a permission to {min(unfit)}: expected some of {', '.join(_LETTERS)}")
        if not set(actions):
            raise ValueError("a URL that is a permission for nothing: expected some actions")
        self._letters = "".join(sorted(_LETTERS[action] for action in set(actions)))

    def __repr__(self) -> str:
        return f"<UrlCapabilities {self._letters} {str(self._keys.path)!r}>"

    def sign_url(self, upload: Upload) -> str:
        """The query to add to the upload's URL, with its `?`."""
        expires = int(self._clock() + self._lifetime) if self._lifetime else 0
        signed = f"{PREFIX}{self._letters}.{expires}"
        return f"?{PARAMETER}={signed}.{sign(self._keys.value[0], CONTEXT, _text(signed, upload.id))}"

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """Yes if the request's URL is a permission for this; None if it is none, or none that is valid: then others decide."""
        keys = await self._keys.current()  # also where none is shown: the creation's URL is about to be signed
        shown = query_value(request, PARAMETER)
        if shown is None or upload is None:
            return None
        found = _CAPABILITY.fullmatch(shown)
        if found is None or not is_signed(keys, CONTEXT, _text(found[1], upload.id), found[4]):
            return None
        if _LETTERS.get(action, "-") not in found[2] or self._expired(int(found[3])):
            return None
        return allow(any_owner=True)  # who has the URL need not be who owns the upload

    def _expired(self, expires: int) -> bool:
        return expires != 0 and self._clock() >= expires


def _text(signed: str, upload_id: str) -> str:
    """What is signed. Ids have no newline (`tusd_py.protocol.ids`), and what is before it is of one form only."""
    return f"{signed}\n{upload_id}"
