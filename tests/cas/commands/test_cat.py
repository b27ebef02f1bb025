"""`cat`: the bytes that were asked for, and no others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cas.commands.conftest import Store, random_bytes

CONTENT = random_bytes(600_000)


@pytest.mark.parametrize("what", ["some-id", "report", "report@1"])
def test_by_each_name(store: Store, what: str) -> None:
    store.add(CONTENT, "report", upload="some-id")
    assert store.bytes_of("cat", what) == (0, CONTENT, "")


def test_the_latest_version_and_earlier_ones(store: Store) -> None:
    for content in (b"one", b"two", b"three"):
        store.add(content, "report")
    assert [store.bytes_of("cat", what)[1] for what in ("report", "report@1", "report@2")] == [b"three", b"one", b"two"]


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [("0-9", 0, 10), ("70000-400000", 70_000, 400_001), ("599999-", 599_999, 600_000), ("-5", 599_995, 600_000)],
)
def test_ranges(store: Store, wanted: str, begin: int, end: int) -> None:
    store.add(CONTENT, upload="id")
    assert store.bytes_of("cat", "id", f"--range={wanted}") == (0, CONTENT[begin:end], "")


def test_an_empty_content(store: Store) -> None:
    store.add(b"", upload="id")
    assert store.bytes_of("cat", "id") == (0, b"", "")
    assert store.bytes_of("cat", "id", "--range=0-") == (0, b"", "")


def test_a_range_behind_the_end(store: Store) -> None:
    store.add(b"hello", upload="id")
    status, output, errors = store.bytes_of("cat", "id", "--range=5-")
    assert (status, output, errors) == (1, b"", "tusd-py cas: the range '5-' begins behind the end: there are 5 bytes\n")


def test_a_range_that_is_none(store: Store) -> None:
    store.add(b"hello", upload="id")
    ran = store.run("cat", "id", "--range=3-1")
    assert (ran.status, ran.output) == (2, "") and "--range: '3-1' is no range" in ran.errors


def test_an_id_is_an_id_whatever_objects_are_called(store: Store) -> None:
    store.add(b"mine", "report", upload="id")
    store.add(b"theirs", "id")
    assert store.bytes_of("cat", "id")[1] == b"mine"
    assert store.bytes_of("cat", "id@1")[1] == b"theirs"


def test_an_object_that_is_called_like_a_version(store: Store) -> None:
    store.add(b"true", "report", upload="first")
    store.add(b"false", "report@1", upload="second")
    ran = store.run("cat", "report@1")
    assert (ran.status, ran.output) == (2, "")
    assert "expected the id of the upload, one of second, first" in ran.errors
    assert store.bytes_of("cat", "first")[1] == b"true"
    assert store.bytes_of("cat", "report@1@1")[1] == b"false"


def test_objects_of_several_owners(store: Store) -> None:
    store.add(b"mine", "report", owner="me")
    store.add(b"yours", "report", owner="you", upload="id")
    ran = store.run("cat", "report")
    assert (ran.status, ran.output) == (2, "") and "expected --owner, one of 'me', 'you'" in ran.errors
    assert store.bytes_of("cat", "report", "--owner=you")[1] == b"yours"
    assert store.run("cat", "id", "--owner=me").status == 1


@pytest.mark.parametrize("what", ["nothing", "report@2", "report@0", "../../etc/passwd", ""])
def test_what_there_is_not(store: Store, what: str) -> None:
    store.add(b"x", "report")
    ran = store.run("cat", "--", what)
    assert (ran.status, ran.output) == (1, "")
    assert ran.errors == f"tusd-py cas: there is no upload, object or version {what!r}\n"


def test_a_damaged_chunk_ends_it_before_any_wrong_byte(store: Store) -> None:
    store.add(CONTENT, upload="id")
    store.flip_a_bit()
    status, output, errors = store.bytes_of("cat", "id")
    assert status == 1
    assert len(output) < len(CONTENT) and CONTENT.startswith(output)
    assert errors.startswith("tusd-py cas: chunk ") and errors.count("\n") == 1


def test_a_range_beside_the_damage(store: Store) -> None:
    store.add(CONTENT, upload="id")
    damaged = store.flip_a_bit().name[:64]
    repository = store.open()
    version = repository.index.find_version("id")
    assert version is not None
    whole = next(piece for piece in repository.index.pieces(version.manifest) if piece.chunk.name.hex() != damaged)
    repository.close()
    end = whole.start + whole.chunk.size
    assert store.bytes_of("cat", "id", f"--range={whole.start}-{end - 1}") == (0, CONTENT[whole.start : end], "")


def test_a_reader_who_has_seen_enough(store: Store) -> None:
    store.add(CONTENT, upload="id")
    command = (
        f"{sys.executable} -m tusd_py cas cat id -upload-dir={store.upload_dir} 2>&1 | head -c 10; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, CONTENT[:10])


def test_a_full_disk(store: Store) -> None:
    store.add(CONTENT, upload="id")
    command = f"{sys.executable} -m tusd_py cas cat id -upload-dir={store.upload_dir} > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "tusd-py cas: the output could not be written: No space left on device\n"
