"""What the repository asks of its index: which chunks there are, and what contents are made of. SQLite's is `sqlite_index`;
another database can take its place.

Every method is one transaction (those that iterate, and the first two steps of the collector, are several short ones), durable
on return where it writes, and may be called by several threads and processes at once. All block. Failures are
`tusd_py.ports.failures`' `StorageFailure` and `OutOfSpace` (then nothing has changed) and `IndexDamaged`. Times are seconds
since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tusd_py_cas.model import ChunkRef, ChunksMissing, Codec, IndexDamaged, Manifest, Piece, State, StoredChunk, Version

__all__ = ["Index", "NewContent", "Swept", "Totals", "Unused"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes: `logical` what all versions have, `unique` what their chunks have, each once, `stored` what these take on disk.
    `chunk_bytes` is what all `chunks` have, in use or not, `unused` stored bytes of those that nothing refers to; `damaged`
    counts chunks, `vanished` versions whose upload is missing."""

    objects: int = 0
    versions: int = 0
    manifests: int = 0
    chunks: int = 0
    chunk_bytes: int = 0
    logical: int = 0
    unique: int = 0
    stored: int = 0
    unused: int = 0
    damaged: int = 0
    vanished: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """What `sweep` dropped."""

    manifests: int = 0
    leaves: int = 0


@dataclass(frozen=True, slots=True)
class Unused:
    """What a collector would take: `stored` are the bytes on disk of the chunks."""

    manifests: int = 0
    leaves: int = 0
    chunks: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True)
class NewContent:
    """What is to become a manifest: the leaves and, behind them, `chunks` that are in no leaf yet, `LEAF` at most."""

    size: int
    blake3: bytes
    sha256: bytes
    leaves: Sequence[int]
    chunks: Sequence[ChunkRef]


