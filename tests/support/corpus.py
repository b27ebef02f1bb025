"""The standard corpus: files on which storage that deduplicates is tested and measured. Made offline, and the same every time.

Its ground is real: Python's standard library as the machine has it, in two versions. If there is another interpreter beside the
one that runs this, its library is the second version; otherwise a tenth of the files is edited, renamed or dropped by rule
(`Corpus.second` says which it was). The rest is generated from the seed. There are no links, and all times are the same.
"""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import sys
import sysconfig
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LARGE", "SMALL", "Corpus", "Scale", "corpus", "edit_file", "make_corpus", "text", "write_random"]

MTIME = 1_600_000_000
PIECE = 1 << 20
LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages"})
"""Folders that are no part of the library, or are made by running it."""

WORDS = 4000
LARGE_EDITS = 100
TAR_EDITS = 20
ISLANDS = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """Bytes: of a generated file, and how much of each version of the library there is (None: all of it)."""

    generated: int
    library: int | None


SMALL = Scale(1 << 20, 4 << 20)
LARGE = Scale(128 << 20, None)


@dataclass(frozen=True, slots=True)
class Corpus:
    """`parts` in the order in which they are best stored: each is a file or a folder, and has much in common with those before
    it. `second` says what the second version of the library is."""

    parts: tuple[Path, ...]
    second: str

    def files(self) -> list[Path]:
        """All files, in order."""
        return [file for part in self.parts for file in ([part] if part.is_file() else _below(part))]


def corpus(directory: Path, scale: Scale = SMALL, seed: int = 1) -> list[Path]:
    """Make the corpus in `directory`, which is made too; all its files, in order."""
    return make_corpus(directory, scale, seed).files()


def make_corpus(directory: Path, scale: Scale = SMALL, seed: int = 1, second: Path | None = None) -> Corpus:
    """Make the corpus in `directory`, which is made too.

    `second` is the library that serves as the second version; None looks for one, and a path without `os.py` makes it edit.
    """
    directory.mkdir(parents=True, exist_ok=True)
    first = Path(sysconfig.get_path("stdlib"))
    other = _another_library(first) if second is None else second
    old, new = directory / "library-1", directory / "library-2"
    _copy_library(first, old, scale.library)
    if other is not None and _is_library(other):
        _copy_library(other, new, scale.library)
        told = f"the library of another interpreter ({_version(other)} beside {_version(first)})"
    else:
        _edit_library(old, new, seed)
        told = f"the library of {_version(first)} with a tenth of its files edited, renamed or dropped"
    return Corpus((old, new, *_tars(directory, old, new, seed), *_generated(directory, scale.generated, seed)), told)


# The library


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_library(path: Path) -> bool:
    return (path / "os.py").is_file()


def _version(library: Path) -> str:
    """3.12, of a folder named python3.12; the running interpreter's is known to the last digit."""
    if library == Path(sysconfig.get_path("stdlib")):
        return ".".join(map(str, sys.version_info[:3]))
    return library.name.removeprefix("python")


def _another_library(first: Path) -> Path | None:
    """The library whose version is nearest to the first's, the newer of two: where Debian has them, or beside the first."""
    folders = [Path("/usr/lib"), Path("/usr/local/lib"), *sorted(first.parents[2].glob("*/lib"))]
    found = {path for folder in folders for path in folder.glob("python3.*") if _is_library(path) and path.name != first.name}
    ours = sys.version_info.minor

    def distance(path: Path) -> tuple[int, int, str]:
        minor = int((re.match(r"python3\.(\d+)", path.name) or [0, 0])[1])
        return abs(minor - ours), -minor, str(path)

    return min(found, key=distance, default=None)


def _library_files(library: Path, limit: int | None) -> Iterator[Path]:
    """Files of the library, relative to it, in order, until they have `limit` bytes."""
    total = 0
    for path in _below(library):
        relative = path.relative_to(library)
        if LEFT_OUT.intersection(relative.parts):
            continue
        total += path.stat().st_size
        if limit is not None and total > limit:
            return
        yield relative


def _copy_library(library: Path, target: Path, limit: int | None) -> None:
    for relative in _library_files(library, limit):
        _write(target / relative, (library / relative).read_bytes())


