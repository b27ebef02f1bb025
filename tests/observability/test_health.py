"""Health, readiness, and the storage check behind it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

from tests.observability.asgi import ask
from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.asgi.health import Check, Health, Readiness, Verdict
from tusd_py.observability.one_at_a_time import OneAtATime
from tusd_py.observability.storage import MIN_FREE, StorageFailed, free_bytes, prove_writable


def always(verdict: Verdict) -> Check:
    async def check() -> Verdict:
        return verdict

    return check


async def test_health() -> None:
    answer = await ask(Health())
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, "ok\n", "no-store")
    assert (await ask(Health(), method="POST")).status == 405


async def test_ready() -> None:
    readiness = Readiness({"storage": always(Verdict(ok=True, facts={"free_bytes": 5}))})
    answer = await ask(readiness)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert json.loads(answer.body) == {
        "ready": True,
        "checks": {"storage": {"ok": True, "free_bytes": 5}, "shutdown": {"ok": True}},
    }
    assert (await ask(readiness, method="DELETE")).status == 405


async def test_not_ready_says_why() -> None:
    readiness = Readiness({"storage": always(Verdict(ok=True))})
    readiness.add("events", always(Verdict(ok=False, reason="the oldest event has waited for an hour")))
    answer = await ask(readiness)
    assert answer.status == 503
    assert json.loads(answer.body)["checks"]["events"] == {"ok": False, "reason": "the oldest event has waited for an hour"}


async def test_not_ready_when_stopping() -> None:
    readiness = Readiness({})
    assert (await ask(readiness)).status == 200
    readiness.begin_shutdown()
    answer = await ask(readiness)
    assert answer.status == 503
    assert json.loads(answer.body)["checks"]["shutdown"] == {"ok": False, "reason": "the server is shutting down"}


async def test_a_check_that_raises_has_failed() -> None:
    async def check() -> Verdict:
        raise OSError("gone")

    answer = await ask(Readiness({"storage": check}))
    assert answer.status == 503
    assert json.loads(answer.body)["checks"]["storage"]["reason"] == "the check failed: gone"


async def test_a_check_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusd_py.asgi.health.CHECK_TIMEOUT", 0.01)

    async def check() -> Verdict:
        await asyncio.Event().wait()
        raise AssertionError

    answer = await ask(Readiness({"storage": check}))
    assert json.loads(answer.body)["checks"]["storage"]["reason"] == "no answer for 0.01 s"


async def test_checks_are_asked_once_a_second_however_many_ask() -> None:
    asked, now = 0, 100.0

    async def check() -> Verdict:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return Verdict(ok=True)

    readiness = Readiness({"storage": check}, clock=lambda: now)
    await asyncio.gather(*(ask(readiness) for _ in range(20)))
    now += 0.9
    await ask(readiness)
    assert asked == 1
    now += 0.2
    await ask(readiness)
    assert asked == 2


# The storage check


def test_a_directory_that_can_be_written(tmp_path: Path) -> None:
    assert prove_writable(str(tmp_path)) > MIN_FREE
    assert list(tmp_path.iterdir()) == []


def test_without_files_that_have_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    assert prove_writable(str(tmp_path)) > MIN_FREE
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="the upload directory can't be written: No such file or directory"):
        prove_writable(str(tmp_path / "missing"))


@pytest.mark.root
def test_a_disk_that_fills_up_or_becomes_read_only(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=20m") as mount:
        prove_writable(str(mount))
        (mount / "big").write_bytes(bytes(10 << 20))
        with pytest.raises(StorageFailed, match=r"there is no room for uploads: \d+ bytes free, at least 16777216 expected"):
            prove_writable(str(mount))
        remount(mount, "ro")
        with pytest.raises(StorageFailed, match="can't be written: Read-only file system"):
            prove_writable(str(mount))


@pytest.mark.root
def test_a_disk_without_inodes_has_no_room(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "small", "size=40m,nr_inodes=3") as mount:
        assert free_bytes(str(mount)) > MIN_FREE
        for number in range(2):
            (mount / str(number)).touch()
        assert free_bytes(str(mount)) == 0


# Work that may hang


async def test_who_waits_for_work_that_hangs_gives_up_and_begins_no_other() -> None:
    begun, go_on = 0, threading.Event()

    def work() -> int:
        nonlocal begun
        begun += 1
        assert go_on.wait(20)
        return begun

    one_at_a_time = OneAtATime(work, "test")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await one_at_a_time.result(0.01)
    go_on.set()
    assert await one_at_a_time.result(20) == 1
    assert await one_at_a_time.result(20) == 2


async def test_work_that_fails() -> None:
    def work() -> int:
        raise OSError("no")

    one_at_a_time = OneAtATime(work, "test")
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            await one_at_a_time.result(20)
