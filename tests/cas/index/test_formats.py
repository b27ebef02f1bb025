"""An index of an older format is brought up to date with all that it has, whatever happens meanwhile.

`format_1.sql` is what the statements of format 1 have made, before there was another.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tusd_py_cas.model import Codec, Manifest, State
from tusd_py_cas.sqlite_index.schema import FORMAT, describe, expected_schema

from tests.cas.index.support import Clock, chunk, content, numbers_of, open_index, refs, version
from tests.cas.index.test_races import ROOT
from tests.support.mounts import mounted_tmpfs, remount, requires_mounts
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage

OLD = (Path(__file__).parent / "format_1.sql").read_text()

OPEN = """
import sys
from tests.cas.index.support import Path, open_index
sys.stdin.readline()
open_index(Path(sys.argv[1]), create=False, durable=True).close()
"""

KILLED = """
import os, signal, sys
from tests.cas.index.support import Path, open_index
from tusd_py_cas.sqlite_index import schema

left = int(sys.argv[2])

def count(statement):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

def migrate(connection):
    connection.set_trace_callback(count)
    original(connection)

original, schema._migrate = schema._migrate, migrate
open_index(Path(sys.argv[1]), create=False, durable=True).close()
"""
"""Opens an index and dies before statement so and so of the migration, or of what follows it."""


def make_old(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(OLD)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def assert_all_there(path: Path) -> None:
    """All that the old one had, and what the new one can do."""
    index = open_index(path, Clock(), create=False)
    assert list(index.check()) == []
    stored = [chunk(0, Codec.ZSTD), chunk(2, Codec.ZSTD), *(chunk(n) for n in (1, 3, 100, 102))]
    damaged = {chunk(3).name, chunk(100).name}
    assert dict(index.all_chunks()) == {each: State.DAMAGED if each.name in damaged else State.LIVE for each in stored}
    found = {each.upload_id: each for each in index.versions()}
    assert [(each.object, each.owner, each.number, each.raw) for each in found.values()] == [
        ("a", None, 1, True),
        ("a", "me", 1, False),
        ("b", None, 1, True),
    ]
    contents = {upload_id: numbers_of(index.pieces(each.manifest)) for upload_id, each in found.items()}
    assert contents == {"upload0": [0, 1, 2], "upload1": [3, 1], "über": [0, 1, 2, 3, 1]}
    assert (index.totals().manifests, index.totals().vanished) == (4, 0)
    assert index.note_vanished(["über", "nobody"], 7) == {"über": 7.0}
    index.note_present(["über"])
    assert index.add_leaf(refs([chunk(1)])) > 3, "ids are not used again"
    index.close()


def format_of(path: Path) -> str:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    connection.close()
    return str(found)


def test_an_older_one_is_brought_up_to_date(tmp_path: Path) -> None:
    make_old(tmp_path / "index.db")
    assert format_of(tmp_path / "index.db") == "1"
    open_index(tmp_path / "index.db", create=False).close()
    assert format_of(tmp_path / "index.db") == str(FORMAT) == "2"
    connection = sqlite3.connect(tmp_path / "index.db")
    assert describe(connection) == expected_schema()
    connection.close()
    assert_all_there(tmp_path / "index.db")


def test_one_that_was_never_closed_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its last transactions are in the log beside it."""
    make_old(tmp_path / "index.db")
    connection = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("INSERT INTO objects VALUES (9, 'late', 0, '', 1)")
    for name in ("index.db", "index.db-wal"):
        (tmp_path / f"copy-{name}").write_bytes((tmp_path / name).read_bytes())
    connection.close()
    index = open_index(tmp_path / "copy-index.db", create=False)
    assert list(index.check()) == ["object 'late' has no version"]
    index.close()


def test_it_is_the_same_as_one_that_was_made_now(tmp_path: Path) -> None:
    def contents(path: Path) -> list[Manifest]:
        index = open_index(path, Clock())
        if not list(index.versions()):
            parts = [content(index, 0, 1, 2, leaf=2), content(index, 3, 1)]
            for upload_id, made in zip("abc", [*parts, index.compose(parts)], strict=True):
                version(index, upload_id, made)
        found = [each.manifest for each in index.versions()]
        index.close()
        return sorted(found, key=lambda each: each.id)

    make_old(tmp_path / "old.db")
    assert contents(tmp_path / "old.db") == contents(tmp_path / "new.db")


def test_several_processes_bring_it_up_to_date_at_once(tmp_path: Path) -> None:
    make_old(tmp_path / "index.db")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path / "index.db")], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)
    assert_all_there(tmp_path / "index.db")


def test_a_process_that_is_killed_before_any_statement_of_it(tmp_path: Path) -> None:
    formats = set()
    for statements in range(100):
        path = tmp_path / f"{statements}.db"
        make_old(path)
        process = subprocess.run([sys.executable, "-c", KILLED, str(path), str(statements)], cwd=ROOT, capture_output=True)
        formats.add((process.returncode, format_of(path)))
        assert_all_there(path)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr
    assert formats == {(-signal.SIGKILL, "1"), (0, "2")}
    assert statements > 5


def test_a_failure_on_the_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(tmp_path / "index.db")
    before = (tmp_path / "index.db").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("tusd_py_cas.sqlite_index.schema._VANISHED", "CREATE TABLE vanished (x) STRICT")
        with pytest.raises(Exception, match="missing datatype"):
            open_index(tmp_path / "index.db", create=False)
    assert (tmp_path / "index.db").read_bytes() == before
    assert_all_there(tmp_path / "index.db")


def test_somebody_reads_and_writes_meanwhile_with_an_older_program(tmp_path: Path) -> None:
    """A server that goes on until it is started anew: what it knows has not changed."""
    make_old(tmp_path / "index.db")
    older = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    older.execute("PRAGMA foreign_keys = ON")
    older.execute("BEGIN")
    assert older.execute("SELECT COUNT(*) FROM versions").fetchone() == (3,)
    index = open_index(tmp_path / "index.db", create=False)
    assert older.execute("SELECT COUNT(*) FROM versions").fetchone() == (3,)
    older.execute("COMMIT")
    index.note_vanished(["upload0", "upload1"], 7)
    older.execute("DELETE FROM versions WHERE upload = 'upload0'")
    older.close()
    assert list(index.vanished()) == ["upload1"]
    index.close()


@pytest.mark.root
def test_on_a_disk_that_has_no_room_or_must_not_be_written(tmp_path: Path) -> None:
    requires_mounts()
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        make_old(disk / "index.db")
        with (disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        for _ in range(2):
            with pytest.raises(OutOfSpace):
                open_index(disk / "index.db", create=False)
        (disk / "ballast").unlink()
        remount(disk, "ro")
        with pytest.raises(ReadOnlyStorage):
            open_index(disk / "index.db", create=False)
        remount(disk, "rw")
        assert format_of(disk / "index.db") == "1"
        assert_all_there(disk / "index.db")
