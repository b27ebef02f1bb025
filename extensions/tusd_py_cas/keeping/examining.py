"""Reading one chunk to see whether it is sound, and what becomes of it if it is not."""

from __future__ import annotations

import logging
from enum import Enum, auto

from tusd_py.ports.failures import StorageFailure
from tusd_py_cas.model import ChunkDamaged, State, StoredChunk
from tusd_py_cas.repository import Repository

__all__ = ["Examined", "Outcome", "examine"]

_log = logging.getLogger("tusd_py.cas")


class Outcome(Enum):
    """GONE: it was collected meanwhile. HEALED: it was damaged, and is sound by now. UNREADABLE: that can't be told."""

    SOUND = auto()
    HEALED = auto()
    GONE = auto()
    DAMAGED = auto()
    UNREADABLE = auto()


Examined = tuple[Outcome, str]
"""With what is wrong, if anything is."""


def examine(repository: Repository, chunk: StoredChunk, state: State) -> Examined:
    """Read and judge one chunk, and see to what follows from it. In a thread of the pool. Raises `IndexDamaged`."""
    try:
        return _judge(repository, chunk, state)
    except StorageFailure as error:
        return Outcome.UNREADABLE, str(error)


def _judge(repository: Repository, chunk: StoredChunk, state: State) -> Examined:
    what = ""
    try:
        repository.chunks.read(chunk, from_disk=True)
    except ChunkDamaged as damage:
        what = damage.what
    if state is State.LIVE:
        return _after_damage(repository, chunk, what) if what else (Outcome.SOUND, "")
    if repository.heal(chunk.name):
        return Outcome.HEALED, ""
    _move_away(repository, chunk)
    return _after_damage(repository, chunk, what)


def _after_damage(repository: Repository, chunk: StoredChunk, what: str) -> Examined:
    """What a chunk that did not read well has become: others are at work too."""
    repository.damaged(chunk)
    now = _row_of(repository, chunk.name)
    if now is None or now[1] is State.CONDEMNED:  # collected: it was not in use
        return Outcome.GONE, ""
    if now[1] is State.DAMAGED:
        return Outcome.DAMAGED, what or "its file has gone meanwhile"
    try:
        repository.chunks.read(now[0])
    except ChunkDamaged as damage:  # and marking it has failed, or is not the remedy, as the log says
        return Outcome.DAMAGED, damage.what
    return (Outcome.SOUND if now[0] == chunk else Outcome.HEALED), ""


def _move_away(repository: Repository, chunk: StoredChunk) -> None:
    """The file of a chunk that had been set aside, but is in its place: a crash came between, or somebody has put it back."""
    try:
        repository.chunks.quarantine(chunk)
    except StorageFailure as error:
        fields = {"chunk": chunk.name.hex(), "error": str(error)}
        _log.error("a damaged chunk could not be set aside", extra={"fields": fields})


def _row_of(repository: Repository, name: bytes) -> tuple[StoredChunk, State] | None:
    """What the index has of this name now, in any state: of the rows behind the name before it, the first."""
    before = max(0, int.from_bytes(name, "big") - 1).to_bytes(len(name), "big")
    return next((row for row in repository.index.all_chunks(before, 2) if row[0].name == name), None)
