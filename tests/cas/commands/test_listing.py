"""`ls` and `versions`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tusd_py_cas.commands.listing import objects
from tusd_py_cas.model import Manifest, Version

from tests.cas.commands.conftest import Store

HOSTILE = "evil\x1b]0;owned\x07\u202e\nname"


def test_ls_shows_each_object_once(store: Store) -> None:
    store.add(b"one", "b/report")
    store.add(b"three", "b/report")
    store.add(b"x", "a", owner="ann")
    lines = store.run("ls").output.splitlines()
    assert lines[0].split() == ["VERSIONS", "SIZE", "DATE", "OWNER", "OBJECT"]
    assert [line.split()[:3] for line in lines[1:]] == [["1", "1", "B"], ["2", "5", "B"]]
    assert [line.split()[4:] for line in lines[1:]] == [["ann", "a"], ["-", "b/report"]]


def test_ls_of_a_prefix(store: Store) -> None:
    for name in ("a/x", "a/y", "b"):
        store.add(b"x", name)
    assert [line["object"] for line in store.run("ls", "--json", "a/").lines] == ["a/x", "a/y"]
    assert store.run("ls", "nothing").output == "no objects\n"


def test_the_latest_is_the_one_that_came_last(store: Store, tmp_path: Path) -> None:
    """Large uploads take longer to become versions."""
    manifests = [store.add(content).manifest for content in (b"the later one", b"the earlier one")]
    repository = store.open()
    for upload, manifest, at in (("small", manifests[0], 2e9), ("large", manifests[1], 1e9)):
        repository.index.add_version(
            upload_id=upload, object="report", owner=None, manifest=manifest, metadata={}, raw=False, at=at
        )
    repository.close()
    assert [line["upload"] for line in store.run("versions", "report", "--json").lines] == ["small", "large"]
    [line] = store.run("ls", "--json", "report").lines
    assert (line["upload"], line["version"], line["versions"]) == ("small", 1, 2)
    assert store.bytes_of("cat", "report") == (0, b"the later one", "")
    assert store.run("export", "--all", str(tmp_path / "out")).status == 0
    assert (tmp_path / "out" / "report").read_bytes() == b"the later one"
    (tmp_path / "report").write_bytes(b"the later one")
    assert store.run("import", str(tmp_path / "report"), "--json").document["unchanged"] == 1


def test_ls_json(store: Store) -> None:
    store.add(b"one", "report", owner="ann")
    version = store.add(b"two", "report", upload="second", owner="ann")
    [line] = store.run("ls", "--json").lines
    assert line.pop("created_at").startswith("20")
    assert line == {
        "object": "report",
        "owner": "ann",
        "versions": 2,
        "version": 2,
        "upload": version.upload_id,
        "size": 3,
    }


def test_versions_json(store: Store) -> None:
    version = store.add(b"hello", "report", metadata={"filename": "r\x1b.txt"}, raw=True)
    [line] = store.run("versions", "report", "--json").lines
    assert line.pop("created_at").endswith("+00:00")
    assert line == {
        "upload": version.upload_id,
        "object": "report",
        "owner": None,
        "version": 1,
        "size": 5,
        "blake3": "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f",
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "manifest": version.manifest.name.hex(),
        "raw": True,
        "metadata": {"filename": "r\x1b.txt"},
    }


def test_versions_as_a_table(store: Store) -> None:
    store.add(b"hello", "report")
    store.add(b"hello you", "report", upload="second")
    heading, first, second = store.run("versions", "report").output.splitlines()
    assert heading.split() == ["VERSION", "SIZE", "DATE", "UPLOAD", "BLAKE3", "SHA-256"]
    assert first.split()[0] == "1" and second.split()[0] == "2"
    assert first.split()[-1] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert "second" in second


def test_digests_that_are_still_to_be_computed(store: Store) -> None:
    parts = [store.add(b"one").manifest, store.add(b"two").manifest]
    repository = store.open()
    whole = repository.index.compose(parts)
    repository.index.add_version(upload_id="whole", object="whole", owner=None, manifest=whole, metadata={}, raw=False, at=1.0)
    repository.close()
    [line] = store.run("versions", "whole", "--json").lines
    assert (line["size"], line["blake3"], line["sha256"]) == (6, None, None)
    assert store.run("versions", "whole").output.splitlines()[1].split()[-2:] == ["-", "-"]


def test_hostile_names_do_nothing_to_a_terminal(store: Store) -> None:
    store.add(b"x", HOSTILE, owner="\x1b[2J", metadata={"\x1b[2J": HOSTILE})
    for arguments in (["ls"], ["ls", "--json"], ["versions", HOSTILE], ["versions", HOSTILE, "--json"]):
        output = store.run(*arguments).output
        assert all(line.isprintable() and line.isascii() for line in output.splitlines()), arguments
        assert len(output.splitlines()) == (1 if "--json" in arguments else 2)


def test_errors_quote_hostile_names_harmlessly(store: Store) -> None:
    store.add(b"x")
    ran = store.run("versions", HOSTILE)
    assert ran.status == 1
    assert ran.errors.endswith("\n") and ran.errors[:-1].isprintable()


def test_versions_of_several_owners_want_one(store: Store) -> None:
    store.add(b"mine", "report", owner="me")
    store.add(b"nobody's", "report")
    ran = store.run("versions", "report")
    assert (ran.status, ran.output) == (2, "")
    assert "expected --owner, one of '', 'me'" in ran.errors
    assert [line["size"] for line in store.run("versions", "report", "--owner=me", "--json").lines] == [4]
    assert [line["size"] for line in store.run("versions", "report", "--owner=", "--json").lines] == [8]
    assert store.run("versions", "report", "--owner=you").status == 1


def test_no_such_object(store: Store) -> None:
    store.add(b"x")
    ran = store.run("versions", "nothing")
    assert (ran.status, ran.output, ran.errors) == (1, "", "tusd-py cas: there is no object 'nothing'\n")


def test_a_name_that_is_no_utf_8(store: Store) -> None:
    store.add(b"x")
    with store.process("versions", b"\xff".decode("utf-8", "surrogateescape")) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and b"not UTF-8" in errors


def test_a_listing_comes_while_it_is_being_found() -> None:
    def endless(taken: list[int]) -> object:
        manifest = Manifest(1, bytes(32), 0, None, None, False, 0.0)
        for number in range(1 << 40):
            taken.append(number)
            yield Version("id", f"{number // 2}", None, number % 2 + 1, manifest, 0.0)

    taken: list[int] = []
    listed = objects(endless(taken))  # type: ignore[arg-type]
    assert [next(listed).versions for _ in range(3)] == [2, 2, 2]
    assert len(taken) < 10


@pytest.mark.parametrize("verb", ["ls", "ls --json"])
def test_a_reader_who_has_seen_enough(store: Store, verb: str) -> None:
    for number in range(40):
        store.add(b"x", f"{number:03}" + "x" * 5000)
    command = (
        f"{sys.executable} -m tusd_py cas {verb} -upload-dir={store.upload_dir} 2>&1 | head -c 10; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert (done.returncode, len(done.stdout)) == (0, 10)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_can_t_be_written(store: Store, unbuffered: str) -> None:
    """It is noticed with the line, or when the last of them are flushed."""
    store.add(b"x")
    command = f"{sys.executable} -m tusd_py cas ls -upload-dir={store.upload_dir} > /dev/full"
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, env=env, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "tusd-py cas: the output could not be written: No space left on device\n"
