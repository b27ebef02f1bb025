"""The request behind a use case: who asks, and how the answer shall look. What is made of it is made only when asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tusd_py.protocol.exchange import NO_REQUEST, HttpRequest, HttpResponse

__all__ = ["NO_CALL", "Call", "Claim", "NoCall"]

Claim = Callable[[], Awaitable[Callable[[], Awaitable[None]]]]
"""Called right before something is stored. Returns how to give the permission back; raises a `Refusal` where it is used up."""


class Call(Protocol):
    """One request on its way through the use cases. Used by one task at a time."""

    @property
    def owner(self) -> str | None:
        """Who asks, as authorisation has found; None where nobody was asked to show who they are."""

    @property
    def any_owner(self) -> bool:
        """Whether the caller may use what belongs to others, as authorisation has found."""

    @property
    def max_size(self) -> int | None:
        """Largest upload that this caller may create, in bytes; None is no limit of the caller's own."""

    @property
    def claim(self) -> Claim | None:
        """Uses up a permission that can be used once; None where there is nothing to use up."""

    response: HttpResponse | None
    """What hooks want of the answer; None where they said nothing."""

    notes: Any
    """What the log has noted about this request and not written yet; None where nothing is noted."""

    @property
    def request_id(self) -> str:
        """The client's X-Request-ID, cut to 36 characters; empty where there is none (tusd's log does the same)."""

    @property
    def name(self) -> str:
        """The method that counts, for the log."""

    @property
    def path(self) -> str:
        """The path below the base path, for the log."""

    @property
    def client(self) -> str:
        """Address of the client, without port, for limits per client."""

    def http_request(self) -> HttpRequest:
        """The request as hooks are told about it."""

    def url_of(self, upload_id: str) -> str:
        """The absolute URL of an upload."""


class NoCall:
    """A use case that no request has caused, or whose caller does not care."""

    __slots__ = ()

    owner: str | None = None
    any_owner = True
    max_size: int | None = None
    claim: Claim | None = None
    notes: Any = None
    request_id = ""
    name = ""
    path = ""
    client = ""

    @property
    def response(self) -> HttpResponse | None:
        return None

    @response.setter
    def response(self, _: HttpResponse | None) -> None:
        """Nobody gets an answer."""

    def http_request(self) -> HttpRequest:
        return NO_REQUEST

    def url_of(self, upload_id: str) -> str:
        return upload_id


NO_CALL: Call = NoCall()
