"""The application over stores in memory, called as a server calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tusd_py.asgi import TusApp
from tusd_py.datastore.memory import MemoryStore
from tusd_py.infostore.memory import MemoryInfoStore
from tusd_py.locker.memory import MemoryLocker
from tusd_py.protocol.rules import Policy
from tusd_py.uploads import Uploads

TUS = {"tus-resumable": "1.0.0"}
STREAM = {"content-type": "application/offset+octet-stream"}

Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    messages: list[dict[str, Any]]


def make_uploads(policy: Policy | None = None, **options: Any) -> Uploads:
    ids = iter(range(1, 1000))
    return Uploads(
        options.pop("data", None) or MemoryStore(),
        options.pop("info", None) or MemoryInfoStore(),
        options.pop("locker", None) or MemoryLocker(),
        policy=policy,
        new_id=lambda: f"id{next(ids)}",
        **options,
    )


async def call(
    app: Application,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    length: bool = True,
    **scope: Any,
) -> Answer:
    """One request, without a network. With `length` false the body is announced as chunked."""
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if body:
        pairs.append((b"content-length", b"%d" % len(body)) if length else (b"transfer-encoding", b"chunked"))
    pairs.append((b"host", b"here"))
    left = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop()
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(
        {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "scheme": "http",
            "headers": pairs,
            "server": ("127.0.0.1", 80),
            **scope,
        },
        receive,
        send,
    )
    first = sent[0]
    assert first["type"] == "http.response.start"
    assert all(name == name.lower() for name, _ in first["headers"]), "ASGI wants lower case"
    found = {name.decode(): value.decode("latin-1") for name, value in first["headers"]}
    assert len(found) == len(first["headers"]), "no header twice"
    assert not sent[-1].get("more_body"), "the answer has an end"
    return Answer(first["status"], found, b"".join(each.get("body", b"") for each in sent[1:]), sent)


async def create(app: Application, path: str = "/", length: int = 10, body: bytes = b"", **headers: str) -> str:
    """The path of a new upload."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await call(app, "POST", path, TUS | (STREAM if body else {}) | {"upload-length": str(length)} | extra, body)
    assert answer.status == 201, answer
    return answer.headers["location"].removeprefix("http://here")


def make_app(policy: Policy | None = None, uploads: Uploads | None = None, **options: Any) -> TusApp:
    return TusApp(uploads or make_uploads(policy), **options)
