"""Clients behind a network that delays, trickles, cuts and forgets connections, but who go on until they are done."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.crash.ledger import digest, take_source
from tests.crash.resuming import ResumingClient
from tests.crash.soak import SEED_VARIABLE, new_seed
from tests.support.faults import HEALTHY, Fault, FaultProxy
from tests.support.server import ServerProcess
from tests.support.waiting import until, visible_offset
from tests.support.wire import OFFSET_STREAM, TusClient

UPLOADS = 20
LARGEST = 1 << 20
HEAD_SIZE = 250  # about the bytes of a request head: cuts below it hit the head, those above the body


def any_fault(rng: random.Random) -> Fault:
    """One of: nothing, slow, cut on the way up (in head or body), cut on the way down, each by FIN or RST."""
    kind = rng.choice(("none", "slow", "up", "up", "up", "head", "down", "slow up"))
    reset = rng.random() < 0.5
    far = rng.randint(HEAD_SIZE, rng.choice((1000, 20_000, 300_000, LARGEST)))
    return {
        "none": HEALTHY,
        "slow": Fault(piece=rng.choice((50, 700, 9000)), delay=0.0002, cut_up=HEAD_SIZE + 30_000, reset=reset),
        "up": Fault(cut_up=far, reset=reset),
        "head": Fault(cut_up=rng.randint(0, HEAD_SIZE), reset=reset),
        "down": Fault(cut_down=rng.randint(0, 200), reset=reset),
        "slow up": Fault(cut_up=far, reset=reset, piece=rng.randint(1000, 30_000), delay=0.0005),
    }[kind]


def test_resuming_clients_finish_behind_a_bad_network(shared_server: ServerProcess) -> None:
    seed = new_seed()
    rng, plan_rng = random.Random(seed), random.Random(f"{seed}/plan")
    address = ("127.0.0.1", shared_server.port)
    with FaultProxy(address, lambda _: any_fault(plan_rng)) as proxy:
        for _ in range(UPLOADS):
            source = bytes(take_source(rng, rng.randint(1, rng.choice((1000, 100_000, LARGEST)))))
            path = ResumingClient(TusClient(proxy.address), source).upload()
            got = shared_server.client().get(path)
            assert got.status == 200 and digest(got.body) == digest(source), f"{SEED_VARIABLE}={seed}"
    assert proxy.struck >= UPLOADS, "the network was too good to prove anything"


def ask_and_go_on(tus: TusClient, path: str, source: bytes) -> None:
    offset = tus.offset(path)
    assert tus.patch(path, offset, source[offset:]).status == 204


def go_on_at_once(tus: TusClient, path: str, source: bytes) -> None:
    offset = visible_offset(tus, path) or 0
    assert tus.patch(path, offset, source[offset:]).status == 204


@pytest.mark.parametrize("take_over", [ask_and_go_on, go_on_at_once])
@pytest.mark.parametrize("stall", [HEAD_SIZE + 1, 20_000, 55_000])
def test_a_half_open_connection_is_taken_over(
    shared_server: ServerProcess, take_over: Callable[[TusClient, str, bytes], None], stall: int
) -> None:
    """The old connection stays open on both sides, and nobody is ever told that nothing will come any more."""
    tus = shared_server.client()
    source = bytes(take_source(random.Random(stall), 60_000))
    path = tus.create(len(source))
    with FaultProxy(("127.0.0.1", shared_server.port), lambda _: Fault(stall_up=stall)) as proxy:
        with TusClient(proxy.address).connect() as connection:
            headers = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": len(source)}
            connection.send_head("PATCH", path, headers)
            connection.send(source)
            until(lambda: visible_offset(tus, path), what="the PATCH has not begun")
            take_over(tus, path, source)
        assert proxy.connections == 1
        got = tus.get(path)
        assert got.status == 200 and digest(got.body) == digest(source)


def test_who_slept_can_not_change_what_a_head_has_shown(shared_server: ServerProcess) -> None:
    """The bytes of the old connection arrive after all, when somebody else has asked where to go on."""
    tus = shared_server.client()
    source = bytes(take_source(random.Random("asleep"), 60_000))
    path = tus.create(len(source))
    with (
        FaultProxy(("127.0.0.1", shared_server.port), lambda _: Fault(stall_up=30_000)) as proxy,
        TusClient(proxy.address).connect() as connection,
    ):
        headers = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": len(source)}
        connection.send_head("PATCH", path, headers)
        connection.send(source)
        until(lambda: visible_offset(tus, path), what="the PATCH has not begun")
        offset = tus.offset(path)
        proxy.wake()
        with suppress(ConnectionError):
            assert connection.answer("PATCH").status == 400
        assert tus.patch(path, offset, source[offset:]).status == 204
    got = tus.get(path)
    assert got.status == 200 and digest(got.body) == digest(source)


def test_an_upload_can_be_terminated_while_its_connection_is_half_open(shared_server: ServerProcess) -> None:
    tus = shared_server.client()
    path = tus.create(60_000)
    with (
        FaultProxy(("127.0.0.1", shared_server.port), lambda _: Fault(stall_up=30_000)) as proxy,
        TusClient(proxy.address).connect() as connection,
    ):
        headers = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": 60_000}
        connection.send_head("PATCH", path, headers)
        connection.send(bytes(60_000))
        until(lambda: visible_offset(tus, path), what="the PATCH has not begun")
        assert tus.delete(path).status == 204
        assert tus.head(path).status in (404, 410)
