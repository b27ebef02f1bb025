"""`verify` and `gc`."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

import pytest

from tests.cas.commands.conftest import Store, random_bytes

CONTENT = random_bytes(600_000)


def files(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.chunk_files()}


# verify


def test_a_sound_repository(store: Store) -> None:
    store.add(CONTENT)
    document = store.run("verify", "--json").document
    assert document == {
        "sound": True,
        "complete": True,
        "sample": 1.0,
        "checked_chunks": len(store.chunk_files()),
        "checked_bytes": len(CONTENT),
        "damaged": [],
        "unreadable": [],
        "healed_chunks": 0,
        "index_errors": [],
        "index_mended": [],
        "affected": [],
        "orphans": 0,
    }
    ran = store.run("verify")
    assert (ran.status, ran.errors) == (0, "")
    assert ran.output == f"{len(store.chunk_files())} chunks checked, 585.9 KiB\n"


def test_a_flipped_bit_is_found(store: Store) -> None:
    store.add(CONTENT, "evil\x1b[2J", owner="ann")
    store.add(b"other", "other")
    damaged = next(path for path in store.chunk_files() if path.stat().st_size > 1000)
    store.flip_a_bit(store.chunk_files().index(damaged))
    ran = store.run("verify", "--json")
    assert (ran.status, ran.errors) == (1, "tusd-py cas: damage was found\n")
    [document] = ran.lines
    assert document["sound"] is False
    assert [one["chunk"] for one in document["damaged"]] == [damaged.name[:64]]
    assert document["affected"] == [{"upload": "upload01", "object": "evil\x1b[2J", "owner": "ann", "version": 1}]
    again = store.run("verify")
    assert again.status == 1
    assert all(line.isprintable() for line in again.output.splitlines())
    assert f"damaged: chunk {damaged.name[:64]}: " in again.output
    assert "affected: evil\\x1b[2J of ann, version 1, upload upload01" in again.output
    assert "Uploading or importing the same bytes again heals" in again.output


def test_what_is_damaged_is_healed_by_the_same_bytes(store: Store, tmp_path: Path) -> None:
    store.add(CONTENT, upload="id")
    store.flip_a_bit()
    assert store.run("verify").status == 1
    (tmp_path / "copy").write_bytes(CONTENT)
    assert store.run("import", str(tmp_path / "copy")).status == 0
    assert store.run("verify").status == 0
    assert store.bytes_of("cat", "id") == (0, CONTENT, "")


def test_a_missing_chunk_is_found(store: Store) -> None:
    store.add(CONTENT)
    store.chunk_files()[0].unlink()
    assert store.run("verify").status == 1


def test_a_flipped_bit_in_the_index_is_found(store: Store) -> None:
    store.add(CONTENT, "report")
    with sqlite3.connect(store.path / "index.db") as connection:
        connection.execute("UPDATE versions SET number = 7")
    connection.close()
    ran = store.run("verify", "--json")
    assert ran.status == 1
    assert ran.lines[0]["index_errors"] and not ran.lines[0]["sound"]
    assert "index: " in store.run("verify").output


def test_a_sample(store: Store) -> None:
    store.add(random_bytes(6_000_000))
    document = store.run("verify", "--sample=50%", "--json").document
    assert 0 < document["checked_chunks"] < len(store.chunk_files())
    assert document["sample"] == 0.5


def test_a_rate(store: Store) -> None:
    store.add(CONTENT)
    assert store.run("verify", "--rate=1GB/s").status == 0


def test_damage_is_told_even_to_nobody(store: Store) -> None:
    store.add(CONTENT)
    store.flip_a_bit()
    with store.process("verify") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"tusd-py cas: damage was found\n"
    assert process.returncode == 1


@pytest.mark.parametrize("arguments", [["--sample=0%"], ["--sample=2"], ["--rate=0"], ["--rate=fast"]])
def test_misuse_of_verify(store: Store, arguments: list[str]) -> None:
    store.add(b"x")
    ran = store.run("verify", *arguments)
    assert (ran.status, ran.output) == (2, "") and ran.errors.count("\n") == 1


# gc


def drop(store: Store, upload_id: str) -> None:
    repository = store.open()
    assert repository.index.drop_version(upload_id)
    repository.close()


def test_what_is_not_used_goes_after_its_grace(store: Store) -> None:
    store.add(CONTENT, upload="id")
    store.add(b"kept")
    drop(store, "id")
    before = files(store)
    assert store.run("gc", "--json").document["chunks"] == 0
    assert files(store) == before
    document = store.run("gc", "--grace=0", "--json").document
    assert document == {
        "dry_run": False,
        "grace_seconds": 0.0,
        "manifests": 1,
        "leaves": 1,
        "chunks": len(before) - 1,
        "freed_bytes": len(CONTENT),
        "orphans": 0,
        "temporaries": 0,
    }
    assert [len(content) for content in files(store).values()] == [4]
    assert store.run("verify").status == 0


def test_a_dry_run_removes_nothing(store: Store) -> None:
    store.add(CONTENT, upload="id")
    drop(store, "id")
    (store.path / "chunks" / "ab").mkdir(exist_ok=True, mode=0o700)
    orphan = store.path / "chunks" / "ab" / ("ab" * 32)
    orphan.write_bytes(b"orphan")
    os.utime(orphan, (0, 0))
    before = files(store)
    document = store.run("gc", "--grace=0", "--dry-run", "--json").document
    assert (document["dry_run"], document["chunks"], document["orphans"]) == (True, len(before) - 1, 1)
    assert document["freed_bytes"] == len(CONTENT) + 6
    ran = store.run("gc", "--grace=0", "--dry-run")
    assert "would be freed" in ran.output and ran.status == 0
    assert files(store) == before
    assert store.run("stats", "--json").document["unused_bytes"] == len(CONTENT)
    freed = store.run("gc", "--grace=0", "--json").document
    assert (freed["freed_bytes"], freed["chunks"]) == (document["freed_bytes"], document["chunks"])
    assert files(store) == {}


def test_a_damaged_index_keeps_everything(store: Store) -> None:
    store.add(CONTENT, upload="id")
    store.add(b"kept")
    drop(store, "id")
    with sqlite3.connect(store.path / "index.db") as connection:
        connection.execute("UPDATE versions SET number = 7")
    connection.close()
    before = files(store)
    ran = store.run("gc", "--grace=0")
    assert (ran.status, ran.output) == (1, "") and ran.errors.count("\n") == 1
    assert files(store) == before


def test_a_grace_that_is_none(store: Store) -> None:
    store.add(b"x")
    ran = store.run("gc", "--grace=soon")
    assert ran.status == 2 and "expected one such as 90s" in ran.errors


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a directory of somebody else")
def test_root_makes_nothing_that_the_server_can_t_use(store: Store) -> None:
    store.add(b"x")
    os.chown(store.path, 12345, 12345)
    ran = store.run("gc")
    assert ran.status == 1 and "belongs to the user with the number 12345" in ran.errors
    assert not (store.path / "collecting.lock").exists()
    assert store.run("gc", "--dry-run").status == 0
    ran = store.run("export", "--restore")
    assert ran.status == 1 and "expected to be run by that user" in ran.errors


def test_only_one_collects_at_a_time(store: Store) -> None:
    store.add(b"x")
    store.run("gc")
    lock = os.open(store.path / "collecting.lock", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = store.run("gc")
    finally:
        os.close(lock)
    assert (ran.status, ran.output) == (1, "") and ran.errors.count("\n") == 1
