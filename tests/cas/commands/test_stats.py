"""`stats`: what is stored, in numbers and pictures."""

from __future__ import annotations

import builtins
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cas.commands.conftest import Store, random_bytes


def test_json(store: Store) -> None:
    content = random_bytes(400_000)
    store.add(content, "a")
    store.add(content, "b")
    store.add(b"text " * 200_000, "c")
    repository = store.open()
    identity = repository.id
    repository.close()
    document = store.run("stats", "--json").document
    sizes = document.pop("chunk_sizes")
    assert sum(one["chunks"] for one in sizes) == document["chunks"]
    assert all(one["below"] == 2 * one["from"] for one in sizes)
    assert [one["from"] for one in sizes] == [sizes[0]["from"] << shift for shift in range(len(sizes))]
    text_unique = document["unique_bytes"] - 400_000
    compressed = document["unique_bytes"] - document["stored_bytes"]
    assert compressed > 0
    logical = 1_800_000
    assert document == {
        "repository": str(store.path),
        "id": identity,
        "chunk_size": {"min": 16384, "average": 65536, "max": 262144},
        "objects": 3,
        "versions": 3,
        "manifests": 2,
        "chunks": document["chunks"],
        "logical_bytes": logical,
        "unique_bytes": 400_000 + text_unique,
        "stored_bytes": document["stored_bytes"],
        "saved_by_deduplication_bytes": logical - 400_000 - text_unique,
        "saved_by_deduplication_percent": round(100 * (logical - 400_000 - text_unique) / logical, 2),
        "saved_by_compression_bytes": compressed,
        "saved_by_compression_percent": round(100 * compressed / document["unique_bytes"], 2),
        "average_chunk_bytes": round(document["unique_bytes"] / document["chunks"]),
        "unused_bytes": 0,
        "damaged_chunks": 0,
        "vanished_versions": 0,
    }


def test_the_seed_is_nobody_s_business(store: Store) -> None:
    store.add(b"x")
    repository = store.open()
    seed = str(repository.parameters.seed)
    repository.close()
    assert seed not in store.run("stats", "--json").output + store.run("stats").output


def test_of_an_empty_repository(store: Store) -> None:
    store.open().close()
    document = store.run("stats", "--json").document
    assert (document["chunks"], document["average_chunk_bytes"], document["chunk_sizes"]) == (0, 0, [])
    assert document["saved_by_compression_percent"] == 0.0
    assert "objects     0 in 0 versions" in store.run("stats").output


def test_a_chunk_of_one_byte(store: Store) -> None:
    store.add(b"x")
    assert store.run("stats", "--json").document["chunk_sizes"] == [{"from": 1, "below": 2, "chunks": 1}]


def test_for_people(store: Store) -> None:
    store.add(random_bytes(400_000), "a")
    store.add(random_bytes(400_000), "b")
    output = store.run("stats").output
    assert "logical     781.2 KiB" in output
    assert "unique      390.6 KiB (390.6 KiB, 50.0 %, saved by deduplication)" in output
    assert "CHUNKS OF" in output and "64.0 KiB to 128.0 KiB" in output and "█" in output


def test_unused_and_damaged(store: Store) -> None:
    store.add(b"unused", upload="id")
    store.add(b"kept")
    repository = store.open()
    repository.index.drop_version("id")
    [piece] = repository.index.pieces(repository.index.find_version("upload02").manifest)  # type: ignore[union-attr]
    repository.index.mark_damaged([piece.chunk.name])
    repository.close()
    document = store.run("stats", "--json").document
    assert (document["unused_bytes"], document["damaged_chunks"]) == (6, 1)
    assert document["average_chunk_bytes"] == 5, "those that are not used are chunks, too"
    assert "damaged     1 chunk (see tusd-py cas verify)" in store.run("stats").output


def test_versions_whose_upload_is_gone(store: Store) -> None:
    store.add(b"x", upload="id")
    repository = store.open()
    repository.index.note_vanished(["id"], 1e9)
    repository.close()
    assert store.run("stats", "--json").document["vanished_versions"] == 1
    assert "vanished    1 version whose upload is gone" in store.run("stats").output


def test_a_terminal_without_unicode(store: Store) -> None:
    store.add(b"x")
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    with store.process("stats", env=env) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"") and output.isascii()


def test_a_picture(store: Store, tmp_path: Path) -> None:
    store.add(random_bytes(400_000))
    ran = store.run("stats", "--json", f"--plot={tmp_path}/sizes.png")
    assert (ran.status, ran.errors) == (0, "")
    assert (tmp_path / "sizes.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.glob("sizes*")] == ["sizes.png"]


def test_a_picture_that_can_t_be_written(store: Store, tmp_path: Path) -> None:
    store.add(b"x")
    ran = store.run("stats", f"--plot={tmp_path}/no/sizes.png")
    assert ran.status == 1 and "No such file or directory" in ran.errors


def test_a_picture_in_the_place_of_what_is_no_file(store: Store, tmp_path: Path) -> None:
    store.add(b"x")
    os.mkfifo(tmp_path / "pipe")
    ran = store.run("stats", f"--plot={tmp_path}/pipe")
    assert (ran.status, ran.errors) == (1, f"tusd-py cas: '{tmp_path}/pipe' is no file\n")
    assert (tmp_path / "pipe").is_fifo()


def test_without_matplotlib(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("tusd_py_cas.commands.plot.find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    store.add(b"x")
    ran = store.run("stats", f"--plot={tmp_path}/sizes.png")
    assert (ran.status, ran.output) == (1, "")
    assert ran.errors == (
        "tusd-py cas: --plot needs matplotlib, which is not installed: expected the extra `plot`, as in tusd-py[plot]\n"
    )


def test_nothing_but_a_picture_needs_matplotlib(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    really_import = builtins.__import__

    def forbid(name: str, *rest: Any, **others: Any) -> Any:
        assert not name.startswith("matplotlib")
        return really_import(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", forbid)
    store.add(b"x")
    assert store.run("stats").status == 0
