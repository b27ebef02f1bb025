"""What is done in the background: digests, collecting; and who does it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tusd_py_cas.model import IndexDamaged, RepositoryError
from tusd_py_cas.serving import digesting
from tusd_py_cas.serving.collecting import Collector
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.turns import Turn

from tests.cas.serving.support import NOISE, TEXT, Server, until
from tusd_py.ports.failures import StorageFailure

# Digests


async def compose(server: Server) -> bytes:
    pieces = {"part0": TEXT, "part1": NOISE}
    for name, piece in pieces.items():
        await server.take(name, piece, is_partial=True)
    server.opened._running = True
    await server.assemble("final", list(pieces))
    return b"".join(pieces.values())


async def test_digests_of_what_was_put_together_are_computed_afterwards(replacing: Server) -> None:
    whole = await compose(replacing)
    content = await replacing.open("final")
    assert not content.digests
    assert await replacing.opened.digester.look()
    assert not await replacing.opened.digester.look()
    later = await replacing.open("final")
    assert later.digests == {"sha-256": hashlib.sha256(whole).digest()}
    assert later.version == content.version, "its ETag stays"


async def test_over_a_restart_too(replacing: Server, tmp_path: Path) -> None:
    whole = await compose(replacing)
    async with Server(tmp_path, "replace", host=replacing.host) as again:
        again.run()
        await until(lambda: not again.repository.index.undigested())
        assert (await again.open("final")).digests["sha-256"] == hashlib.sha256(whole).digest()


async def test_what_nobody_has_needs_no_digests(replacing: Server) -> None:
    await compose(replacing)
    replacing.host.records["final"] = replacing.host.records["final"].evolve(partials=None)
    await replacing.remove("final")
    assert not replacing.repository.index.undigested()


@pytest.mark.parametrize("failure", [StorageFailure("full"), RepositoryError("gone")])
async def test_what_can_not_be_read_is_left_for_later(
    replacing: Server, caplog: pytest.LogCaptureFixture, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    await compose(replacing)

    async def digest(_: object) -> None:
        raise failure

    monkeypatch.setattr(replacing.worker, "digest", digest)
    digester = replacing.opened.digester
    assert await digester.look() and not await digester.look()
    assert caplog.text.count("could not be computed") == 1
    monkeypatch.setattr(digesting, "FAILED", 0)
    digester._failed.clear()
    await digester.look()
    assert not digester._failed


async def test_what_could_not_be_read_is_read_when_it_is_time_again(replacing: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await compose(replacing)

    async def digest(_: object) -> None:
        raise StorageFailure("full")

    digester = replacing.opened.digester
    with monkeypatch.context() as patch:
        patch.setattr(replacing.worker, "digest", digest)
        await digester.look()
    assert not await digester.look()
    monkeypatch.setattr(digesting, "AGAIN", 0.0)
    assert await digester.look() and not await digester.look()
    assert (await replacing.open("final")).digests == {"sha-256": hashlib.sha256(whole).digest()}
    assert not digester._failed


async def test_a_damaged_chunk_leaves_a_content_without_digests(replacing: Server, caplog: pytest.LogCaptureFixture) -> None:
    await compose(replacing)
    replacing.damage()
    assert await replacing.opened.digester.look() and not await replacing.opened.digester.look()
    assert "could not be computed" in caplog.text


async def test_a_damaged_content_is_told_of_once_and_keeps_no_other_from_its_digests(
    replacing: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await compose(replacing)
    real = replacing.repository.index.undigested
    damage = IndexDamaged("manifest 77 does not fit its seal")
    replacing.repository.index.undigested = lambda limit: [damage, *real(limit)]
    assert await replacing.opened.digester.look() and not await replacing.opened.digester.look()
    assert not real()
    assert [record.fields for record in caplog.records if "damaged in the index" in record.message] == [{"error": str(damage)}]


async def test_an_index_that_fails_is_asked_again(
    replacing: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(digesting, "LOOK", 0.0)
    await compose(replacing)
    real = replacing.repository.index.undigested

    def fail(limit: int) -> None:
        replacing.repository.index.undigested = real
        raise StorageFailure("no")

    replacing.repository.index.undigested = fail
    running = asyncio.create_task(replacing.opened.digester.run())
    await until(lambda: replacing.worker.digested)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "could not be looked up" in caplog.text


# Collecting


class Collections:
    def __init__(self, *answers: Mapping[str, Any] | Exception) -> None:
        self.answers, self.graces = list(answers), list[float]()

    async def collect(self, *, grace: float) -> Mapping[str, Any]:
        self.graces.append(grace)
        answer = self.answers.pop(0) if self.answers else {"freed_bytes": 0}
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_collecting_goes_on_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    collections, counts = (
        Collections({"freed_bytes": 7}, RepositoryError("no"), StorageFailure("no"), {"freed_bytes": 5}),
        Counts(),
    )
    with caplog.at_level(logging.INFO, "tusd_py.cas"):
        running = asyncio.create_task(Collector(collections, counts, interval=0.001, grace=3.0).run())
        await until(lambda: len(collections.graces) > 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert set(collections.graces) == {3.0} and counts.freed == 12
    assert caplog.text.count("nothing could be collected") == 2


async def test_an_interval_of_0_is_never() -> None:
    collections = Collections()
    await Collector(collections, Counts(), interval=0.0, grace=0.0).run()
    assert not collections.graces


async def test_what_was_removed_is_collected_and_nothing_else(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    await keeping.take("b", TEXT)
    await keeping.remove("a")
    await keeping.opened.collector.collect()
    assert keeping.opened.counts.freed > len(NOISE) * 0.9
    assert await keeping.read("b") == TEXT


# Turns


def test_one_has_the_turn_until_it_gives_it_back(tmp_path: Path) -> None:
    one, other = Turn(str(tmp_path)), Turn(str(tmp_path))
    assert one.take() and one.take() and not other.take()
    one.give_back()
    one.give_back()
    assert other.take() and not one.take()
    other.give_back()


def test_where_no_file_can_be_made_nobody_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not Turn(str(tmp_path / "missing")).take()
    assert "can't be taken" in caplog.text
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", tmp_path / "background.lock")
    assert not Turn(str(tmp_path)).take()


async def test_who_comes_second_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tusd_py_cas.serving import opened

    monkeypatch.setattr(opened, "TURN", 0.01)
    async with Server(tmp_path) as one, Server(tmp_path, host=one.host) as other:
        one.run()
        await until(lambda: one.opened._turn._fd >= 0)
        other.run()
        await one.put("a", TEXT)
        await one.stop()
        await until(lambda: other.opened.counts.ingested == 1)
        assert await one.is_served_from_chunks("a")


async def test_a_turn_that_can_not_be_had_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    turn = Turn(str(tmp_path / "cas"))
    for _ in range(3):
        assert not turn.take()
    assert caplog.text.count("can't be taken") == 1
    (tmp_path / "cas").mkdir()
    assert turn.take() and turn.take()
    turn.give_back()
