"""Chunks and contents to fill an index with, and the files that would belong to them, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from blake3 import blake3
from tusd_py_cas.index import Index
from tusd_py_cas.model import LEAF, ChunkRef, Codec, Manifest, Piece, StoredChunk, Version
from tusd_py_cas.sqlite_index import SqliteIndex

REPOSITORY = "0123456789abcdef" * 2


class Clock:
    """A time that tests set."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Files:
    """Which files of chunks there are. Set operations are atomic, so that several threads may use it."""

    def __init__(self) -> None:
        self.present: set[tuple[bytes, Codec]] = set()

    def write(self, chunks: Iterable[StoredChunk]) -> None:
        self.present.update((chunk.name, chunk.codec) for chunk in chunks)

    def exists(self, chunk: StoredChunk) -> bool:
        return (chunk.name, chunk.codec) in self.present

    def remove(self, chunk: StoredChunk) -> None:
        self.remove_form(chunk.name, chunk.codec)

    def remove_form(self, name: bytes, codec: Codec) -> None:
        self.present.discard((name, codec))


def open_index(path: Path, clock: Clock | None = None, *, create: bool = True, durable: bool = False) -> SqliteIndex:
    """Not durable unless asked for: syncing is slow, and only a power cut shows the difference."""
    options = {} if clock is None else {"clock": clock}
    return SqliteIndex.open(str(path), repository_id=REPOSITORY, create=create, durable=durable, **options)


def chunk(number: int, codec: Codec = Codec.RAW) -> StoredChunk:
    """The same number makes the same chunk; sizes are all different up to a thousand."""
    size = 1000 + number % 1000
    stored = size if codec is Codec.RAW else size // 2
    return StoredChunk(blake3(b"chunk %d" % number).digest(), size, stored, codec)


def chunks(*numbers: int) -> list[StoredChunk]:
    return [chunk(number) for number in numbers]


def refs(stored: Iterable[StoredChunk]) -> list[ChunkRef]:
    return [ChunkRef(each.name, each.size) for each in stored]


def yes(stored: StoredChunk) -> bool:
    return True


def store(index: Index, stored: Sequence[StoredChunk]) -> None:
    assert list(index.add_chunks(stored, yes)) == []


def digest(numbers: Iterable[int]) -> bytes:
    return blake3(repr(list(numbers)).encode()).digest()


def add_content(index: Index, numbers: Sequence[int], leaf: int = LEAF) -> Manifest:
    """The content of these chunks, which are stored already, in leaves of so many."""
    wanted = chunks(*numbers)
    leaves = [index.add_leaf(refs(wanted[at : at + leaf])) for at in range(0, len(wanted), leaf)]
    size = sum(each.size for each in wanted)
    return index.add_manifest(size=size, blake3=digest(numbers), sha256=digest(["sha256", *numbers]), leaves=leaves)  # type: ignore[list-item]


def content(index: Index, *numbers: int, leaf: int = LEAF) -> Manifest:
    """The content of these chunks, stored too."""
    store(index, chunks(*numbers))
    return add_content(index, numbers, leaf)


def version(
    index: Index, upload_id: str, manifest: Manifest, object: str = "object", owner: str | None = None, raw: bool = True
) -> Version:
    return index.add_version(
        upload_id=upload_id, object=object, owner=owner, manifest=manifest, metadata={"filename": upload_id}, raw=raw, at=500.0
    )


def numbers_of(pieces: Iterable[Piece], known: range = range(2000)) -> list[int]:
    """The numbers of the chunks of these pieces."""
    numbers = {chunk(number).name: number for number in known}
    return [numbers[piece.chunk.name] for piece in pieces]


def collect(index: Index, files: Files, before: float, at_once: int = 50) -> int:
    """What the collector does; returns how many chunks went."""
    index.sweep(before)
    index.condemn(before)
    buried = 0
    while condemned := index.condemned(at_once):
        buried += index.bury(condemned, files.remove)
    return buried
