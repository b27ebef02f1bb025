"""The looks of an answer: of a refusal, and of one that a hook wants to be otherwise."""

from __future__ import annotations

from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.refusals import Refusal

__all__ = ["Head", "completed", "refused", "shaped"]

Head = list[tuple[bytes, bytes]]

_PLAIN_TEXT = (b"content-type", b"text/plain; charset=utf-8")

_OURS = frozenset((b"location", b"upload-offset", b"tus-resumable", b"content-length"))
"""Headers that a hook can't change: clients rely on them, and tusd sets them behind the hook, too."""

_BODILESS = frozenset((204, 304))


def refused(refusal: Refusal) -> tuple[int, Head, bytes]:
    """Status, head and body of the answer that a refusal is."""
    body = refusal.body.encode()
    head = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in refusal.headers.items()]
    if not any(name == b"content-type" for name, _ in head):
        head.append(_PLAIN_TEXT)
    head = [pair for pair in head if pair[0] not in (b"content-length", b"tus-resumable")]
    return _with_body(refusal.status, head, body)


def shaped(status: int, head: Head, response: HttpResponse) -> tuple[int, Head, bytes]:
    """Status, head and body of an answer as a hook wants it. A body needs a status that can have one, as in tusd."""
    changes = {name.lower().encode(): value.encode("latin-1", "replace") for name, value in response.headers.items()}
    changes = {name: value for name, value in changes.items() if name not in _OURS}
    head = [pair for pair in head if pair[0] not in changes and pair[0] != b"content-length"] + list(changes.items())
    body = (response.body or "").encode()
    if body and b"content-type" not in changes:
        head.append(_PLAIN_TEXT)
    return _with_body(response.status or status, head, body)


def completed(head: Head, extra: Head) -> Head:
    """`head` with what every answer has, but for what a hook has set: browsers refuse an answer that allows origins twice."""
    given = {name for name, _ in head} - {b"vary", b"tus-resumable"}
    return head + [pair for pair in extra if pair[0] not in given]


def _with_body(status: int, head: Head, body: bytes) -> tuple[int, Head, bytes]:
    if status in _BODILESS:
        return status, head, b""
    return status, [*head, (b"content-length", b"%d" % len(body))], body
