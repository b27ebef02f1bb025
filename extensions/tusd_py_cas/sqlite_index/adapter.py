"""The port `Index` on SQLite: which statements make up which transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Self

from tusd_py_cas.index import NewContent
from tusd_py_cas.model import (
    LEAF,
    ChunkRef,
    ChunksMissing,
    IndexDamaged,
    Manifest,
    Piece,
    State,
    StoredChunk,
    Version,
)
from tusd_py_cas.sqlite_index import chunks as chunk_rows
from tusd_py_cas.sqlite_index import leaves as leaf_rows
from tusd_py_cas.sqlite_index import manifests as manifest_rows
from tusd_py_cas.sqlite_index import objects as object_rows
from tusd_py_cas.sqlite_index import vanished as vanished_rows
from tusd_py_cas.sqlite_index.connections import Connections
from tusd_py_cas.sqlite_index.recent import Recent
from tusd_py_cas.sqlite_index.upkeep import Upkeep

__all__ = ["SqliteIndex"]

_LEAVES_KEPT = 64 * LEAF
"""Chunks in leaves that are kept in memory: some 10 MiB."""

_NODES_KEPT = 64 * 1024
"""Leaves in manifests that are kept in memory: some 10 MiB."""

_VERSIONS_AT_ONCE = 500


class SqliteIndex(Upkeep):
    """See `Index`. What `exists` and `remove` are called for happens inside a transaction: they must not ask the index."""

    def __init__(self, connections: Connections, clock: Callable[[], float]) -> None:
        super().__init__(connections)
        self._clock = clock
        self._leaves: leaf_rows.Leaves = Recent(_LEAVES_KEPT)
        self._contents: manifest_rows.Contents = Recent(_NODES_KEPT)

    def __repr__(self) -> str:
        return f"<SqliteIndex {self._connections.path!r}>"

    @classmethod
    def open(
        cls, path: str, *, repository_id: str, create: bool, durable: bool, clock: Callable[[], float] = time.time
    ) -> Self:
        """The index in the file `path`. With `create`, one that is missing or empty is made, by one of those who want to at
        once. Without `durable` a power cut may lose the last transactions.

        Raises `RepositoryError` where there is none, or it is another repository's or of another format; `IndexDamaged`,
        `StorageFailure`.
        """
        connections = Connections(path, durable=durable)
        connections.open(repository_id, create=create)
        return cls(connections, clock)

    # Chunks

    def find_chunks(self, names: Sequence[bytes]) -> Mapping[bytes, StoredChunk]:
        with self._connections.reading("looking for chunks") as connection:
            return chunk_rows.find_chunks(connection, names)

    def add_chunks(self, chunks: Sequence[StoredChunk], exists: Callable[[StoredChunk], bool]) -> Sequence[StoredChunk]:
        with self._connections.writing("adding chunks") as connection:
            return chunk_rows.add_chunks(connection, chunks, exists, self._clock())

    def mark_damaged(self, names: Sequence[bytes]) -> None:
        with self._connections.writing("marking chunks as damaged") as connection:
            chunk_rows.mark_damaged(connection, names, self._clock())

    def all_chunks(self, after: bytes = b"", limit: int = 1000) -> Sequence[tuple[StoredChunk, State]]:
        with self._connections.reading("listing chunks") as connection:
            return chunk_rows.all_chunks(connection, after, limit)

    # Contents

    def add_leaf(self, chunks: Sequence[ChunkRef]) -> int:
        with self._connections.writing("adding a leaf") as connection:
            return leaf_rows.add_leaf(connection, chunks, self._clock())

    def add_manifest(self, *, size: int, blake3: bytes, sha256: bytes, leaves: Sequence[int]) -> Manifest:
        with self._connections.writing("adding a content") as connection:
            return manifest_rows.add_manifest(
                connection, size=size, blake3=blake3, sha256=sha256, leaves=leaves, now=self._clock()
            )

    def add_contents(self, contents: Sequence[NewContent]) -> Sequence[Manifest | ChunksMissing | IndexDamaged]:
        added: list[Manifest | ChunksMissing | IndexDamaged] = []
        with self._connections.writing("adding contents") as connection:
            for content in contents:
                try:
                    added.append(manifest_rows.add_content(connection, content, self._clock()))
                except (ChunksMissing, IndexDamaged) as error:
                    added.append(error)
        return added

    def compose(self, manifests: Sequence[Manifest]) -> Manifest:
        with self._connections.writing("putting contents together") as connection:
            return manifest_rows.compose(connection, self._contents, manifests, self._clock())

    def find_manifest(self, name: bytes) -> Manifest | None:
        with self._connections.reading("looking for a content") as connection:
            return manifest_rows.find_manifest(connection, self._contents, name)

    def find_content_starting_with(self, name: bytes, size: int) -> Manifest | None:
        with self._connections.reading("looking for a content") as connection:
            return manifest_rows.find_starting_with(connection, self._contents, name, size)

    def undigested(self, limit: int = 100) -> Sequence[Manifest | IndexDamaged]:
        with self._connections.reading("looking for contents without digests") as connection:
            return manifest_rows.undigested(connection, self._contents, limit)

    def set_digests(self, manifest: Manifest, *, blake3: bytes, sha256: bytes) -> None:
        with self._connections.writing("noting digests") as connection:
            manifest_rows.set_digests(connection, self._contents, manifest, blake3=blake3, sha256=sha256)

    def pieces(self, manifest: Manifest, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        if start < 0:
            raise ValueError(f"a content has no byte {start}")
        return self._pieces(manifest, start, manifest.size if end is None else min(end, manifest.size))

    def _pieces(self, manifest: Manifest, start: int, end: int) -> Iterator[Piece]:
        while start < end:
            with self._connections.reading("reading a content") as connection:
                found = manifest_rows.pieces(connection, self._contents, self._leaves, manifest, start, end)
            yield from found
            start = found[-1].start + found[-1].chunk.size

    def is_whole(self, manifest: Manifest) -> bool:
        contents: manifest_rows.Contents = Recent(_NODES_KEPT)  # what has been kept for long does not tell
        for position in count():
            with self._connections.reading("looking through a content") as connection:
                is_whole = manifest_rows.is_whole(connection, contents, manifest, position)
            if not is_whole:
                return is_whole is None
        raise AssertionError("it has an end")

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
        with self._connections.writing("adding a version") as connection:
            return object_rows.add_version(
                connection,
                self._contents,
                upload_id=upload_id,
                object=object,
                owner=owner,
                manifest=manifest,
                metadata=metadata,
                raw=raw,
                at=at,
                now=self._clock(),
            )

    def find_version(self, upload_id: str) -> Version | None:
        with self._connections.reading("looking for a version") as connection:
            return object_rows.find_version(connection, self._contents, upload_id)

    def drop_version(self, upload_id: str) -> bool:
        with self._connections.writing("dropping a version") as connection:
            return object_rows.drop_version(connection, upload_id, self._clock())

    def clear_raw(self, upload_id: str) -> None:
        with self._connections.writing("noting that a file is gone") as connection:
            connection.execute("UPDATE versions SET raw = 0 WHERE upload = ? AND raw", (upload_id,))

    def with_raw(self, after: str = "", limit: int = 1000) -> Sequence[str]:
        with self._connections.reading("looking for files of uploads") as connection:
            rows = connection.execute(
                "SELECT upload FROM versions WHERE raw AND upload > ? ORDER BY upload LIMIT ?", (after, limit)
            )
            return [upload_id for (upload_id,) in rows]

    def versions(self, object: str | None = None, owner: str | None = None) -> Iterator[Version | IndexDamaged]:
        after: object_rows.Key | None = None
        while True:
            with self._connections.reading("listing versions") as connection:
                found = object_rows.versions(connection, self._contents, object, owner, after, _VERSIONS_AT_ONCE)
            yield from (version for _, version in found)
            if len(found) < _VERSIONS_AT_ONCE:
                return
            after = found[-1][0]

    def uploads(self, after: str = "", limit: int = 1000) -> Sequence[str]:
        with self._connections.reading("listing uploads") as connection:
            return vanished_rows.uploads(connection, after, limit)

    def without_version(self, upload_ids: Sequence[str]) -> Sequence[str]:
        with self._connections.reading("looking for versions") as connection:
            return vanished_rows.without_version(connection, upload_ids)

    # Versions whose upload is missing

    def note_vanished(self, upload_ids: Sequence[str], at: float) -> Mapping[str, float]:
        with self._connections.reading("looking for missing uploads") as connection:
            since = vanished_rows.since(connection, upload_ids)
        if None in since.values():
            with self._connections.writing("noting missing uploads") as connection:
                vanished_rows.note(connection, upload_ids, at)
                since = vanished_rows.since(connection, upload_ids)
        return {upload_id: each for upload_id, each in since.items() if each is not None}

    def note_present(self, upload_ids: Sequence[str]) -> None:
        with self._connections.reading("looking for missing uploads") as connection:
            if not vanished_rows.noted_among(connection, upload_ids):
                return
        with self._connections.writing("noting that uploads are there") as connection:
            vanished_rows.forget(connection, upload_ids)

    def vanished(self, after: str = "", limit: int = 1000) -> Sequence[str]:
        with self._connections.reading("listing missing uploads") as connection:
            return vanished_rows.noted(connection, after, limit)

    def hurry(self) -> None:
        self._connections.hurry()

    def close(self) -> None:
        self._connections.close()
