"""Syncing directories for several threads at once: those that ask while one is being synced share the next time."""

from __future__ import annotations

from threading import Lock

from tusd_py.fs.directories import sync_directory

__all__ = ["SharedSync"]


class _Directory:
    """How often it has begun to be synced, how that ended the last time, and how many threads wait for the next."""

    __slots__ = ("begun", "error", "lock", "waiting")

    def __init__(self) -> None:
        self.lock = Lock()  # held while it is being synced
        self.begun = self.waiting = 0
        self.error: OSError | None = None


class SharedSync:
    """Syncs directories by their paths. Remembers each for good: there are few."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards the mapping and `waiting`
        self._directories: dict[str, _Directory] = {}

    def sync(self, path: str) -> None:
        """Return once all names that were in the directory when this was called are durable. Raises `OSError`."""
        with self._lock:
            directory = self._directories.setdefault(path, _Directory())
            enough = directory.begun + 1  # the one that is under way, if there is one, may have begun too early
            directory.waiting += 1
        with directory.lock:
            with self._lock:
                directory.waiting -= 1
            if directory.begun < enough:
                directory.begun += 1
                directory.error = None
                try:
                    sync_directory(path)
                except OSError as error:
                    directory.error = error
            if directory.error is not None:  # the kernel reports a failure once, but it is one for all who shared it
                raise OSError(directory.error.errno, directory.error.strerror) from directory.error
