"""A web service that is told of events, as a server's hook: it remembers them in order, and now and then fails to answer."""

from __future__ import annotations

import json
import random
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Receiver", "Told"]


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it arrived. `offset` is the upload's; `accepted` says whether the answer was 200."""

    event_id: str
    type: str
    upload: str
    offset: int
    accepted: bool


class Receiver:
    """Listens on loopback at `url` for the time of a `with` block. `failing` is the share of requests that are answered 500."""

    def __init__(self, failing: float = 0.0, seed: object = "receiver") -> None:
        self.told: list[Told] = []
        self.failing = failing
        self._random, self._lock = random.Random(str(seed)), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    def by_upload(self) -> dict[str, list[Told]]:
        with self._lock:
            found: dict[str, list[Told]] = {}
            for one in self.told:
                found.setdefault(one.upload, []).append(one)
            return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _take(self, message: dict[str, Any]) -> bool:
        upload = message["Event"]["Upload"]
        with self._lock:
            accepted = self._random.random() >= self.failing
            self.told.append(Told(message.get("EventID", ""), message["Type"], upload["ID"], upload["Offset"], accepted))
        return accepted

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = b"{}" if receiver._take(json.loads(body)) else b""
                with suppress(ConnectionError):  # who asked has been killed
                    self.send_response(200 if answer else 500)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """The tests look at what was told, not at a log."""

        return Handler
