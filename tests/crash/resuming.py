"""A client that does what every tus client does when its connection breaks: it asks where to go on, and goes on there."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.wire import Answer, TusClient, path_of

ATTEMPTS = 200  # at one request; even where three connections in four break, far more than it takes


class ResumingClient:
    """Uploads one source, however often the connection breaks."""

    def __init__(self, tus: TusClient, source: bytes) -> None:
        self.tus, self.source = tus, source
        self.offset = 0

    def upload(self) -> str:
        path = self._insist(self._create)
        while self.offset < len(self.source):
            self._insist(lambda: self._ask(path))
            if self.offset < len(self.source):
                self._try(lambda: self._send(path))
        return path

    def _insist(self, request: Callable[[], str | None]) -> str:
        for _ in range(ATTEMPTS):
            if (result := self._try(request)) is not None:
                return result
        raise AssertionError(f"no answer to {request} in {ATTEMPTS} attempts")

    def _try(self, request: Callable[[], str | None]) -> str | None:
        try:
            return request()
        except OSError:
            return None

    def _create(self) -> str:
        answer = self.tus.request("POST", self.tus.base, {"Upload-Length": len(self.source)})
        assert answer.status == 201, f"{answer.status} {answer.body!r}"
        return path_of(answer.headers["location"])

    def _ask(self, path: str) -> str:
        self._advance(self.tus.head(path), 200)
        return "asked"

    def _send(self, path: str) -> None:
        self._advance(self.tus.patch(path, self.offset, self.source[self.offset :]), 204)

    def _advance(self, answer: Answer, status: int) -> None:
        """Half-closed connections are refused (400), with what came kept; nothing else but success may be answered."""
        if answer.status == 400 and status == 204:
            return
        assert answer.status == status and answer.offset is not None, f"{answer.status} {answer.body!r}"
        assert answer.offset >= self.offset, f"the offset went back from {self.offset} to {answer.offset}"
        self.offset = answer.offset
