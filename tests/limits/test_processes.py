"""Several processes share an account: of creations that race, exactly as many are admitted as there is room for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounts import mounted_tmpfs, requires_mounts
from tusd_py.limits.rules import LimitSettings
from tusd_py.limits.space import free_bytes
from tusd_py.limits.sqlite import SqliteLimiter
from tusd_py.protocol.refusals import QuotaExceeded, StorageFull
from tusd_py.protocol.upload import Upload
from tusd_py.testing.limiter_suite import TurnedClock, Uploads

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 4
EACH = 40


@contextmanager
def racer(directory: Path, name: str, limits: dict[str, int], free: str, length: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.limits.racer", directory, name, json.dumps(limits), free, length, EACH]
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def race(directory: Path, limits: dict[str, int], *, free: str = "0", length: int = 10) -> tuple[list[str], set[str]]:
    """What all of them together were given, and why others were refused."""
    with ExitStack() as stack:
        processes = [stack.enter_context(racer(directory, f"p{n}", limits, free, length)) for n in range(PROCESSES)]
        for process in processes:
            tell(process)
        answers = [read(process) for process in processes]
    admitted = [upload_id for answer in answers for upload_id in answer["admitted"]]
    return admitted, {code for answer in answers for code in answer["refused"]}


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def read(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())  # type: ignore[no-any-return]


@pytest.mark.parametrize("quota", [95, 100, 109, 1000])
def test_a_race_for_the_quota(tmp_path: Path, quota: int) -> None:
    admitted, refused = race(tmp_path, {"quota": quota})
    assert len(admitted) == quota // 10
    assert refused == {"ERR_QUOTA_EXCEEDED"}


def test_a_race_for_the_last_free_bytes(tmp_path: Path) -> None:
    admitted, refused = race(tmp_path, {"min_free": 5}, free="104")
    assert len(admitted) == 9
    assert refused == {"ERR_INSUFFICIENT_STORAGE"}


def test_a_race_for_places(tmp_path: Path) -> None:
    admitted, refused = race(tmp_path, {"max_uploads": 7})
    assert len(admitted) == 7
    assert refused == {"ERR_TOO_MANY_UPLOADS"}


def test_one_rate_for_all_processes(tmp_path: Path) -> None:
    """A rate of which a process would have to wait a minute for more: the test does not take that long."""
    admitted, refused = race(tmp_path, {"create_rate": 1})
    assert len(admitted) == 1
    assert refused == {"ERR_RATE_LIMITED"}


@pytest.mark.root
def test_a_race_for_a_small_disk(tmp_path: Path) -> None:
    """Each is promised a hundredth of it; none of them writes a byte."""
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=8m") as disk:
        length = (8 << 20) // 100
        admitted, refused = race(disk, {"min_free": 0}, free="disk", length=length)
        assert refused == {"ERR_INSUFFICIENT_STORAGE"}
        assert 0 <= free_bytes(str(disk)) - len(admitted) * length < length + (1 << 20), "the account itself takes some"


@pytest.mark.root
async def test_an_upload_that_does_not_fit_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=4m") as disk:
        limiter = SqliteLimiter(str(disk), LimitSettings(min_free=1 << 20), Uploads())
        await limiter.admit(Upload(id="fits", length=1 << 20), "")
        with pytest.raises(StorageFull):
            await limiter.admit(Upload(id="no more", length=3 << 20), "")
        (disk / "somebody else's").write_bytes(bytes(2 << 20))
        with pytest.raises(StorageFull):
            await limiter.admit(Upload(id="not even", length=0), "")
        await limiter.close()


async def test_a_crash_between_admission_and_creation(tmp_path: Path) -> None:
    """Room that was reserved for an upload that was never made is free again ten minutes later, at a start."""
    with racer(tmp_path, "p", {"quota": 400}, "0", 10) as process:
        tell(process)
        admitted = read(process)["admitted"]
        process.kill()
    assert len(admitted) == EACH
    uploads, clock = Uploads(), TurnedClock()
    clock.now = time.time() + 3600
    made = [Upload(id=upload_id, length=10, offset=10) for upload_id in admitted[: EACH // 2]]
    uploads.put(*made)
    limiter = SqliteLimiter(str(tmp_path), LimitSettings(quota=400), uploads, clock=clock)
    with pytest.raises(QuotaExceeded):
        await limiter.admit(Upload(id="a", length=1), "")
    await limiter.recover()
    with pytest.raises(QuotaExceeded):
        await limiter.admit(Upload(id="a", length=201), "")
    await limiter.admit(Upload(id="a", length=200), "")
    await limiter.close()
