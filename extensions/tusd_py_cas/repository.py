"""A repository: its description, its index and its chunks' files, opened together or, where they do not fit, not at all."""

from __future__ import annotations

import logging
import os
from typing import Self

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.description import Description, create_description, new_parameters, read_description
from tusd_py_cas.index import Index
from tusd_py_cas.layout import Layout, make_directory
from tusd_py_cas.model import ChunkDamaged, Parameters, RepositoryError, StoredChunk
from tusd_py_cas.os_errors import writing_failed
from tusd_py_cas.sqlite_index import SqliteIndex

__all__ = ["Repository", "new_parameters"]

_log = logging.getLogger("tusd_py.cas")


class Repository:
    """May be used by several threads at once, and by several processes, each with its own. All methods block."""

    def __init__(self, path: str, description: Description, index: Index, chunks: ChunkFiles) -> None:
        self.path, self.id, self.parameters = path, description.id, description.parameters
        self.index, self.chunks = index, chunks

    def __repr__(self) -> str:
        return f"<Repository {self.id} in {self.path!r}>"

    @classmethod
    def open(cls, path: str, *, create: Parameters | None = None, durable: bool = True) -> Self:
        """The repository in the directory `path`; with `create`, made with these parameters if there is none, also by several
        processes at once. A creation that a crash has cut short is completed.

        Raises `RepositoryError` where there is none, or a part of it is missing or not understood; `StorageFailure`;
        `ValueError` for parameters that can't be used. Without `durable` a power cut may lose everything (for tests).
        """
        layout = Layout(os.path.abspath(path))
        description = read_description(layout) or _create(layout, create, durable)
        chunks = ChunkFiles(layout.root, durable=durable)
        may_make = _may_make_index(layout, chunks)
        _make_directories(layout, durable)
        index = SqliteIndex.open(layout.index, repository_id=description.id, create=may_make, durable=durable)
        return cls(layout.root, description, index, chunks)

    def close(self) -> None:
        """Let go of the index. Idempotent."""
        self.index.close()

    def restored(self, chunk: StoredChunk) -> StoredChunk | None:
        """How a chunk is stored now, if that is not what `chunk` says: it was removed or damaged, and stored again since."""
        now = self.index.find_chunks([chunk.name]).get(chunk.name)
        return None if now == chunk else now

    def damaged(self, chunk: StoredChunk) -> None:
        """Reading this chunk has raised `ChunkDamaged`: see to it that its bytes are stored again with the next upload that has
        them, and keep what is there of its file in `quarantine/`.

        Looks for itself first: another reader may have been faster, or a memory error was to blame. Never raises, logs.
        """
        try:
            self._set_aside(chunk)
        except (StorageFailure, RepositoryError) as error:
            fields = {"chunk": chunk.name.hex(), "error": str(error)}
            _log.error("a damaged chunk could not be set aside", extra={"fields": fields})

    def _set_aside(self, chunk: StoredChunk) -> None:
        fields = {"chunk": chunk.name.hex(), "size": chunk.size}
        now = self.index.find_chunks([chunk.name]).get(chunk.name)
        if now != chunk:
            what = "known to be damaged, or not stored any more" if now is None else "stored again meanwhile"
            _log.info("a damaged chunk was read", extra={"fields": {**fields, "what": what}})
            return
        try:
            self.chunks.read(chunk)
        except ChunkDamaged as damage:
            # Marked first: after a crash in between, nobody takes it for stored, and `verify` moves the file away.
            self.index.mark_damaged([chunk.name])
            outcome = {"quarantined": self.chunks.quarantine(chunk), "healed": self.heal(chunk.name)}
            _log.error("chunk damaged", extra={"fields": {**fields, "what": damage.what, **outcome}})
        else:
            _log.warning("a chunk that was damaged reads well now", extra={"fields": fields})

    def heal(self, name: bytes) -> bool:
        """Count a chunk as stored again that is not LIVE or whose row is damaged, if there is a sound file of it, in any form:
        somebody has put it back, or an ingest has left it. Whether there is. Raises `StorageFailure`, `IndexDamaged`.
        """
        sound = self.chunks.find_sound(name)
        return sound is not None and not self.index.add_chunks([sound], self.chunks.exists)


def _create(layout: Layout, parameters: Parameters | None, durable: bool) -> Description:
    """Describe a new repository, before there is anything else. What is left of an old one is not taken over."""
    for what in (layout.chunks, layout.index):
        if not os.path.lexists(what):
            continue
        if (description := read_description(layout)) is not None:  # another process was making it just now
            return description
        raise RepositoryError(f"{layout.description!r} is missing, but {what!r} is there: restore it from a backup")
    if parameters is None:
        raise RepositoryError(f"there is no repository in {layout.root!r}")
    try:
        make_directory(layout.temporary, durable=durable)
    except OSError as error:
        raise writing_failed(error, f"making the repository {layout.root!r}") from error
    return create_description(layout, parameters, durable=durable)


def _may_make_index(layout: Layout, chunks: ChunkFiles) -> bool:
    """Whether the creation may not have come further. Raises `RepositoryError` where there are chunks but no index."""
    if chunks.is_empty():
        return True
    if not os.path.lexists(layout.index):  # asked last: who makes a repository has the index before the first chunk
        raise RepositoryError(f"the index {layout.index!r} is missing, but there are chunks: restore it from a backup")
    return False


def _make_directories(layout: Layout, durable: bool) -> None:
    try:
        for directory in (layout.temporary, layout.chunks, layout.quarantine):
            make_directory(directory, durable=durable)
    except OSError as error:
        raise writing_failed(error, f"making the repository {layout.root!r}") from error
