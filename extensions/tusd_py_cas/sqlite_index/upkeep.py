"""The port `Index` on SQLite, the part that keeps house: which statements make up which transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tusd_py_cas.index import Swept, Totals, Unused
from tusd_py_cas.model import Codec, RepositoryError, StoredChunk
from tusd_py_cas.sqlite_index import figures, housekeeping
from tusd_py_cas.sqlite_index.checking import check
from tusd_py_cas.sqlite_index.connections import Connections
from tusd_py_cas.sqlite_index.mending import mend

__all__ = ["Upkeep"]

_UNUSED_AT_ONCE = 1000
_MANIFESTS_AT_ONCE = 50
_LEAVES_AT_ONCE = 4
"""Rows that the collector reads, and drops, in one transaction. A leaf takes some 10 ms, and others who write have to wait."""


class Upkeep:
    """See `Index`. What `remove` is called for happens inside a transaction: it must not ask the index."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def sweep(self, before: float) -> Swept:
        return Swept(
            self._drop(housekeeping.unused_manifests, housekeeping.drop_manifest, before, _MANIFESTS_AT_ONCE),
            self._drop(housekeeping.unused_leaves, housekeeping.drop_leaf, before, _LEAVES_AT_ONCE),
        )

    def _drop(self, find: housekeeping.Find, drop: housekeeping.Drop, before: float, at_once: int) -> int:
        dropped = 0
        for ids in self._unused(find, before):
            for first in range(0, len(ids), at_once):
                with self._connections.writing("dropping contents") as connection:
                    dropped += sum(drop(connection, id, before) for id in ids[first : first + at_once])
        return dropped

    def _unused(self, find: housekeeping.Find, before: float) -> Iterator[list[int]]:
        after = 0
        while True:
            with self._connections.reading("looking for what is not used") as connection:
                ids = find(connection, before, after, _UNUSED_AT_ONCE)
            if not ids:
                return
            yield ids
            after = ids[-1]

    def condemn(self, before: float) -> int:
        condemned = 0
        for ids in self._unused(housekeeping.unused_chunks, before):
            with self._connections.writing("condemning chunks") as connection:
                condemned += housekeeping.condemn(connection, ids, before)
        return condemned

    def condemned(self, limit: int = 1000) -> Sequence[StoredChunk]:
        with self._connections.reading("looking for condemned chunks") as connection:
            return housekeeping.condemned(connection, limit)

    def bury(self, chunks: Sequence[StoredChunk], remove: Callable[[StoredChunk], None]) -> int:
        with self._connections.writing("removing chunks") as connection:
            return housekeeping.bury(connection, chunks, remove)

    def without_row(
        self, files: Sequence[tuple[bytes, Codec]], remove: Callable[[bytes, Codec], None] | None
    ) -> Sequence[tuple[bytes, Codec]]:
        doing = "looking for files of no chunk"
        if remove is None:
            with self._connections.reading(doing) as connection:
                return housekeeping.without_row(connection, files)
        with self._connections.writing(doing) as connection:
            found = housekeeping.without_row(connection, files)
            for name, codec in found:
                remove(name, codec)
            return found

    def unused(self, before: float) -> Unused:
        with self._connections.reading("looking for what is not used") as connection:
            return housekeeping.unused(connection, before)

    def check(self, progress: Callable[[int], None] | None = None) -> Iterator[str]:
        try:
            yield from check(self._connections, progress or (lambda rows: None))
        except RepositoryError as damage:
            yield str(damage)

    def mend(self) -> int:
        return mend(self._connections)

    def totals(self) -> Totals:
        with self._connections.reading("adding up") as connection:
            return figures.totals(connection)

    def chunk_sizes(self) -> Mapping[int, int]:
        with self._connections.reading("adding up") as connection:
            return figures.chunk_sizes(connection)
