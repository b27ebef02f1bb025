"""Waiting for a client to take what was written: what the tests of the protocol can't bring about at will."""

from __future__ import annotations

import asyncio
from typing import Any

from tusd_py.transport.cycle import Cycle
from tusd_py.transport.flow import Flow


class Transport:
    """One whose buffer has these sizes, one after the other, whenever it is asked."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = list(sizes)
        self.aborted = 0

    def get_write_buffer_size(self) -> int:
        return self.sizes.pop(0)

    def abort(self) -> None:
        self.aborted += 1

    def write(self, data: bytes) -> None:
        assert not self.aborted


class Body:
    complete = True


def cycle(transport: Any, flow: Flow) -> Cycle:
    body: Any = Body()
    return Cycle(
        {"method": "GET"},
        transport,
        flow,
        body,
        default_headers=[],
        expects_continue=False,
        keep_alive=True,
        network_timeout=0.001,
        on_response=lambda: None,
    )


START = {"type": "http.response.start", "status": 200, "headers": []}


async def test_who_takes_a_little_is_waited_for() -> None:
    transport = Transport(900, 600, 600, 300, 300, 300)
    flow = Flow(transport)  # type: ignore[arg-type]
    flow.pause_writing()
    answering = cycle(transport, flow)
    await answering.send(START)
    assert transport.aborted == 1 and answering.disconnected
    assert transport.sizes == [], "each time that it took something it got as long again"
    await answering.send(START)


async def test_who_has_taken_enough_gets_the_next() -> None:
    transport = Transport(900)
    flow = Flow(transport)  # type: ignore[arg-type]
    flow.pause_writing()
    asyncio.get_running_loop().call_soon(flow.resume_writing)
    answering = cycle(transport, flow)
    answering.network_timeout = 30.0
    await answering.send(START)
    assert answering.response_started and not transport.aborted