class Index(Protocol):
    # Chunks

    def find_chunks(self, names: Sequence[bytes]) -> Mapping[bytes, StoredChunk]:
        """Those that are stored (LIVE), by name."""

    def add_chunks(self, chunks: Sequence[StoredChunk], exists: Callable[[StoredChunk], bool]) -> Sequence[StoredChunk]:
        """Count chunks as stored whose files have been written and synced, whatever state they were in. Returns those that
        `exists`, which is asked inside the transaction, denies: a collector took them in between, and they are to be written
        again. A chunk that is LIVE already stays as it is, codec and size included, unless `exists` denies that form: somebody
        with another compressor has replaced its file."""

    def mark_damaged(self, names: Sequence[bytes]) -> None:
        """LIVE chunks become DAMAGED."""

    def all_chunks(self, after: bytes = b"", limit: int = 1000) -> Sequence[tuple[StoredChunk, State]]:
        """Chunks in any state in the order of their names, those behind `after`. Rows that do not fit their seal are left out;
        `check` tells of them."""

    # Contents

    def add_leaf(self, chunks: Sequence[ChunkRef]) -> int:
        """A new leaf of at most `LEAF` chunks. Raises `ChunksMissing` where some are not LIVE."""

    def add_manifest(self, *, size: int, blake3: bytes, sha256: bytes, leaves: Sequence[int]) -> Manifest:
        """The manifest of this content, new or, where there is one of this name already, that one (the leaves are then left
        to the collector). If that one or a leaf of it is damaged, it is put right by what is given, with all that it is a part
        of. An empty content has no leaves. Raises `ChunksMissing` where a leaf is gone."""

    def add_contents(self, contents: Sequence[NewContent]) -> Sequence[Manifest | ChunksMissing | IndexDamaged]:
        """`add_leaf` and `add_manifest` for several contents in one transaction; what one of them would have raised is in the
        place of that manifest."""

    def compose(self, manifests: Sequence[Manifest]) -> Manifest:
        """The content that these make one behind the other. Costs as much as they have leaves. One that is there and damaged is
        put right, its leaves excepted. Raises `ChunksMissing`; `IndexDamaged` where one of these is damaged."""

    def find_manifest(self, name: bytes) -> Manifest | None:
        """By its name. Raises `IndexDamaged`."""

    def find_content_starting_with(self, name: bytes, size: int) -> Manifest | None:
        """A content that was not composed and whose first chunk is this one; best one of `size` bytes. A hint for ingest, which
        may miss some where there are many. Raises `IndexDamaged`."""

    def undigested(self, limit: int = 100) -> Sequence[Manifest | IndexDamaged]:
        """Composed contents whose digests are not known and that some version has. In the place of one that is damaged is what
        is wrong with it."""

    def set_digests(self, manifest: Manifest, *, blake3: bytes, sha256: bytes) -> None:
        """What the bytes of a composed manifest have been found to have. Raises `RepositoryError` where it is gone."""

    def pieces(self, manifest: Manifest, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        """The chunks that have bytes of [start, end), in order; they may begin before and end behind. DAMAGED ones are among
        them. Reads but the leaves concerned. Raises `IndexDamaged`, `RepositoryError` where the manifest is gone."""

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether it can be read from the first byte to the last, as far as the index knows: all that says what it is made of
        fits its seal, and all its chunks are LIVE. Linear in their number. Raises `RepositoryError` where it is gone."""

    # Objects and versions

    def add_version(
        self,
        *,
        upload_id: str,
        object: str,
        owner: str | None,
        manifest: Manifest,
        metadata: Mapping[str, str],
        raw: bool,
        at: float,
    ) -> Version:
        """Make the upload the next version of an object. An upload that is one already stays it, if its content is the same;
        otherwise (its id was used again, or what it was is damaged) that version goes. It is not missing any more, if it was.
        Raises `ChunksMissing` where the manifest is gone."""

    def find_version(self, upload_id: str) -> Version | None:
        """What this upload has become. Raises `IndexDamaged`."""

    def drop_version(self, upload_id: str) -> bool:
        """Let go of an upload's content; whether there was any. The object goes with its last version; numbers of versions are
        not used again while the object lives."""

    def clear_raw(self, upload_id: str) -> None:
        """The upload's own file is gone."""

    def with_raw(self, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Ids of uploads whose own file may still be there, in order, those behind `after`."""

    def versions(self, object: str | None = None, owner: str | None = None) -> Iterator[Version | IndexDamaged]:
        """All versions in the order of object, owner, number; of one object (of any owner, unless one is given). In the place
        of one that is damaged is what is wrong with it: it hides no other. Raises `IndexDamaged` where none can be read."""

    def uploads(self, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Ids of uploads that versions are of, in order, those behind `after`; without what was made up for imported files,
        which begins with `IMPORTED`, or is `import-` and 32 hexadecimal digits."""

    def without_version(self, upload_ids: Sequence[str]) -> Sequence[str]:
        """Those that no version is of, in the given order. A thousand take 0.3 ms."""

    # Versions whose upload is missing: it was removed while nobody told, or is about to come

    def note_vanished(self, upload_ids: Sequence[str], at: float) -> Mapping[str, float]:
        """The records of these uploads have been found missing at `at`. Tells since when, for each that has a version: that is
        `at`, or earlier where it was noted before."""

    def note_present(self, upload_ids: Sequence[str]) -> None:
        """They are not missing (any more). Nobody who writes is waited for where none of them was."""

    def vanished(self, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Ids of uploads that are missing and have a version, in order, those behind `after`."""

    # Keeping house

    def sweep(self, before: float) -> Swept:
        """Drop manifests that no version has, that none has had since `before`, and that nobody has asked for since (by
        `add_manifest` or `compose`); then leaves from before that no manifest has."""

    def condemn(self, before: float) -> int:
        """CONDEMN chunks that no leaf has and that have not changed since `before`; returns how many. Durable on return: only
        then may files go."""

    def condemned(self, limit: int = 1000) -> Sequence[StoredChunk]:
        """Chunks that are CONDEMNED."""

    def bury(self, chunks: Sequence[StoredChunk], remove: Callable[[StoredChunk], None]) -> int:
        """Drop those that are still CONDEMNED and that no leaf has; `remove` is called for each inside the transaction, while
        nobody can add chunks. Returns how many. What `remove` raises undoes the transaction."""

    def without_row(
        self, files: Sequence[tuple[bytes, Codec]], remove: Callable[[bytes, Codec], None] | None
    ) -> Sequence[tuple[bytes, Codec]]:
        """The forms of chunks that no row in any state has; a chunk that was stored again with another codec has left its old
        one behind. `remove` is called for each while nobody can add chunks; with None they are only told."""

    def unused(self, before: float) -> Unused:
        """What `sweep`, `condemn` and `bury` would come to."""

    def check(self, progress: Callable[[int], None] | None = None) -> Iterator[str]:
        """Everything that is wrong with the index, a sentence each: the database's own integrity, every seal, every reference.
        `progress` is told how many more rows have been looked at."""

    def mend(self) -> int:
        """Put right what can be without the bytes of any content, and return how much that was, 0 for nothing. If all versions
        are sound, and all that they are made of, damaged rows that nothing needs are dropped; as long as one is not, no row is.
        Looks through everything. Raises `IndexDamaged` where it can't."""

    def totals(self) -> Totals:
        """For statistics; linear in the number of chunks."""

    def chunk_sizes(self) -> Mapping[int, int]:
        """How many chunks have a size of [2^k, 2^(k+1)), by k."""

    def hurry(self) -> None:
        """From now on nobody waits long for other processes that write, who waits already included: that fails with
        `StorageFailure`. Does not block."""

    def close(self) -> None:
        """Let go. Idempotent."""
