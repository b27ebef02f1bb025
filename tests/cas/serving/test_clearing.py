"""Dropping versions whose uploads are gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tusd_py_cas.serving import clearing
from tusd_py_cas.serving.clearing import Clearer

from tests.cas.serving.support import NOISE, TEXT, Server, until
from tusd_py.ports.failures import StorageFailure


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(clearing, "time", clock)
    return clock


def clearer(server: Server, grace: float = 100.0) -> Clearer:
    made = Clearer(server.opened.access, grace=grace)
    made.host = server.host
    return made


async def test_a_version_whose_upload_is_gone_is_dropped_after_a_while(keeping: Server, clock: Clock) -> None:
    """Also over restarts: a server is not up as long as that."""
    for upload_id in ("a", "b"):
        await keeping.take(upload_id, NOISE)
    gone = keeping.host.records.pop("a")
    assert not await clearer(keeping).look_around()
    assert list(keeping.repository.index.vanished()) == ["a"] and keeping.repository.index.totals().vanished == 1
    clock.now += 99
    assert not await clearer(keeping).look_around() and keeping.version("a") is not None
    clock.now += 1
    assert await clearer(keeping).look_around() == 1
    assert keeping.version("a") is None and keeping.version("b") is not None
    assert not await clearer(keeping).look_around()
    keeping.host.records["a"] = gone
    assert await keeping.read("a") == NOISE, "its file was not ours"


async def test_an_id_that_looks_like_an_imported_file_keeps_no_version(keeping: Server) -> None:
    """A hook may choose ids."""
    await keeping.take("import-2024.csv", NOISE)
    await keeping.take("import-0123456789abcdef", NOISE)
    keeping.host.records.clear()
    assert await clearer(keeping, 0.0).look_around() == 2


async def test_a_record_that_is_back_starts_anew(keeping: Server, clock: Clock) -> None:
    await keeping.take("a", NOISE)
    gone = keeping.host.records.pop("a")
    await clearer(keeping).look_around()
    keeping.host.records["a"] = gone
    clock.now += 1000
    assert not await clearer(keeping).look_around() and not keeping.repository.index.vanished()
    del keeping.host.records["a"]
    assert not await clearer(keeping).look_around() and keeping.version("a") is not None


async def test_who_is_being_removed_is_left_to_who_does_it(keeping: Server) -> None:
    await keeping.take("a", NOISE)
    del keeping.host.records["a"]
    keeping.host.locked.add("a")
    assert not await clearer(keeping, 0.0).look_around() and keeping.version("a") is not None
    keeping.host.locked.clear()
    assert await clearer(keeping, 0.0).look_around() == 1


@pytest.mark.parametrize("size", [1, 2, 500])
async def test_many_are_looked_at_in_pages(keeping: Server, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(clearing, "PAGE", size)
    monkeypatch.setattr(clearing, "REST", 0.0)
    for number in range(7):
        await keeping.take(f"{number}", b"%d" % number)
    for number in range(0, 7, 2):
        del keeping.host.records[f"{number}"]
    assert await clearer(keeping, 0.0).look_around() == 4
    assert [keeping.version(f"{number}") is None for number in range(7)] == [True, False] * 3 + [True]


async def test_where_records_can_not_be_looked_for_nothing_is_dropped(
    keeping: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await keeping.take("a", NOISE)
    del keeping.host.records["a"]

    async def fail(_: object) -> None:
        raise StorageFailure("no")

    monkeypatch.setattr(keeping.host, "without_record", fail)
    assert not await clearer(keeping, 0.0).look_around() and keeping.version("a") is not None
    assert "could not be looked for" in caplog.text


async def test_a_directory_that_is_somewhere_else_now_drops_nothing(tmp_path: Path) -> None:
    async with Server(tmp_path / "here") as server:
        await server.take("a", NOISE)
        server.host.records.clear()
        clearing_up = clearer(server, 0.0)
        shutil.move(tmp_path / "here", tmp_path / "there")
        assert not await clearing_up.look_around() and server.version("a") is not None
        (tmp_path / "here/.tusd-py/cas").mkdir(parents=True)
        assert not await clearing_up.look_around() and server.version("a") is not None, "it is another one's"
        shutil.rmtree(tmp_path / "here")
        shutil.move(tmp_path / "there", tmp_path / "here")
        assert await clearing_up.look_around() == 1


async def test_a_clock_that_is_set_back_keeps_nothing_for_longer(keeping: Server, clock: Clock) -> None:
    for upload_id in ("a", "b"):
        await keeping.take(upload_id, NOISE)
    del keeping.host.records["a"]
    assert not await clearer(keeping).look_around()
    clock.now -= 500_000
    del keeping.host.records["b"]
    assert not await clearer(keeping).look_around()
    clock.now += 99
    assert not await clearer(keeping).look_around()
    clock.now += 1
    assert await clearer(keeping).look_around() == 2


async def test_a_server_does_it_by_itself(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    del keeping.host.records["a"]
    keeping.run()
    await until(lambda: keeping.version("a") is None)
