"""`post-ingest`: an event of an extension's, which every way of asking carries like tusd's own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.hooks.support import event
from tests.hooks.test_command import script
from tests.hooks.test_webhook import Service, serving
from tusd_py.hook_settings import enabled_hooks
from tusd_py.hooks.command import CommandHooks
from tusd_py.hooks.consumer import HookConsumer
from tusd_py.hooks.grpc_messages import build_request
from tusd_py.hooks.python import PythonHooks
from tusd_py.hooks.webhook import WebHooks
from tusd_py.protocol.hook_messages import build_event, parse_event
from tusd_py.protocol.hooks import HookEvent, HookType

STORAGE = {
    "Type": "filestore",
    "Path": "/abs/dir/cd8e",
    "InfoPath": "/abs/dir/cd8e.info",
    "Object": "films/größe.mp4",
    "Version": "2",
    "ETag": f'"{"ab" * 32}"',
    "Blake3": "cd" * 32,
    "Sha256": "ef" * 32,
}
INGESTED = event(HookType.POST_INGEST, event_id="e1", storage=STORAGE)
ENABLED = enabled_hooks("post-ingest")


def test_it_is_enabled_by_name_and_by_an_empty_list() -> None:
    assert enabled_hooks("post-finish,post-ingest") == {HookType.POST_FINISH, HookType.POST_INGEST}
    assert HookType.POST_INGEST in enabled_hooks("")


def test_the_outbox_keeps_all_that_it_says() -> None:
    assert parse_event(build_event(INGESTED)) == INGESTED


async def test_a_program_is_told(tmp_path: Path) -> None:
    script(tmp_path, 'cat > message; echo "$TUS_ID $TUS_EVENT_ID" > ids', HookType.POST_INGEST)
    await HookConsumer(CommandHooks(tmp_path, ENABLED, timeout=60)).deliver(INGESTED)
    message = json.loads((tmp_path / "message").read_bytes())
    assert (message["Type"], message["EventID"]) == ("post-ingest", "e1")
    assert message["Event"]["Upload"]["Storage"] == STORAGE
    assert (tmp_path / "ids").read_text() == "cd8e e1\n"


async def test_a_directory_without_such_a_program_is_fine(tmp_path: Path) -> None:
    await HookConsumer(CommandHooks(tmp_path, ENABLED, timeout=60)).deliver(INGESTED)


async def test_a_web_service_is_told() -> None:
    service = Service()
    async with serving(service):
        hooks = WebHooks(service.url, ENABLED)
        await HookConsumer(hooks).deliver(INGESTED)
        await hooks.close()
    message = json.loads(service.bodies[0])
    assert (message["Type"], message["Event"]["Upload"]["Storage"]) == ("post-ingest", STORAGE)
    assert service.requests[0].headers["Idempotency-Key"] == "e1"


def test_a_grpc_service_is_told() -> None:
    request = build_request(INGESTED)
    assert (request.type, dict(request.event.upload.storage)) == ("post-ingest", STORAGE)


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_python_is_told(kind: str) -> None:
    told: list[HookEvent] = []

    class Threaded:
        def post_ingest(self, event: HookEvent) -> None:
            told.append(event)

    class OnTheLoop:
        async def post_ingest(self, event: HookEvent) -> None:
            await asyncio.sleep(0)
            told.append(event)

    hooks = PythonHooks(OnTheLoop if kind == "async" else Threaded, ENABLED, timeout=60)
    assert hooks.types == {HookType.POST_INGEST}
    await HookConsumer(hooks).deliver(INGESTED)
    assert told == [INGESTED]