def _edit_library(old: Path, new: Path, seed: int) -> None:
    """A tenth of the files, chosen by name: some lines are taken out of most of them and others put in, the rest of them get
    another name or are left out."""
    for path in _below(old):
        relative = path.relative_to(old)
        chance = random.Random(f"{seed} {relative}")
        data = path.read_bytes()
        if chance.random() < 0.1:
            change = chance.random()
            if change < 0.1:
                continue
            if change < 0.2:
                relative = relative.with_name(f"renamed_{relative.name}")
            else:
                data = _edit_lines(data, chance)
        _write(new / relative, data)


def _edit_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(1 + len(lines) // 200):
        place = chance.randrange(len(lines) + 1)
        lines[place : place + chance.randrange(3)] = [f"# edited {chance.randrange(10**9)}\n".encode()] * chance.randrange(3)
    return b"".join(lines)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    _settle(path)


def _settle(path: Path) -> None:
    path.chmod(0o644)
    os.utime(path, (MTIME, MTIME))


# Archives


def _tars(directory: Path, old: Path, new: Path, seed: int) -> list[Path]:
    """The first version as an archive; the same with files of the second among them; the first archive with small edits."""
    plain, added, edited = (directory / f"library{which}.tar" for which in ("", "-added", "-edited"))
    members = {str(Path("library") / path.relative_to(old)): path for path in _below(old)}
    more = [path for path in _below(new) if random.Random(f"{seed} added {path.relative_to(new)}").random() < 0.02]
    _tar(plain, members)
    _tar(added, members | {str((Path("library") / path.relative_to(new)).with_suffix(".added")): path for path in more})
    edit_file(plain, edited, TAR_EDITS, random.Random(f"{seed} tar"))
    return [plain, added, edited]


def _tar(target: Path, members: dict[str, Path]) -> None:
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(members):
            data = members[name].read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), MTIME, 0o644
            archive.addfile(member, io.BytesIO(data))
    _settle(target)


# Generated files


def _generated(directory: Path, size: int, seed: int) -> list[Path]:
    names = ("random.bin", "text.txt", "compressed.z", "sparse.img", "large.bin", "large-edited.bin")
    noise, words, packed, sparse, large, edited = (directory / name for name in names)
    write_random(noise, size, random.Random(f"{seed} noise"))
    words.write_bytes(text(size // 4, random.Random(f"{seed} words")))
    packed.write_bytes(zlib.compress(text(size // 4, random.Random(f"{seed} other words")), 6))
    _write_sparse(sparse, size, random.Random(f"{seed} sparse"))
    write_random(large, 2 * size, random.Random(f"{seed} large"))
    edit_file(large, edited, LARGE_EDITS, random.Random(f"{seed} edits"))
    made = [noise, words, packed, sparse, large, edited]
    for path in made:
        _settle(path)
    return made


def write_random(path: Path, size: int, chance: random.Random) -> None:
    """`size` bytes that nothing can compress."""
    with path.open("wb") as file:
        for start in range(0, size, PIECE):
            file.write(chance.randbytes(min(PIECE, size - start)))


def text(size: int, chance: random.Random) -> bytes:
    """`size` bytes of sentences of made-up words, some frequent and most rare, which zstd makes about a third of."""
    letters = "eeeeetttaaaooiinnsshhrrddlluucmfwygpbvk"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    pieces, total = [], 0
    while total < size:
        sentences = " ".join(chance.choices(words, weights, k=10_000)) + ".\n"
        pieces.append(sentences.encode())
        total += len(sentences)
    return b"".join(pieces)[:size]


def _write_sparse(path: Path, size: int, chance: random.Random) -> None:
    """Islands of 64 KiB at most in holes."""
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(ISLANDS):
            file.seek(chance.randrange(size))
            file.write(chance.randbytes(min(1 << 16, size - file.tell())))


def edit_file(source: Path, target: Path, edits: int, chance: random.Random) -> None:
    """`source` with `edits` insertions or deletions of 1 to 64 bytes each, spread over it."""
    size = source.stat().st_size
    places = sorted(chance.sample(range(size), edits))
    with source.open("rb") as old, target.open("wb") as new:
        for place in places:
            _copy(old, new, place - old.tell())
            count = chance.randint(1, 64)
            if chance.random() < 0.5:
                new.write(chance.randbytes(count))
            else:
                old.seek(min(place + count, size))
        shutil.copyfileobj(old, new, PIECE)
    _settle(target)


def _copy(old: io.BufferedReader, new: io.BufferedWriter, count: int) -> None:
    """Nothing where `count` is negative: an edit that begins inside of what the one before it has deleted."""
    while count > 0:
        data = old.read(min(PIECE, count))
        new.write(data)
        count -= len(data)
