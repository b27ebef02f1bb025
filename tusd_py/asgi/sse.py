"""Server-Sent Events about uploads. https://html.spec.whatwg.org/multipage/server-sent-events.html

A stream ends when its upload does, when the client leaves or stops reading, when the server stops, and after `MAX_AGE`, when
the client has to come back and show once more that it may watch.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

from starlette.types import Receive, Send

from tusd_py.asgi.requests import Request
from tusd_py.uploads.progress import Progress
from tusd_py.uploads.watches import One, Watch
from tusd_py.uploads.watching import Watchers

__all__ = ["LAST", "STREAM_HEAD", "EventStream", "host_is_stopping"]

HEARTBEAT = 15.0
"""Seconds of silence that proxies put up with; most give up after 60, some after 30."""

RETRY = 2000
"""Milliseconds after which a browser connects again."""

MAX_AGE = 900.0
"""Seconds: credentials are asked for when a stream begins, and may have been revoked since."""

STALL = 30.0
"""Seconds after which a client that takes nothing is taken for gone."""

FLUSH = 1.0
"""Seconds that a client has to take what is on its way when the server stops."""

LAST = "end"
"""The id of an upload's last event. A browser that comes back with it is told by 204 not to come again."""

STREAM_HEAD = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events into blocks
]

_END = {"type": "http.response.body", "body": b"", "more_body": False}


class EventStream:
    """A watch, as the answer to a GET. `send` is called once and ends the watch; `describe` makes an event's data."""

    __slots__ = ("_describe", "_watch", "_watchers")

    def __init__(self, watchers: Watchers, watch: Watch, describe: Callable[[Progress], dict[str, Any]]) -> None:
        self._watchers, self._watch, self._describe = watchers, watch, describe

    async def send(self, request: Request, extra: list[tuple[bytes, bytes]], receive: Receive, send: Send) -> int:
        """Send events until the stream ends, and return the status; `extra` goes into the head. Never raises for what a client
        does."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEAD + extra})
            leaving = asyncio.ensure_future(_until_gone(receive))
            writing = asyncio.ensure_future(self._write(send))
            closing = asyncio.ensure_future(self._watch.wait_closed())
            tasks = (leaving, writing, closing)
            try:
                await asyncio.wait(tasks, timeout=MAX_AGE, return_when=asyncio.FIRST_COMPLETED)
                self._watch.close()
                if not leaving.done():
                    await asyncio.wait((writing,), timeout=FLUSH)
                if writing.done():
                    writing.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._watchers.close(self._watch)
        return 200

    async def _write(self, send: Send) -> None:
        try:
            async with asyncio.timeout(None) as patience:
                await self._write_events(send, patience)
        except OSError:
            # The client takes nothing (TimeoutError), or is gone (ASGI 2.4). The answer stays without an end, on which servers
            # cut the connection.
            return

    async def _write_events(self, send: Send, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()

        async def out(message: Any) -> None:
            patience.reschedule(loop.time() + STALL)
            await send(message)
            patience.reschedule(None)

        await out(_body(f"retry: {RETRY}\n\n"))
        alone, number = isinstance(self._watch.subject, One), 0
        while (news := await self._watch.take(HEARTBEAT)) is not None:
            for text in self._events(news, number):
                await out(_body(text))
            number += len(news)
            if not news:
                await out(_body(": still here\n\n"))
            if alone and any(progress.ended for progress in news):
                break
        await out(_END)

    def _events(self, news: list[Progress], number: int) -> Iterator[str]:
        alone = isinstance(self._watch.subject, One)
        for progress in news:
            number += 1
            name = progress.state.value if progress.ended else "progress"
            event_id = LAST if alone and progress.ended else str(number)
            data = json.dumps(self._describe(progress), separators=(",", ":"))
            yield f"event: {name}\nid: {event_id}\ndata: {data}\n\n"


def host_is_stopping() -> bool:
    """Whether uvicorn, where it is the host, has been told to stop: it waits for streams to end before it tells anybody.

    It handles signals by a method of the server, which is how the server is found. Other hosts cut streams by themselves.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, "__self__", None), "should_exit", False) is True


def _body(text: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
