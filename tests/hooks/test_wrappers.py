"""Hooks that are watched, and hooks that take events."""

from __future__ import annotations

import asyncio

import pytest

from tests.hooks.support import ALL, event
from tusd_py.hooks.consumer import HookConsumer
from tusd_py.hooks.observed import ObservedHooks
from tusd_py.ports.events import Consumer
from tusd_py.ports.hooks import HookFailure, Hooks
from tusd_py.ports.observer import NoObserver
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import DEFAULT_TYPES, EVENTS, HookAnswer, HookEvent, HookType


class Scripted:
    """Hooks whose outcome is given."""

    def __init__(self, outcome: HookAnswer | BaseException, types: frozenset[HookType] = ALL) -> None:
        self.outcome, self.types = outcome, types
        self.told: list[HookEvent] = []
        self.closed = 0

    async def invoke(self, event: HookEvent) -> HookAnswer:
        self.told.append(event)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    async def close(self) -> None:
        self.closed += 1


class Watching(NoObserver):
    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def hook_started(self, kind: HookType, upload_id: str) -> None:
        self.seen.append(("started", kind, upload_id))

    def hook_complete(self, kind: HookType, upload_id: str, duration: float) -> None:
        assert duration >= 0
        self.seen.append(("complete", kind, upload_id))

    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None:
        assert duration >= 0
        self.seen.append(("failed", kind, upload_id, error))


async def test_an_observer_hears_of_calls_and_their_end() -> None:
    observer, answer = Watching(), HookAnswer(stop_upload=True)
    inner = Scripted(answer)
    hooks: Hooks = ObservedHooks(inner, observer)
    assert await hooks.invoke(event()) is answer
    assert observer.seen == [("started", "post-finish", "cd8e"), ("complete", "post-finish", "cd8e")]
    assert hooks.types == ALL
    await hooks.close()
    assert inner.closed == 1


@pytest.mark.parametrize(
    ("error", "text"), [(HookFailure("no"), "no"), (asyncio.CancelledError(), "CancelledError"), (KeyError("x"), "'x'")]
)
async def test_an_observer_hears_of_every_failure(error: BaseException, text: str) -> None:
    observer = Watching()
    with pytest.raises(type(error)):
        await ObservedHooks(Scripted(error), observer).invoke(event())
    assert observer.seen == [("started", "post-finish", "cd8e"), ("failed", "post-finish", "cd8e", text)]


async def test_a_consumer_tells_of_events_and_of_no_gates() -> None:
    hooks = Scripted(HookAnswer())
    consumer: Consumer = HookConsumer(hooks)
    assert consumer.name == "hooks"
    assert consumer.types == EVENTS
    assert HookConsumer(Scripted(HookAnswer(), DEFAULT_TYPES)).types == EVENTS - {HookType.POST_INGEST}
    assert HookConsumer(Scripted(HookAnswer(), frozenset({HookType.PRE_FINISH}))).types == frozenset()
    await consumer.deliver(event())
    assert hooks.told == [event()]


async def test_failures_reach_the_outbox() -> None:
    with pytest.raises(HookFailure, match="no"):
        await HookConsumer(Scripted(HookFailure("no"))).deliver(event())


@pytest.mark.parametrize("kind", sorted(EVENTS))
async def test_only_post_receive_can_stop_an_upload(kind: HookType) -> None:
    stopped: list[tuple[str, HttpResponse]] = []

    def stop(upload_id: str, response: HttpResponse) -> None:
        stopped.append((upload_id, response))

    answer = HookAnswer(stop_upload=True, response=HttpResponse(status=402))
    await HookConsumer(Scripted(answer), stop).deliver(event(kind))
    assert stopped == ([("cd8e", HttpResponse(status=402))] if kind is HookType.POST_RECEIVE else [])
    await HookConsumer(Scripted(HookAnswer()), stop).deliver(event(kind))
    await HookConsumer(Scripted(answer)).deliver(event(kind))
    assert len(stopped) <= 1
