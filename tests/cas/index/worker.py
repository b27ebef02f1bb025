"""Somebody who takes contents in and lets go of them again, beside others, and notices everything that is not as it must be.

python -m tests.cas.index.worker DIRECTORY NAME SEED ROUNDS [collect]: works on the index and the files in a directory, tells
after each step what it has done, and ends with `done`. With `collect` it collects, too.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tusd_py_cas.index import Index
from tusd_py_cas.model import ChunksMissing, Codec, Manifest, StoredChunk

from tests.cas.index.support import add_content, chunk, collect, numbers_of, open_index, version

POOL = range(60)
"""Numbers of chunks. So few that everybody wants what others have just let go of."""

FOREVER = 1e12
"""A time before which everything was: the collector takes whatever is not in use at this very moment."""

ATTEMPTS = 500


class DiskFiles:
    """The files of chunks, for several processes: empty ones, for only their names count."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def path(self, name: bytes, codec: Codec) -> Path:
        return self.directory / f"{name.hex()}.{codec.name}"

    def write(self, stored: StoredChunk) -> None:
        self.path(stored.name, stored.codec).touch()

    def exists(self, stored: StoredChunk) -> bool:
        return self.path(stored.name, stored.codec).exists()

    def remove(self, stored: StoredChunk) -> None:
        self.remove_form(stored.name, stored.codec)

    def remove_form(self, name: bytes, codec: Codec) -> None:
        self.path(name, codec).unlink(missing_ok=True)

    def walk(self) -> list[tuple[bytes, Codec]]:
        stems = (entry.name.split(".") for entry in os.scandir(self.directory))
        return [(bytes.fromhex(stem), Codec[codec]) for stem, codec in stems]


def attempts() -> Iterator[int]:
    yield from range(ATTEMPTS)
    raise AssertionError(f"a collector has been faster {ATTEMPTS} times")


class Worker:
    """Takes in what nobody else has the id of, so that it knows what must be there."""

    def __init__(self, index: Index, files: DiskFiles, name: str, seed: int, tell: Callable[[str], None]) -> None:
        self.index, self.files, self.name, self.tell = index, files, name, tell
        self.random = random.Random(seed)
        self.expected: dict[str, list[int]] = {}

    def run(self, rounds: int, *, collecting: bool = False) -> None:
        for round in range(rounds):
            if collecting and round % 3 == 0:
                self.collect()
            if len(self.expected) >= 8 or (self.expected and self.random.random() < 0.3):
                self.drop(self.random.choice(sorted(self.expected)))
            elif len(self.expected) >= 2 and self.random.random() < 0.3:
                self.put_together(f"{self.name}-{round}", self.random.sample(sorted(self.expected), 2))
            else:
                numbers = self.random.choices(POOL, k=self.random.randint(1, 12))
                self.take_in(f"{self.name}-{round}", numbers)
            if self.expected and self.random.random() < 0.3:
                self.note(self.random.choice(sorted(self.expected)))
            self.look()

    def take_in(self, upload_id: str, numbers: list[int]) -> None:
        for _ in attempts():
            try:
                self.store([chunk(n, self.random.choice(list(Codec))) for n in numbers])
                self.finish(upload_id, numbers, add_content(self.index, numbers, leaf=5))
                return
            except ChunksMissing:
                continue

    def store(self, wanted: Sequence[StoredChunk]) -> None:
        known = self.index.find_chunks([each.name for each in wanted])
        missing = [each for each in wanted if each.name not in known]
        for _ in attempts():
            for each in missing:
                self.files.write(each)
            if not (missing := list(self.index.add_chunks(missing, self.files.exists))):
                return

    def put_together(self, upload_id: str, parts: list[str]) -> None:
        found = [self.index.find_version(part) for part in parts]
        numbers = [number for part in parts for number in self.expected[part]]
        for _ in attempts():
            try:
                made = self.index.compose([each.manifest for each in found if each])
                self.finish(upload_id, numbers, made)
                return
            except ChunksMissing:
                continue

    def finish(self, upload_id: str, numbers: list[int], manifest: Manifest) -> None:
        self.tell(f"adding {upload_id} {' '.join(map(str, numbers))}")
        version(self.index, upload_id, manifest, object=self.random.choice("abc"))
        self.tell(f"added {upload_id}")
        self.expected[upload_id] = numbers

    def drop(self, upload_id: str) -> None:
        self.tell(f"dropping {upload_id}")
        assert self.index.drop_version(upload_id)
        self.tell(f"dropped {upload_id}")
        del self.expected[upload_id]

    def note(self, upload_id: str) -> None:
        assert list(self.index.note_vanished([upload_id], 1.0)) == [upload_id]
        self.tell(f"noted {upload_id}")

    def look(self) -> None:
        """Everything of mine is there, and so are the files."""
        for upload_id, numbers in self.expected.items():
            assert_there(self.index, self.files, upload_id, numbers)

    def collect(self) -> None:
        collect(self.index, self.files, FOREVER, at_once=7)  # type: ignore[arg-type]  # it removes, and no more
        self.index.without_row(self.files.walk(), self.files.remove_form)


def assert_there(index: Index, files: DiskFiles, upload_id: str, numbers: list[int]) -> None:
    found = index.find_version(upload_id)
    assert found is not None, upload_id
    pieces = list(index.pieces(found.manifest))
    assert numbers_of(pieces, POOL) == numbers, upload_id
    assert index.is_whole(found.manifest), upload_id
    assert [piece for piece in pieces if not files.exists(piece.chunk)] == [], upload_id


def main() -> None:
    directory, name, seed, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    index = open_index(directory / "index.db")
    worker = Worker(index, DiskFiles(directory / "files"), name, seed, lambda text: print(text, flush=True))
    print("ready", flush=True)
    worker.run(rounds, collecting=sys.argv[5:] == ["collect"])
    index.close()
    print("done", flush=True)


if __name__ == "__main__":
    main()
