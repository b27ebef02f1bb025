"""`import` of files and directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tusd_py_cas.commands.import_run import ImportRun
from tusd_py_cas.commands.sources import files as files_below
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.model import IMPORTED

from tests.cas.commands.conftest import Store, random_bytes
from tests.cas.commands.test_export import tree
from tests.support.waiting import until
from tusd_py.protocol.ids import is_valid_id

CONTENT = random_bytes(700_000)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    for path, content in {"a.txt": b"a", "sub/b.txt": b"b", "sub/deep/c.bin": CONTENT, "empty": b""}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def names(store: Store) -> list[str]:
    return [line["object"] for line in store.run("ls", "--json").lines]


def test_a_tree_comes_back_as_it_was(store: Store, files: Path, tmp_path: Path) -> None:
    assert store.run("import", str(files), "--json").document["stored"] == 4
    assert names(store) == ["a.txt", "empty", "sub/b.txt", "sub/deep/c.bin"]
    assert store.run("export", "--all", str(tmp_path / "out")).status == 0
    assert tree(tmp_path / "out") == tree(files)


def test_what_the_summary_counts(store: Store, files: Path) -> None:
    first = store.run("import", str(files), "--json").document
    size = len(CONTENT) + 2
    assert first["failures"] == []
    chunks = first.pop("chunks"), first.pop("new_chunks")
    assert chunks[0] == chunks[1] >= 3
    assert first == {
        "stored": 4,
        "unchanged": 0,
        "skipped": 0,
        "failed": 0,
        "read_bytes": size,
        "known_bytes": 0,
        "new_bytes": size,
        "stored_bytes": size,
        "failures": [],
    }
    (files / "copy").write_bytes(CONTENT)
    again = store.run("import", str(files), "--json").document
    assert (again["stored"], again["unchanged"]) == (1, 4)
    assert (again["read_bytes"], again["new_bytes"]) == (2 * len(CONTENT) + 2, 0)
    assert store.run("import", str(files)).output.startswith("0 files stored, 5 unchanged, 0 skipped, 0 failed\n")


def test_a_changed_file_is_a_new_version(store: Store, files: Path) -> None:
    store.run("import", str(files))
    (files / "a.txt").write_bytes(b"other")
    store.run("import", str(files))
    assert [line["size"] for line in store.run("versions", "a.txt", "--json").lines] == [1, 5]


def test_versions_that_were_imported_say_so(store: Store, files: Path) -> None:
    store.run("import", str(files / "a.txt"))
    [line] = store.run("versions", "a.txt", "--json").lines
    assert line["upload"].startswith(IMPORTED) and len(line["upload"]) == 40
    assert not is_valid_id(line["upload"]), "no upload can be called that"
    assert (line["raw"], line["owner"], line["metadata"]) == (False, None, {"filename": "a.txt"})


def test_names(store: Store, files: Path) -> None:
    store.run("import", str(files / "a.txt"), str(files / "sub"), "--prefix=p/")
    store.run("import", str(files / "a.txt"), "--object=my name")
    assert names(store) == ["my name", "p/a.txt", "p/b.txt", "p/deep/c.bin"]


def test_links_and_the_like_are_not_followed(store: Store, files: Path) -> None:
    (files / "link").symlink_to("a.txt")
    (files / "loop").symlink_to(files)
    os.mkfifo(files / "pipe")
    document = store.run("import", str(files), "--json").document
    assert (document["stored"], document["skipped"]) == (4, 3)


@pytest.mark.parametrize("kind", ["link", "pipe", "missing"])
def test_what_was_named_and_is_no_file(store: Store, files: Path, kind: str) -> None:
    (files / "link").symlink_to("a.txt")
    os.mkfifo(files / "pipe")
    ran = store.run("import", str(files / kind), str(files / "a.txt"), "--json")
    assert ran.status == 1 and str(files / kind) in ran.errors
    [document] = ran.lines
    assert (document["stored"], document["failed"]) == (1, 1)
    assert document["failures"][0]["path"] == str(files / kind)


def test_what_can_t_be_read_does_not_keep_the_others(store: Store, files: Path) -> None:
    """Root reads everything; a name that no object can have is refused to anybody."""
    (files / "\udcff").write_bytes(b"x")
    ran = store.run("import", str(files), "--json")
    assert ran.status == 1
    assert ran.lines[0]["stored"] == 4
    assert "its name is not UTF-8" in ran.lines[0]["failures"][0]["error"]


def test_unreadable_directories_and_files(store: Store, files: Path) -> None:
    (files / "sub").chmod(0)
    (files / "a.txt").chmod(0)
    drop = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    command = [*drop, sys.executable, "-m", "tusd_py", "cas", "import", f"-upload-dir={store.upload_dir}", str(files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    (files / "sub").chmod(0o755)
    assert done.returncode == 1, done
    assert set(done.stderr.splitlines()) == {
        f"tusd-py cas: '{files}/a.txt': Permission denied",
        f"tusd-py cas: '{files}/sub': Permission denied",
        "tusd-py cas: 2 could not be stored",
    }
    assert names(store) == ["empty"]


def test_a_deep_tree(store: Store, deep: Path) -> None:
    assert store.run("import", str(deep), "--json").document["stored"] == 1


def test_the_repository_itself_is_left_out(store: Store) -> None:
    """It would grow by that, and its secret would be in it."""
    store.add(CONTENT, "before")
    (store.upload_dir / "notes.txt").write_bytes(b"x")
    document = store.run("import", str(store.upload_dir), "--json").document
    assert (document["stored"], document["skipped"]) == (1, 1)
    assert names(store) == ["before", "notes.txt"]
    assert store.run("import", str(store.path), "--json").document["skipped"] == 1
    assert names(store) == ["before", "notes.txt"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--object=x"],
        ["--object=x", "a", "b"],
        ["--object=", "a"],
        ["--object=x", "--prefix=y", "a"],
        ["--prefix=x"],
        ["--chunk-size=1000", "a"],
        ["--chunk-size=many", "a"],
        ["--level=20", "a"],
    ],
)
def test_misuse(store: Store, arguments: list[str]) -> None:
    ran = store.run("import", *arguments)
    assert (ran.status, ran.output) == (2, "")
    assert not store.path.exists()


def test_an_object_is_one_file(store: Store, files: Path) -> None:
    ran = store.run("import", str(files), "--object=x")
    assert ran.status == 1 and "--object names a single file" in ran.errors


def test_the_repository_is_made_with_the_chunk_size(store: Store, files: Path) -> None:
    store.run("import", str(files), "--chunk-size=64KiB")
    sizes = store.run("stats", "--json").document["chunk_size"]
    assert sizes == {"min": 16384, "average": 65536, "max": 262144}


def test_no_upload_directory(tmp_path: Path, store: Store, files: Path) -> None:
    store.upload_dir.rmdir()
    ran = store.run("import", str(files))
    assert ran.status == 1 and "there is no upload directory" in ran.errors
    assert not store.upload_dir.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a directory of somebody else")
def test_root_does_not_write_for_another_user(store: Store, files: Path) -> None:
    os.chown(store.upload_dir, 12345, 12345)
    ran = store.run("import", str(files))
    assert ran.status == 1 and "belongs to the user with the number 12345" in ran.errors
    assert os.listdir(store.upload_dir) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(store: Store, tmp_path: Path, number: int, status: int) -> None:
    """What has been stored until then is kept, and the next run goes on from there."""
    with (tmp_path / "large").open("wb") as file:
        for block in range(48):
            file.write(random_bytes(8 << 20, block))
    with store.process("import", str(tmp_path / "large")) as process:
        until(lambda: store.path.exists() and len(store.chunk_files()) > 3)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (status, b"")
    assert b"Traceback" not in errors
    assert names(store) == []
    assert store.run("import", str(tmp_path / "large"), "--json").document["stored"] == 1


def test_a_file_that_is_written_to_meanwhile(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(random_bytes(64 << 20))
    with store.process("import", str(path), "--json") as process:
        until(lambda: store.path.exists() and len(store.chunk_files()) > 1)
        with path.open("ab") as file:
            file.write(b"more")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"tusd-py cas: '{path}': it was written to while it was read\n" in errors.decode()
    assert names(store) == []


def test_a_large_file_shows_how_far_it_has_come(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(random_bytes(40 << 20))
    repository = store.open()
    engine = Engine(repository, threads=1)
    told: list[int] = []
    run = ImportRun(repository, engine, is_finished=lambda _: False, failed=lambda *_: None, advance=told.append)
    run.run(files_below([str(path), str(path)], prefix="", name=None, repository=str(store.path)))
    engine.close()
    repository.close()
    assert len(told) > 4 and sum(told) == 2 * (40 << 20)
    assert (run.counts.files, run.counts.unchanged) == (1, 1)
