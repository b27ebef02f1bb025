"""The standard corpus (tests/support/corpus.py) is the same each time, and is what it is said to be."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path

import pytest

from tests.support.corpus import SMALL, Corpus, corpus, make_corpus

NOWHERE = Path("there is no library here")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), second=NOWHERE)


def digests(made: Corpus) -> dict[str, tuple[str, float]]:
    base = made.parts[0].parent
    return {
        str(path.relative_to(base)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in made.files()
    }


def part(made: Corpus, name: str) -> Path:
    return next(path for path in made.parts if path.name == name)


@pytest.mark.parametrize("second", [NOWHERE, None], ids=["edited", "found"])
def test_twice_is_the_same(made: Corpus, tmp_path: Path, second: Path | None) -> None:
    first = made if second == NOWHERE else make_corpus(tmp_path / "first", second=second)
    again = make_corpus(tmp_path / "again", second=second)
    assert digests(first) == digests(again) and first.second == again.second
    assert len(digests(first)) > 20


def test_another_seed_is_another_corpus_of_the_same_library(made: Corpus, tmp_path: Path) -> None:
    one, other = digests(made), digests(make_corpus(tmp_path, seed=2, second=NOWHERE))
    same = {name for name in one.keys() & other.keys() if one[name] == other[name]}
    assert {name for name in one if name.startswith("library-1/")} | {"library.tar"} <= same
    assert not same & {"random.bin", "text.txt", "compressed.z", "sparse.img", "large.bin", "large-edited.bin"}


def test_the_second_version_has_most_of_the_first(made: Corpus) -> None:
    found = digests(made)
    old, new = (
        {name.partition("/")[2]: digest for name, digest in found.items() if name.startswith(f"{folder}/")}
        for folder in ("library-1", "library-2")
    )
    same = [name for name in old if new.get(name) == old[name]]
    assert 0.8 * len(old) < len(same) < len(old)
    assert "edited" in made.second


def test_archives(made: Corpus) -> None:
    with tarfile.open(part(made, "library.tar")) as plain, tarfile.open(part(made, "library-added.tar")) as added:
        names, more = set(plain.getnames()), set(added.getnames())
    assert names == {
        f"library/{path.relative_to(made.parts[0])}" for path in made.files() if path.is_relative_to(made.parts[0])
    }
    assert names < more and all(name.endswith(".added") for name in more - names)


@pytest.mark.parametrize(("name", "of"), [("large-edited.bin", "large.bin"), ("library-edited.tar", "library.tar")])
def test_edits_leave_almost_everything(made: Corpus, name: str, of: str) -> None:
    edited, original = part(made, name).read_bytes(), part(made, of).read_bytes()
    assert edited != original
    assert abs(len(edited) - len(original)) < 64 * 100
    pieces = [original[start : start + 1024] for start in range(0, len(original) - 1024, 1024)]
    assert sum(piece in edited for piece in pieces[::16]) > 0.85 * len(pieces[::16])


def test_what_compresses_and_what_does_not(made: Corpus) -> None:
    def ratio(name: str) -> float:
        data = part(made, name).read_bytes()
        return len(zlib.compress(data, 1)) / len(data)

    assert ratio("random.bin") > 0.99 and ratio("large.bin") > 0.99 and ratio("compressed.z") > 0.95
    assert ratio("text.txt") < 0.5


def test_the_sparse_file_has_holes(made: Corpus) -> None:
    path = part(made, "sparse.img")
    assert path.stat().st_size == SMALL.generated
    zeros = path.read_bytes().count(0)
    assert SMALL.generated / 4 < zeros < SMALL.generated


def test_all_files_of_it_can_be_had_at_once(tmp_path: Path) -> None:
    files = corpus(tmp_path)
    assert set(files) == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == len(set(files))


def test_no_links(made: Corpus) -> None:
    assert all(not path.is_symlink() and path.stat().st_nlink == 1 for path in made.files())
