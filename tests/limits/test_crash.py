"""A server that is killed in the middle of everything: afterwards the account knows every upload as it is."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.waiting import until
from tests.support.wire import TusClient

CLIENTS = 6

Facts = dict[str, tuple[int, int]]


def make_mischief(client: TusClient, seed: int, stop: threading.Event) -> None:
    """Create, send, remove, until the server is gone."""
    chance = random.Random(seed)
    with suppress(OSError, ConnectionError, AssertionError):
        while not stop.is_set():
            length = chance.randrange(1, 5000)
            path = client.create(length)
            offset = chance.randrange(length + 1)
            client.patch(path, 0, bytes(offset))
            if chance.random() < 0.3:
                client.delete(path)


def in_directory(directory: Path) -> Facts:
    """Length and offset of every upload."""
    found = {}
    for record in directory.glob("*.info"):
        data = record.with_suffix("")
        with suppress(FileNotFoundError, json.JSONDecodeError):  # what never became an upload
            found[data.name] = (json.loads(record.read_text())["Size"], data.stat().st_size)
    return found


def in_account(directory: Path) -> Facts:
    rows = ask(directory, "SELECT id, length, offset FROM uploads")
    return {upload_id: (length, offset) for upload_id, length, offset in rows}


def ask(directory: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(directory / ".tusd-py" / "account.db")) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("round", range(3))
def test_a_server_that_is_killed(start_server: StartServer, tmp_path: Path, round: int) -> None:
    data = tmp_path / "data"
    server = start_server("-quota=1GiB", "-reserve-space", "-workers=2", upload_dir=data)
    stop = threading.Event()
    threads = [
        threading.Thread(target=make_mischief, args=(server.client(), CLIENTS * round + number, stop))
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(in_directory(data)) > 30)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()
    expected = in_directory(data)
    start_server("-quota=1GiB", "-reserve-space", upload_dir=data)
    until(lambda: in_account(data).items() >= expected.items(), what="the account is not as the directory is")
    rows = ask(data, "SELECT length, offset FROM uploads")
    ((stored,),) = ask(data, "SELECT SUM(stored) FROM owners")
    ((awaited,),) = ask(data, "SELECT awaited FROM totals")
    assert stored == sum(length for length, _ in rows)
    assert awaited == sum(length - offset for length, offset in rows)
