"""`export`: files, all of them below the directory, none of them half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cas.commands.conftest import Store, random_bytes
from tests.support.mounts import mounted_tmpfs, requires_mounts

CONTENT = random_bytes(300_000)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_one_version_to_a_file(store: Store, tmp_path: Path) -> None:
    version = store.add(CONTENT, "report")
    ran = store.run("export", "report", str(tmp_path / "out"))
    assert (ran.status, ran.errors) == (0, "")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert abs((tmp_path / "out").stat().st_mtime - version.created_at) < 1e-3
    assert ran.output == f"1 file, 293.0 KiB, written to {tmp_path / 'out'}\n"


def test_one_version_into_a_directory(store: Store, tmp_path: Path) -> None:
    store.add(b"x", "a/../b/report.txt")
    (tmp_path / "out").mkdir()
    assert store.run("export", "a/../b/report.txt@1", str(tmp_path / "out")).status == 0
    [name] = tree(tmp_path / "out")
    assert name.startswith("report.txt~")


def test_what_exists_is_kept_unless_forced(store: Store, tmp_path: Path) -> None:
    store.add(b"new", "report")
    (tmp_path / "out").write_bytes(b"old")
    ran = store.run("export", "report", str(tmp_path / "out"))
    assert (ran.status, ran.output) == (1, "")
    assert ran.errors == f"tusd-py cas: '{tmp_path}/out' exists: expected --force if it is to be replaced\n"
    assert (tmp_path / "out").read_bytes() == b"old"
    assert store.run("export", "report", str(tmp_path / "out"), "--force").status == 0
    assert (tmp_path / "out").read_bytes() == b"new"


def test_a_directory_that_is_not_there(store: Store, tmp_path: Path) -> None:
    store.add(b"new", "report")
    ran = store.run("export", "report", str(tmp_path / "no" / "out"))
    assert ran.status == 1 and "No such file or directory" in ran.errors


def test_a_damaged_chunk_leaves_no_file(store: Store, tmp_path: Path) -> None:
    store.add(CONTENT, "report")
    store.flip_a_bit()
    (tmp_path / "out").mkdir()
    ran = store.run("export", "report", str(tmp_path / "out" / "file"))
    assert ran.status == 1 and ran.errors.startswith("tusd-py cas: chunk ")
    assert os.listdir(tmp_path / "out") == []


def test_all(store: Store, tmp_path: Path) -> None:
    store.add(b"old", "report")
    store.add(b"new", "report")
    store.add(CONTENT, "a/b/c")
    ran = store.run("export", "--all", str(tmp_path / "out"))
    assert (ran.status, ran.errors) == (0, "")
    assert tree(tmp_path / "out") == {"report": b"new", "a/b/c": CONTENT}


def test_all_versions(store: Store, tmp_path: Path) -> None:
    store.add(b"old", "a/report")
    store.add(b"new", "a/report")
    assert store.run("export", "--all", "--versions", str(tmp_path / "out")).status == 0
    assert tree(tmp_path / "out") == {"a/report@1": b"old", "a/report@2": b"new"}


def test_of_one_owner(store: Store, tmp_path: Path) -> None:
    store.add(b"mine", "report", owner="me")
    store.add(b"yours", "report", owner="you")
    assert store.run("export", "--all", "--owner=you", str(tmp_path / "out")).status == 0
    assert tree(tmp_path / "out") == {"report": b"yours"}


def test_hostile_names_stay_inside(store: Store, tmp_path: Path) -> None:
    names = [
        "../../escaped",
        "/escaped",
        "a/../../escaped",
        "..",
        ".",
        "/",
        "",
        "x\0y",
        "x\ny",
        "\x1b[2J",
        "a" * 4000,
        "b/" * 2000,
    ]
    for number, name in enumerate(names):
        store.add(f"content {number}".encode(), name)
    before = set(tmp_path.iterdir())
    ran = store.run("export", "--all", "--metadata", str(tmp_path / "out" / "here"))
    assert (ran.status, ran.errors) == (0, "")
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out"}
    assert os.listdir(tmp_path / "out") == ["here"]
    found = tree(tmp_path / "out" / "here")
    contents = {content for name, content in found.items() if not name.endswith(".metadata.json")}
    assert contents == {f"content {number}".encode() for number in range(len(names))}
    assert all(name.isprintable() for name in found)


def test_clashing_names_are_all_written(store: Store, tmp_path: Path) -> None:
    """A file where a directory is needed, the same name of several owners, names that become the same."""
    for number, (name, owner) in enumerate(
        [("a", None), ("a/b", None), ("a", "me"), ("a", "you"), ("x/y", None), ("x//y", None), ("/x/y", None), ("a.b", None)]
    ):
        store.add(str(number).encode(), name, owner=owner)
    ran = store.run("export", "--all", str(tmp_path / "out"))
    assert (ran.status, ran.errors) == (0, "")
    found = tree(tmp_path / "out")
    assert sorted(found.values()) == [str(number).encode() for number in range(8)]
    assert (found["a"], found["x/y"], found["a.b"]) == (b"0", b"4", b"7")
    again = store.run("export", "--all", "--force", str(tmp_path / "out"))
    assert again.status == 0 and tree(tmp_path / "out") == found


def test_files_that_exist_are_told_and_the_rest_is_written(store: Store, tmp_path: Path) -> None:
    store.add(b"a", "a")
    store.add(b"b", "b")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"old")
    ran = store.run("export", "--all", str(tmp_path / "out"))
    assert ran.status == 1
    assert ran.errors.splitlines() == [
        "tusd-py cas: 'a', version 1: 'a' exists: expected --force if it is to be replaced",
        "tusd-py cas: 1 could not be exported",
    ]
    assert tree(tmp_path / "out") == {"a": b"old", "b": b"b"}


def test_damage_of_one_does_not_keep_the_others(store: Store, tmp_path: Path) -> None:
    store.add(b"a", "a")
    store.flip_a_bit()
    store.add(b"b", "b")
    ran = store.run("export", "--all", "--json", str(tmp_path / "out"))
    assert ran.status == 1
    assert tree(tmp_path / "out") == {"b": b"b"}
    failed, done = ran.lines
    assert failed["object"] == "a" and failed["path"] is None and failed["error"].startswith("chunk ")
    assert done == {
        "upload": "upload02",
        "object": "b",
        "owner": None,
        "version": 1,
        "path": "b",
        "size": 1,
        "error": None,
    }


def test_links_below_the_directory_are_not_followed(store: Store, tmp_path: Path) -> None:
    store.add(b"new", "a/b")
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "outside")
    ran = store.run("export", "--all", "--force", str(tmp_path / "out"))
    assert ran.status == 0
    assert tree(tmp_path / "outside") == {}
    assert [name.startswith("a_b~") for name in tree(tmp_path / "out")] == [True]


def test_metadata(store: Store, tmp_path: Path) -> None:
    store.add(b"x", "report", metadata={"filename": "r.txt"})
    assert store.run("export", "report", str(tmp_path / "out"), "--metadata").status == 0
    document = json.loads((tmp_path / "out.metadata.json").read_text())
    assert document == store.run("versions", "report", "--json").lines[0]


@pytest.mark.root
@pytest.mark.parametrize("every", [False, True], ids=["one", "all"])
def test_a_full_disk(store: Store, tmp_path: Path, every: bool) -> None:
    requires_mounts()
    store.add(random_bytes(2 << 20), "large")
    store.add(b"x", "small")
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        where = ["--all", str(disk)] if every else ["large", f"{disk}/file"]
        ran = store.run("export", *where)
        assert (ran.status, ran.output) == (1, "")
        assert ran.errors == f"tusd-py cas: '{where[-1]}': No space left on device\n"
        assert os.listdir(disk) == []


@pytest.mark.parametrize("every", [False, True], ids=["one", "all"])
def test_metadata_that_exist_keep_the_file_from_being_written(store: Store, tmp_path: Path, every: bool) -> None:
    store.add(b"x", "report")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.metadata.json").write_bytes(b"old")
    where = ["--all", str(tmp_path / "out")] if every else ["report", str(tmp_path / "out")]
    ran = store.run("export", *where, "--metadata")
    assert ran.status == 1 and "report.metadata.json' exists: expected --force" in ran.errors
    assert tree(tmp_path / "out") == {"report.metadata.json": b"old"}
    assert store.run("export", *where, "--metadata", "--force").status == 0
    assert tree(tmp_path / "out")["report"] == b"x"


def test_what_is_no_file_is_never_replaced(store: Store, tmp_path: Path) -> None:
    store.add(b"x", "report")
    os.mkfifo(tmp_path / "pipe")
    ran = store.run("export", "report", str(tmp_path / "pipe"), "--force")
    assert (ran.status, ran.errors) == (1, f"tusd-py cas: '{tmp_path}/pipe' is no file\n")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    "arguments",
    [
        ["only-one"],
        ["one", "two", "three"],
        [],
        ["--all"],
        ["--all", "a", "b"],
        ["--versions", "a", "b"],
        ["--restore", "--all"],
        ["--restore", "--force"],
        ["--restore", "--owner=x"],
    ],
)
def test_misuse(store: Store, arguments: list[str]) -> None:
    store.add(b"x")
    ran = store.run("export", *arguments)
    assert (ran.status, ran.output) == (2, "")
    assert ran.errors.startswith("tusd-py cas: ") and ran.errors.count("\n") == 1


def test_a_reader_of_results_who_goes_away_does_not_stop_it(store: Store, tmp_path: Path) -> None:
    for number in range(30):
        store.add(b"x", f"{number:02}" + "x" * 150)
    with store.process("export", "--all", "--json", str(tmp_path / "out")) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 0
    assert len(tree(tmp_path / "out")) == 30
