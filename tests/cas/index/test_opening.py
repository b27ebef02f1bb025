"""Opening an index: making it, and refusing what is not this repository's."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tusd_py_cas.model import IndexDamaged, RepositoryError
from tusd_py_cas.sqlite_index import SqliteIndex, connections
from tusd_py_cas.sqlite_index.schema import describe, expected_schema

from tests.cas.index.support import REPOSITORY, chunk, chunks, content, open_index, store, version, yes
from tests.cas.index.test_races import ROOT
from tests.support.waiting import until
from tusd_py.ports.failures import ReadOnlyStorage, StorageFailure

OPEN = """
import sys
from tests.cas.index.support import Path, chunks, open_index, yes
sys.stdin.readline()
index = open_index(Path(sys.argv[1]), durable=True)
index.add_chunks(chunks(int(sys.argv[2])), yes)
index.close()
"""


def edit(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        index = open_index(tmp_path / "index.db")
        store(index, chunks(1))
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
            "index.db": 0o600,
            "index.db-wal": 0o600,
            "index.db-shm": 0o600,
        }
        index.close()
    finally:
        os.umask(old)


def test_what_was_stored_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    index = open_index(tmp_path / "index.db", durable=True)
    made = version(index, "a", content(index, 1, 2))
    index.close()
    assert [path.name for path in tmp_path.iterdir()] == ["index.db"]
    index = open_index(tmp_path / "index.db", create=False)
    assert index.find_version("a") == made
    assert repr(index) == f"<SqliteIndex {str(tmp_path / 'index.db')!r}>"
    index.close()


def test_a_path_with_every_kind_of_character(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"a b?c#d%41&mode=ro\xff\xc3\xa4")
    directory.mkdir()
    index = open_index(directory / "index.db")
    store(index, chunks(1))
    index.close()
    assert (directory / "index.db").stat().st_size > 0


def test_several_processes_make_it_at_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path / "index.db"), str(n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)
    index = open_index(tmp_path / "index.db", create=False)
    assert len(index.find_chunks([chunk(n).name for n in range(6)])) == 6
    index.close()


def test_a_missing_one_is_not_made_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"there is no index .* restore it from a backup"):
        open_index(tmp_path / "index.db", create=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RepositoryError, match="there is no index"):
        open_index(tmp_path / "missing" / "index.db", create=True)


def test_an_empty_one_is_completed_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "index.db").touch()
    with pytest.raises(RepositoryError, match="is empty"):
        open_index(tmp_path / "index.db", create=False)
    open_index(tmp_path / "index.db", create=True).close()
    open_index(tmp_path / "index.db", create=False).close()


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE meta SET value = 'another' WHERE key = 'repository'", f"belongs to repository another, not to {REPOSITORY}"),
        ("DELETE FROM meta WHERE key = 'repository'", "belongs to repository None"),
        ("UPDATE meta SET value = '3' WHERE key = 'format'", "has format 3: this program knows those up to 2 only"),
        ("UPDATE meta SET value = '' WHERE key = 'format'", "has format : this program knows"),
        ("DELETE FROM meta WHERE key = 'format'", "has format None: this program knows"),
        ("DROP TABLE meta", "is no index of contents"),
    ],
)
def test_one_that_is_not_ours_is_refused(tmp_path: Path, statement: str, sentence: str) -> None:
    open_index(tmp_path / "index.db").close()
    edit(tmp_path / "index.db", statement)
    for create in (False, True):
        with pytest.raises(RepositoryError, match=sentence):
            open_index(tmp_path / "index.db", create=create)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"nothing like it" * 1000)
    with pytest.raises(IndexDamaged, match=r"is damaged .* restore it from a backup"):
        open_index(tmp_path / "index.db")


def test_the_tables_are_those_of_the_migrations(tmp_path: Path) -> None:
    open_index(tmp_path / "index.db").close()
    connection = sqlite3.connect(tmp_path / "index.db")
    assert describe(connection) == expected_schema()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_once_closed_nothing_can_be_asked(index: SqliteIndex) -> None:
    store(index, chunks(1))
    index.close()
    with pytest.raises(StorageFailure, match="is closed"):
        index.find_chunks([chunk(1).name])
    with pytest.raises(StorageFailure, match="is closed"):
        store(index, chunks(2))


def test_closing_while_somebody_reads(index: SqliteIndex) -> None:
    """The connection in use is closed by its user."""

    def exists(each: object) -> bool:
        index.close()
        return True

    assert list(index.add_chunks(chunks(1), exists)) == []
    assert index._connections._idle == []
    with pytest.raises(StorageFailure, match="is closed"):
        index.find_chunks([])


def test_who_writes_in_another_process_is_waited_for_and_not_forever(
    index: SqliteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(index, chunks(1))
    other = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.05)
    index._connections.close()
    index._connections._closed = False  # new connections, that wait for less
    with pytest.raises(StorageFailure, match=r"adding chunks: another process kept the index .*index\.db' for 0.05 s"):
        store(index, chunks(2))
    assert index.find_chunks([chunk(1).name]), "readers do not wait"
    other.execute("ROLLBACK")
    store(index, chunks(2))
    other.close()


def test_who_waits_for_another_process_gives_up_when_there_is_no_time(
    index: SqliteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 3600.0)
    other = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(3) as pool:
        stored = [pool.submit(store, index, chunks(number)) for number in range(3)]
        until(index._connections._writing.locked)
        index.hurry()
        for each in stored:
            with pytest.raises(StorageFailure, match="there is no time to wait"):
                each.result()
    other.execute("ROLLBACK")
    store(index, chunks(1))
    assert list(index.check()) == []
    other.close()


def test_who_writes_in_another_thread_is_waited_for_and_not_forever(
    index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, done = threading.Event(), threading.Event()

    def slowly(each: object) -> bool:
        writing.set()
        return done.wait(60)

    thread = threading.Thread(target=index.add_chunks, args=(chunks(1), slowly))
    thread.start()
    assert writing.wait(60)
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.05)
    with pytest.raises(StorageFailure, match="another thread kept the index"):
        store(index, chunks(2))
    done.set()
    thread.join()
    assert list(index.add_chunks(chunks(2), yes)) == []


def test_many_threads_leave_few_connections(index: SqliteIndex) -> None:
    barrier = threading.Barrier(12)

    def read() -> None:
        with index._connections.reading("reading"):
            barrier.wait(60)

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index._connections._idle) == 4


def test_the_database_guards_references_itself(index: SqliteIndex) -> None:
    """Should the collector overlook a reference, SQLite stops it."""
    made = content(index, 1)
    for table in ("chunks", "leaves"):
        with pytest.raises(IndexDamaged, match="FOREIGN KEY"), index._connections.writing("dropping") as connection:
            connection.execute(f"DELETE FROM {table}")
    assert index.is_whole(made)


def test_an_index_that_may_not_be_written(index: SqliteIndex) -> None:
    content(index, 1)
    with index._connections.reading("preparing") as connection:
        pass
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(ReadOnlyStorage):
        store(index, chunks(2))
    store(index, chunks(2))
