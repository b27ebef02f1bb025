"""An ASGI request without a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

__all__ = ["Answer", "ask"]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


async def ask(app: ASGIApp, path: str = "/", method: str = "GET") -> Answer:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
    head, *bodies = sent
    headers = {name.decode(): value.decode() for name, value in head["headers"]}
    return Answer(head["status"], headers, b"".join(each.get("body", b"") for each in bodies).decode())
