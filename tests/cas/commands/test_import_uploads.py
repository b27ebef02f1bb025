"""`import` without paths: finished uploads that are not stored yet."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cas.commands.conftest import Store, random_bytes
from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload
from tusd_py.protocol.upload_json import build_upload

CONTENT = random_bytes(300_000)


def put(store: Store, upload_id: str, content: bytes | None = CONTENT, *, path: Path | None = None, **facts: Any) -> Path:
    """An upload as the server would leave it; returns where its bytes are."""
    path = path or store.upload_dir / upload_id
    length = facts.pop("length", len(content or b""))
    storage = {"Type": "filestore", "Path": str(path), **facts.pop("storage", {})}
    record = store.upload_dir / f"{upload_id}.info"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(build_upload(Upload(id=upload_id, length=length, **facts), storage))
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def counts(store: Store) -> tuple[int, int, int, int]:
    [document] = store.run("import", "--json").lines
    return document["stored"], document["unchanged"], document["skipped"], document["failed"]


def test_finished_uploads(store: Store) -> None:
    put(store, "plain")
    put(store, "in/a/directory")
    put(store, "elsewhere", path=store.upload_dir / "by-a-hook" / "x")
    put(store, "empty", b"")
    assert counts(store) == (4, 0, 0, 0)
    for upload_id in ("plain", "in/a/directory", "elsewhere"):
        assert store.bytes_of("cat", upload_id) == (0, CONTENT, "")
    assert counts(store) == (0, 4, 0, 0)


def test_directories_that_are_not_the_servers(store: Store) -> None:
    """Such as the `lost+found` of a file system that is mounted there."""
    put(store, "plain")
    (store.upload_dir / "lost+found").mkdir(mode=0)
    drop = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    command = [*drop, sys.executable, "-m", "tusd_py", "cas", "import", f"-upload-dir={store.upload_dir}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["stored"] == 1


def test_directories_without_end(store: Store, deep: Path) -> None:
    put(store, "plain")
    deep.rename(store.upload_dir / "deep")
    try:
        assert counts(store) == (1, 0, 0, 0)
    finally:
        (store.upload_dir / "deep").rename(deep)


def test_what_a_version_has_of_its_upload(store: Store) -> None:
    pairs = {"object": b"report", "filename": b"r.txt", "binary": b"\xff"}
    put(store, "id", owner="ann", metadata=Metadata(pairs))
    assert counts(store) == (1, 0, 0, 0)
    [line] = store.run("versions", "report", "--json").lines
    assert (line["upload"], line["owner"], line["raw"]) == ("id", "ann", True)
    assert line["metadata"] == {"object": "report", "filename": "r.txt"}


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (CONTENT[:-1], {"length": len(CONTENT)}),
        (CONTENT, {"length": None}),
        (CONTENT, {"held": True}),
        (CONTENT, {"failure": "a partial is gone"}),
        (b"", {"length": len(CONTENT), "partials": ("a", "b")}),
        (None, {"length": 5}),
        (None, {"length": 5, "storage": {"Type": "cas"}}),
        (CONTENT, {"storage": {"Type": "cas"}}),
    ],
    ids=["unfinished", "deferred", "held", "failed", "final", "no-file", "relocated", "released"],
)
def test_what_is_left_alone(store: Store, content: bytes | None, facts: dict[str, Any]) -> None:
    put(store, "id", content, **facts)
    assert counts(store) == (0, 0, 1, 0)


def test_bytes_that_are_being_added(store: Store) -> None:
    """They may be cut off again: only the server knows."""
    for upload_id in ("a", "b/c", "d" * 230):
        put(store, upload_id)
    committing = store.upload_dir / ".tusd-py" / "committing"
    committing.mkdir(parents=True)
    (committing / "b%2Fc").symlink_to("5")
    (committing / ("~" + "0" * 64 + "~")).symlink_to("5")
    assert counts(store) == (1, 0, 2, 0)


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    put(store, "id", None, length=len(CONTENT))
    (store.upload_dir / "id").symlink_to(tmp_path / "secret")
    assert counts(store) == (0, 0, 1, 0)


@pytest.mark.parametrize("path", ["../secret", ".tusd-py/secret", "other.info", "/etc/passwd"])
def test_paths_in_records_are_not_trusted(store: Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    (store.upload_dir / ".tusd-py").mkdir()
    (store.upload_dir / ".tusd-py" / "secret").write_bytes(CONTENT)
    put(store, "other", b"x")
    put(store, "id", None, length=len(CONTENT), storage={"Path": path})
    assert counts(store) == (1, 0, 1, 0)
    assert store.run("cat", "id").status == 1


def test_a_file_that_is_too_long(store: Store) -> None:
    put(store, "id", CONTENT + b"appended", length=len(CONTENT))
    ran = store.run("import", "--json")
    assert ran.status == 1 and "has 300008 bytes, and its record says 300000" in ran.errors


def test_an_id_that_was_used_again(store: Store) -> None:
    put(store, "id")
    assert counts(store) == (1, 0, 0, 0)
    path = put(store, "id", CONTENT[::-1])
    os.utime(path, (1e9, 1e9))
    assert counts(store) == (1, 0, 0, 0)
    assert store.bytes_of("cat", "id") == (0, CONTENT[::-1], "")
    assert [line["version"] for line in store.run("versions", "id", "--json").lines] == [1]


def test_the_usual_place_where_nothing_is_at_the_other(store: Store) -> None:
    path = put(store, "id", path=store.upload_dir / "before" / "x")
    path.rename(store.upload_dir / "id")
    assert counts(store) == (1, 0, 0, 0)


def test_damaged_records(store: Store) -> None:
    (store.upload_dir / "half.info").write_text('{"ID":')
    (store.upload_dir / "id.info").write_text('{"ID":')
    (store.upload_dir / "id").write_bytes(CONTENT)
    put(store, "good")
    ran = store.run("import", "--json")
    assert ran.status == 1 and "'id': the record" in ran.errors and "half" not in ran.errors
    assert (ran.lines[0]["stored"], ran.lines[0]["failed"]) == (1, 1)


def test_records_of_a_later_version_are_left_alone(store: Store) -> None:
    put(store, "id")
    record = store.upload_dir / "id.info"
    record.write_text(json.dumps({**json.loads(record.read_text()), "TusdPy": {"Version": 2}}))
    assert counts(store) == (0, 0, 0, 1)


def test_of_a_running_server(store: Store, start_server: StartServer) -> None:
    server: ServerProcess = start_server(upload_dir=store.upload_dir)
    client = server.client()
    upload_id = client.create(len(CONTENT), CONTENT).rpartition("/")[2]
    client.create(5)
    assert counts(store) == (1, 0, 1, 0)
    assert store.bytes_of("cat", upload_id) == (0, CONTENT, "")


def test_a_server_serves_what_was_imported_from_chunks(store: Store, start_server: StartServer) -> None:
    upload_id = start_server(upload_dir=store.upload_dir).client().create(len(CONTENT), CONTENT).rpartition("/")[2]
    assert counts(store) == (1, 0, 0, 0)
    [line] = store.run("versions", upload_id, "--json").lines
    server = start_server("-cas=keep", upload_dir=store.upload_dir)
    assert server.client().get(f"/files/{upload_id}").headers["etag"] == f'"{line["manifest"]}"'


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaves SET count = count + 1",
        "UPDATE manifests SET sha256 = NULL",
        "UPDATE versions SET metadata = '[]'",
    ],
)
def test_what_is_damaged_is_taken_in_once_more(store: Store, statement: str) -> None:
    put(store, "plain")
    assert counts(store) == (1, 0, 0, 0)
    connection = sqlite3.connect(store.upload_dir / ".tusd-py" / "cas" / "index.db", isolation_level=None)
    assert connection.execute(statement).rowcount == 1
    connection.close()
    damaged = store.run("verify", "--json")
    assert (damaged.status, damaged.lines[0]["sound"]) == (1, False)
    assert damaged.lines[0]["index_errors"] != []
    assert counts(store) == (1, 0, 0, 0)
    assert store.bytes_of("cat", "plain") == (0, CONTENT, "")
    assert store.run("verify", "--json").lines[0]["index_errors"] == []
    assert store.run("gc", "--json").status == 0
    assert counts(store) == (0, 1, 0, 0)


def test_chunks_that_are_damaged_are_stored_once_more(store: Store) -> None:
    put(store, "plain")
    assert counts(store) == (1, 0, 0, 0)
    for path in (store.upload_dir / ".tusd-py" / "cas" / "chunks").rglob("?" * 64):
        path.write_bytes(b"other")
    assert store.run("verify", "--json").status == 1
    assert counts(store) == (1, 0, 0, 0)
    assert store.run("verify", "--json").lines[0]["sound"]
    assert store.bytes_of("cat", "plain") == (0, CONTENT, "")
