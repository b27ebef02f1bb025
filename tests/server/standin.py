"""A program that runs the server around an application of its own, whose paths do what no upload does on demand.

`ServerProcess(..., prefix=STANDIN)` starts it: everything up to `tusd_py` is taken off the command line. $STANDIN breaks the
start: `dies` ends each process as it builds the application, `disk` and `defect` make the application's start raise. The file
`hold` in the upload directory holds it up while it is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import types
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

STANDIN = (sys.executable, str(Path(__file__).resolve()))

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Service:
    def __init__(self, upload_dir: Path) -> None:
        self.upload_dir = upload_dir
        self.stopping = asyncio.Event()
        self.paths = {
            "/pid": self.pid,
            "/until-stopped": self.until_stopped,
            "/for-ever": self.for_ever,
            "/deaf": self.deaf,
            "/until-file": self.until_file,
        }

    def begin_shutdown(self) -> None:
        self.stopping.set()

    def count_connections(self, _: object) -> None:
        """Nobody asks."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        # Told before the path does its work, so that a test knows that the request is running.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-running", b"yes")]})
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await send({"type": "http.response.body", "body": await self.paths[scope["path"]]()})

    async def lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        if os.environ.get("STANDIN") == "disk":
            raise OSError(5, "the disk is broken")
        if os.environ.get("STANDIN") == "defect":
            raise ZeroDivisionError
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("the application was closed", flush=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def pid(self) -> bytes:
        return str(os.getpid()).encode()

    async def until_stopped(self) -> bytes:
        await self.stopping.wait()
        return b"stopped"

    async def for_ever(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def until_file(self) -> bytes:
        while not (self.upload_dir / "go").exists():  # noqa: ASYNC110 - it is another process that makes the file
            await asyncio.sleep(0.01)
        return b"done"

    async def deaf(self) -> bytes:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


def build(settings: Any, _page: object = None) -> Service:
    if os.environ.get("STANDIN") == "dies":
        os._exit(9)
    while (settings.upload_dir / "hold").exists():
        time.sleep(0.01)
    return Service(settings.upload_dir)


if __name__ == "__main__":
    assembly = types.ModuleType("tusd_py.assembly")
    assembly.build = build  # type: ignore[attr-defined]
    sys.modules["tusd_py.assembly"] = assembly
    from tusd_py.cli import main

    main(sys.argv[sys.argv.index("tusd_py") + 1 :])
