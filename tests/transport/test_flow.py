"""Pausing and resuming."""

from __future__ import annotations

import asyncio

import pytest

from tusd_py.transport.flow import Flow


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_reading_is_paused_and_resumed_once() -> None:
    transport = Transport()
    flow = Flow(transport)
    flow.resume_reading()
    for _ in range(2):
        flow.pause_reading()
    assert transport.calls == ["pause"]
    for _ in range(2):
        flow.resume_reading()
    assert not flow.read_paused and transport.calls == ["pause", "resume"]


async def test_draining() -> None:
    flow = Flow(Transport())
    await flow.drain()
    flow.resume_writing()
    flow.pause_writing()
    waiting = [asyncio.create_task(flow.drain()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert flow.write_paused and not waiting[1].done()
    flow.resume_writing()
    flow.resume_writing()
    await asyncio.gather(*waiting[1:])
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]


async def test_a_buffer_that_is_full_again_at_once() -> None:
    flow = Flow(Transport())
    flow.pause_writing()
    waiting = asyncio.create_task(flow.drain())
    await asyncio.sleep(0)
    flow.resume_writing()
    flow.pause_writing()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    flow.resume_writing()
    await waiting
