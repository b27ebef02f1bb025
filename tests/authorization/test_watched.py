"""Files that are read again when they change."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest

from tests.authorization.support import write
from tusd_py.authorization import watched
from tusd_py.authorization.watched import UnusableFile, WatchedFile


def parse(data: bytes) -> str:
    if data == b"nonsense":
        raise ValueError("expected sense")
    return data.decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    path.chmod(0o600)
    return path


async def test_a_change_is_seen(path: Path) -> None:
    file = WatchedFile(path, parse, interval=0)
    assert (file.value, await file.current()) == ("one", "one")
    write(path, b"two")
    assert (file.value, await file.current(), file.value) == ("one", "two", "two")


async def test_a_change_within_the_same_tick_of_the_file_systems_clock_is_seen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "_signature", lambda _: (1, 3, 1, 1))  # all that could tell is alike
    file = WatchedFile(path, parse, interval=0)
    write(path, b"two")
    assert await file.current() == "two"


async def test_a_file_put_in_its_place_is_seen(path: Path) -> None:
    file = WatchedFile(path, parse, interval=0)
    other = path.with_name("other")
    write(other, b"two")
    os.rename(other, path)
    assert await file.current() == "two"


async def test_what_has_not_changed_is_not_read_again(path: Path) -> None:
    os.utime(path, (1e9, 1e9))
    reads: list[bytes] = []

    def counting(data: bytes) -> str:
        reads.append(data)
        return data.decode()

    file = WatchedFile(path, counting, interval=0)
    for _ in range(3):
        await file.current()
    assert reads == [b"one"]


async def test_within_the_interval_nobody_looks(path: Path) -> None:
    file = WatchedFile(path, parse, interval=3600)
    write(path, b"two")
    assert await file.current() == "one"


@pytest.mark.parametrize("content", [b"nonsense", None], ids=["broken", "gone"])
async def test_what_was_read_last_counts_until_the_file_makes_sense_again(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = WatchedFile(path, parse, interval=0)
    if content is None:
        os.unlink(path)
    else:
        write(path, content)
    with caplog.at_level(logging.ERROR, "tusd_py.authorization"):
        for _ in range(3):
            assert await file.current() == "one"
    assert len(caplog.records) == 1, "one complaint for one reason"
    assert "what was read before still counts" in caplog.text
    write(path, b"three")
    assert await file.current() == "three"


async def test_files_are_read_off_the_event_loop_and_once_for_all_who_wait(path: Path) -> None:
    threads: list[int] = []

    def noting(data: bytes) -> str:
        threads.append(threading.get_ident())
        return data.decode()

    file = WatchedFile(path, noting, interval=0)
    threads.clear()
    write(path, b"two")
    assert set(await asyncio.gather(*(file.current() for _ in range(20)))) == {"two"}
    assert len(threads) == 1 and threads[0] != threading.get_ident()


async def test_who_is_cancelled_takes_nobody_along(path: Path) -> None:
    file = WatchedFile(path, parse, interval=0)
    write(path, b"two")
    first, second = asyncio.ensure_future(file.current()), asyncio.ensure_future(file.current())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "two"
    assert first.cancelled()


def test_what_can_not_be_read_at_the_start_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnusableFile, match=r"cannot read .*missing: No such file"):
        WatchedFile(tmp_path / "missing", parse)
    with pytest.raises(UnusableFile, match="not a regular file"):
        WatchedFile(tmp_path, parse)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableFile, match="not a regular file"):
        WatchedFile(tmp_path / "pipe", parse)
    (tmp_path / "broken").write_bytes(b"nonsense")
    with pytest.raises(UnusableFile, match="broken: expected sense"):
        WatchedFile(tmp_path / "broken", parse)
    monkeypatch.setattr(watched, "MAX_FILE", 2)
    (tmp_path / "large").write_bytes(b"one")
    with pytest.raises(UnusableFile, match="too large"):
        WatchedFile(tmp_path / "large", parse)
