"""`export --restore`: an upload directory that tusd can take over again."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tusd_py_cas.commands import restoring
from tusd_py_cas.commands.placing import place_new, replace_existing

from tests.cas.commands.conftest import Store, random_bytes
from tests.cas.commands.test_import_uploads import put
from tests.conftest import StartServer
from tests.support.mounts import mounted_tmpfs, requires_mounts
from tests.support.waiting import until
from tusd_py.protocol.metadata import Metadata

CONTENT = random_bytes(300_000)


def take_away(store: Store, upload_id: str, content: bytes = CONTENT, **facts: Any) -> Path:
    """An upload whose bytes are in the repository alone, as a server with -cas=replace leaves it; returns where they were."""
    path = put(store, upload_id, content, **facts)
    assert store.run("import").status == 0
    path.unlink()
    put(store, upload_id, None, **{"length": len(content), "path": path, **facts, "storage": {"Type": "cas"}})
    return path


def record(store: Store, upload_id: str) -> Any:
    return json.loads((store.upload_dir / f"{upload_id}.info").read_text())


def outcomes(store: Store, *ids: str) -> dict[str, str]:
    ran = store.run("export", "--restore", "--json", *ids)
    assert (ran.status, ran.errors) == (0, "")
    return {line["upload"]: line["outcome"] for line in ran.lines}


def refusal(store: Store, *ids: str) -> str:
    ran = store.run("export", "--restore", *ids)
    assert ran.status == 1
    return ran.errors


def test_files_come_back_where_they_were(store: Store) -> None:
    elsewhere = store.upload_dir / "by-a-hook" / "x"
    take_away(store, "plain")
    take_away(store, "in/a/directory")
    take_away(store, "elsewhere", path=elsewhere)
    take_away(store, "empty", b"")
    elsewhere.parent.rmdir()
    assert set(outcomes(store).values()) == {"restored"}
    for path in (store.upload_dir / "plain", store.upload_dir / "in/a/directory", elsewhere):
        assert path.read_bytes() == CONTENT
    assert (store.upload_dir / "empty").read_bytes() == b""
    assert set(outcomes(store).values()) == {"there"}


def test_nothing_is_left_beside_them(store: Store) -> None:
    take_away(store, "id")
    before = {str(path) for path in store.upload_dir.rglob("*")}
    outcomes(store)
    after = {str(path) for path in store.upload_dir.rglob("*")}
    assert after - before <= {str(store.upload_dir / "id"), str(store.upload_dir / ".tusd-py" / "tmp")}
    assert os.listdir(store.upload_dir / ".tusd-py" / "tmp") == []


def test_the_record_says_so_and_keeps_the_rest(store: Store) -> None:
    facts = {"metadata": Metadata({"filename": b"\xff"}), "owner": "ann", "partials": ("a", "b"), "concat": "final;/files/a"}
    take_away(store, "id", **facts)
    before = record(store, "id")
    path = store.upload_dir / "id.info"
    path.chmod(0o640)
    os.utime(path, (1e9, 1e9))
    outcomes(store)
    assert before["Storage"]["Type"] == "cas"
    before["Storage"]["Type"] = "filestore"
    assert record(store, "id") == before
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((store.upload_dir / "id").stat().st_mode) == 0o640
    assert path.stat().st_mtime == 1e9


def test_a_server_knows_the_file_as_what_the_version_was_made_of(store: Store) -> None:
    for number in range(50):
        put(store, f"id{number}", b"x")
    store.run("import")
    for number in range(50):
        (store.upload_dir / f"id{number}").unlink()
    outcomes(store)
    repository = store.open()
    for version in repository.index.versions():
        assert (store.upload_dir / version.upload_id).stat().st_mtime == version.created_at
    repository.close()


def test_a_path_outside_gives_way_to_the_usual_one(store: Store, tmp_path: Path) -> None:
    """A directory that was moved, or a record that somebody has edited."""
    take_away(store, "id")
    path = store.upload_dir / "id.info"
    path.write_text(path.read_text().replace(str(store.upload_dir / "id"), str(tmp_path / "outside")))
    assert outcomes(store) == {"id": "restored"}
    assert (store.upload_dir / "id").read_bytes() == CONTENT
    assert not (tmp_path / "outside").exists()
    assert record(store, "id")["Storage"]["Path"] == str(store.upload_dir / "id")


@pytest.mark.parametrize("path", ["../outside", ".tusd-py/x", "id.info", "\0"])
def test_other_paths_that_can_t_be(store: Store, path: str) -> None:
    take_away(store, "id")
    put(store, "id", None, length=len(CONTENT), storage={"Type": "cas", "Path": path})
    assert outcomes(store) == {"id": "restored"}
    assert (store.upload_dir / "id").read_bytes() == CONTENT


def test_a_file_at_the_usual_place(store: Store) -> None:
    take_away(store, "id", path=store.upload_dir / "before" / "x")
    (store.upload_dir / "id").write_bytes(CONTENT)
    assert outcomes(store) == {"id": "corrected"}
    assert not (store.upload_dir / "before" / "x").exists()
    assert record(store, "id")["Storage"]["Path"] == str(store.upload_dir / "id")


def test_named_ones_only(store: Store) -> None:
    take_away(store, "one")
    take_away(store, "two")
    assert outcomes(store, "two") == {"two": "restored"}
    assert not (store.upload_dir / "one").exists()


def test_what_exists_is_not_touched(store: Store) -> None:
    take_away(store, "id")
    (store.upload_dir / "id").write_bytes(b"something else")
    assert "exists, and has 14 bytes instead of 300000" in refusal(store)
    assert (store.upload_dir / "id").read_bytes() == b"something else"
    assert record(store, "id")["Storage"]["Type"] == "cas"


def test_a_directory_or_a_dangling_link_in_its_place(store: Store) -> None:
    take_away(store, "id")
    (store.upload_dir / "id").mkdir()
    assert "is no file" in refusal(store)
    (store.upload_dir / "id").rmdir()
    (store.upload_dir / "id").symlink_to("nowhere")
    assert "is a link that leads nowhere" in refusal(store)


def test_a_file_that_appears_meanwhile_is_not_touched(store: Store) -> None:
    path = store.upload_dir / "id"

    def content() -> Any:
        path.write_bytes(b"old")
        yield b"new"

    like = store.upload_dir.stat()
    with pytest.raises(FileExistsError):
        place_new(str(store.upload_dir), str(path), content(), like=like, modified_ns=0, over_empty=False)
    assert path.read_bytes() == b"old"
    assert os.listdir(store.upload_dir / ".tusd-py" / "tmp") == []


def test_after_a_crash_between_file_and_record(store: Store) -> None:
    take_away(store, "id")
    (store.upload_dir / "id").write_bytes(CONTENT)
    assert outcomes(store) == {"id": "corrected"}
    assert record(store, "id")["Storage"]["Type"] == "filestore"


def test_the_empty_file_of_a_final_that_was_composed(store: Store) -> None:
    take_away(store, "id", partials=("a", "b"))
    (store.upload_dir / "id").touch()
    assert outcomes(store) == {"id": "restored"}
    assert (store.upload_dir / "id").read_bytes() == CONTENT


def test_an_empty_file_that_the_record_counts_on(store: Store) -> None:
    put(store, "id")
    assert store.run("import").status == 0
    (store.upload_dir / "id").write_bytes(b"")
    assert "exists, and has 0 bytes" in refusal(store)


def test_a_file_that_was_lost(store: Store) -> None:
    put(store, "id")
    assert store.run("import").status == 0
    (store.upload_dir / "id").unlink()
    assert outcomes(store) == {"id": "restored"}


def test_what_was_deleted_stays_deleted(store: Store) -> None:
    take_away(store, "id")
    (store.upload_dir / "id.info").unlink()
    store.add(b"x", upload=".import-0123")
    assert outcomes(store) == {"id": "gone", ".import-0123": "gone"}
    assert "'id': has no record" in refusal(store, "id")
    assert not (store.upload_dir / "id").exists()


def test_what_is_deleted_meanwhile_stays_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(store, "id")

    def delete(*_: object, **__: object) -> None:
        place_new(*_, **__)  # type: ignore[arg-type]
        (store.upload_dir / "id.info").unlink()

    monkeypatch.setattr(restoring, "place_new", delete)
    assert outcomes(store) == {"id": "gone"}
    assert not (store.upload_dir / "id").exists() and not (store.upload_dir / "id.info").exists()


def test_a_record_is_exchanged_only_for_another(store: Store) -> None:
    path = store.upload_dir / "x.info"
    like = store.upload_dir.stat()
    assert not replace_existing(str(store.upload_dir), str(path), b"new", like=like)
    assert not path.exists()
    path.write_bytes(b"old")
    assert replace_existing(str(store.upload_dir), str(path), b"new", like=like)
    assert path.read_bytes() == b"new"


def test_what_is_not_stored(store: Store) -> None:
    take_away(store, "id")
    assert "'nothing': is not stored in the repository" in refusal(store, "nothing")
    assert "'../../etc/passwd': is not stored" in refusal(store, "../../etc/passwd")


def test_another_length_in_the_record(store: Store) -> None:
    take_away(store, "id")
    put(store, "id", None, length=5, storage={"Type": "cas"})
    assert "its record says 5 bytes, and what is stored has 300000" in refusal(store)


def test_damage_of_one_does_not_keep_the_others(store: Store) -> None:
    take_away(store, "a", b"aaaa")
    store.flip_a_bit()
    take_away(store, "b", b"bbbb")
    ran = store.run("export", "--restore", "--json")
    assert ran.status == 1
    assert [(line["upload"], line["outcome"]) for line in ran.lines] == [("a", None), ("b", "restored")]
    assert ran.lines[0]["error"].startswith("chunk ")
    assert not (store.upload_dir / "a").exists()


@pytest.mark.root
def test_a_directory_on_another_file_system(store: Store) -> None:
    requires_mounts()
    with mounted_tmpfs(store.upload_dir / "other", "size=8m"):
        take_away(store, "other/id")
        assert outcomes(store) == {"other/id": "restored"}
        assert (store.upload_dir / "other" / "id").read_bytes() == CONTENT
        assert sorted(os.listdir(store.upload_dir / "other")) == ["id", "id.info"]


@pytest.mark.root
def test_a_full_disk(store: Store) -> None:
    requires_mounts()
    with mounted_tmpfs(store.upload_dir / "other", "size=128k"):
        put(store, "id")
        store.run("import")
        (store.upload_dir / "id").unlink()
        put(store, "id", None, length=len(CONTENT), path=store.upload_dir / "other" / "x", storage={"Type": "cas"})
        assert "No space left on device" in refusal(store)
        assert not (store.upload_dir / "other" / "x").exists()
        assert record(store, "id")["Storage"]["Type"] == "cas"


def test_back_from_a_server_that_replaces_files(store: Store, start_server: StartServer) -> None:
    server = start_server("-cas=replace", upload_dir=store.upload_dir)
    client = server.client()
    path = client.create(len(CONTENT), CONTENT)
    upload_id = path.rpartition("/")[2]
    until(lambda: not (store.upload_dir / upload_id).exists(), what="the file to be replaced")
    assert outcomes(store) == {upload_id: "restored"}
    assert client.get(path).body == CONTENT
    server.terminate()
    assert (store.upload_dir / upload_id).read_bytes() == CONTENT
    plain = start_server(upload_dir=store.upload_dir)
    assert plain.client().get(path).body == CONTENT
