"""The request behind a use case: who asks, and how the answer shall look. What is made of it is made only when asked for."""

from __future__ import annotations

from typing import Protocol

from tusd_py.protocol.exchange import NO_REQUEST, HttpRequest, HttpResponse

__all__ = ["NO_CALL", "Call", "NoCall"]


class Call(Protocol):
    """One request on its way through the use cases. Used by one task at a time."""

    owner: str | None
    """Who asks, as authorisation has found; None where nobody was asked to show who they are."""

    max_size: int | None
    """Largest upload that this caller may create, in bytes; None is no limit of the caller's own."""

    response: HttpResponse | None
    """What hooks want of the answer; None where they said nothing."""

    request_id: str
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
    max_size: int | None = None
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
