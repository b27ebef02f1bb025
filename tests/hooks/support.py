"""What the tests of all ways of asking share: events to tell about, and one table of answers that all of them must carry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tusd_py.protocol.exchange import HttpRequest, HttpResponse
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType
from tusd_py.protocol.metadata import parse_metadata
from tusd_py.protocol.upload import Upload

ALL = frozenset(HookType)

UPLOAD = Upload(
    id="cd8e",
    length=11,
    offset=4,
    metadata=parse_metadata("filename w7wudHh0,note PGI+"),
    storage={"Type": "filestore", "Path": "/abs/dir/cd8e", "InfoPath": "/abs/dir/cd8e.info"},
)
REQUEST = HttpRequest(
    method="PATCH",
    uri="/files/cd8e?a=1&b=2",
    remote_addr="127.0.0.1:53494",
    headers={
        "Authorization": ("Bearer abc",),
        "Host": ("tus.test:8080",),
        "X-Custom": ("1", "2"),
        "X-Text": ("gr\u00c3\u00bcn",),
    },
)


def event(kind: HookType = HookType.POST_FINISH, *, event_id: str = "", **changes: Any) -> HookEvent:
    """An event about `UPLOAD` with some fields changed."""
    return HookEvent(type=kind, upload=UPLOAD.evolve(**changes), request=REQUEST, id=event_id)


ANSWERS = {
    "nothing": HookAnswer(),
    "reject": HookAnswer(reject_upload=True),
    "reject with an answer": HookAnswer(
        reject_upload=True,
        response=HttpResponse(status=403, body="no <b>ünïcode</b>\n", headers={"X-Why": "so", "Content-Type": "text/html"}),
    ),
    "keep": HookAnswer(reject_termination=True),
    "stop": HookAnswer(stop_upload=True, response=HttpResponse(status=402)),
    "amend": HookAnswer(changes=FileInfoChanges(id="proj/x-1", metadata={"k": b"v", "ü": "wärt".encode()}, path="sub/x.bin")),
    "erase": HookAnswer(changes=FileInfoChanges(metadata={})),
    "rename": HookAnswer(changes=FileInfoChanges(id="other")),
    "shape": HookAnswer(response=HttpResponse(body="done", headers={"X-Text": "gr\u00c3\u00bcn"})),
}

every_answer = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)


async def until(condition: Callable[[], Any], what: object = "", timeout: float = 15.0) -> Any:
    """The first true value that `condition` returns, with the loop running meanwhile."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout} s: {what or condition}"
        await asyncio.sleep(0.01)
    return value
