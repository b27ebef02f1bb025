"""Which finals wait for which partials (concatenation-unfinished): a file `waiting/<partial>/<final>` holds the final's id.

Kept apart from the partials' records, which a request that holds their lock may be about to replace. Asking for a partial that
nobody waits for, as every finished upload does, costs one system call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable

from tusd_py.fs.errors import translate
from tusd_py.fs.paths import flat_name
from tusd_py.fs.replace import publish_new
from tusd_py.fs.sync import GroupSync

__all__ = ["WaitingFinals"]

_IN_ONE_GO = 50
"""Partials of a final to remember or forget before other requests get a turn: there may be thousands, at some 30 us each."""


class WaitingFinals:
    """The relation between finals and the partials they wait for. Raises `StorageFailure`."""

    def __init__(self, directory: str, tmp_dir: str, dir_mode: int, file_mode: int, group: GroupSync | None) -> None:
        self._directory, self._tmp_dir = directory, tmp_dir
        self._dir_mode, self._file_mode, self._group = dir_mode, file_mode, group

    async def add(self, final_id: str, partial_ids: Iterable[str]) -> None:
        """Remember that `final_id` waits for all of them; durably, since only this finds the final when they are complete."""
        name = flat_name(final_id)
        paths = [f"{self._directory}/{flat_name(partial_id)}/{name}" for partial_id in set(partial_ids)]
        try:
            for number, path in enumerate(paths, 1):
                self._put(path, final_id.encode())
                if number % _IN_ONE_GO == 0:
                    await asyncio.sleep(0)
        except OSError as error:
            raise translate(error, f"remembering that {final_id!r} waits") from error
        if self._group is not None and paths:
            await self._group.sync(*paths, *map(os.path.dirname, paths), self._directory)

    def _put(self, path: str, content: bytes) -> None:
        while True:
            try:
                return publish_new(path, content, tmp_dir=self._tmp_dir, mode=self._file_mode)
            except FileExistsError:
                return None
            except FileNotFoundError:  # as well when `remove` in another process took the directory away just now
                os.makedirs(os.path.dirname(path), self._dir_mode, exist_ok=True)

    async def remove(self, final_id: str, partial_ids: Iterable[str]) -> None:
        name = flat_name(final_id)
        for number, partial_id in enumerate(set(partial_ids), 1):
            if number % _IN_ONE_GO == 0:
                await asyncio.sleep(0)
            directory = f"{self._directory}/{flat_name(partial_id)}"
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise translate(error, f"forgetting that {final_id!r} waits") from error
            with contextlib.suppress(OSError):  # others wait for it, too
                os.rmdir(directory)

    def finals_of(self, partial_id: str) -> tuple[str, ...]:
        return tuple(self._read(f"{self._directory}/{flat_name(partial_id)}"))

    def all_finals(self) -> tuple[str, ...]:
        """Blocks in proportion to their number."""
        try:
            partials = os.listdir(self._directory)
        except OSError as error:
            raise translate(error, f"listing {self._directory!r}") from error
        found: dict[str, None] = {}
        for partial in partials:
            found.update(dict.fromkeys(self._read(f"{self._directory}/{partial}")))
        return tuple(found)

    def _read(self, directory: str) -> list[str]:
        """The ids in the files of a directory, by name; none where there is no directory."""
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise translate(error, f"listing {directory!r}") from error
        found = []
        for name in sorted(names):
            with contextlib.suppress(FileNotFoundError), open(f"{directory}/{name}", encoding="ascii") as file:
                found.append(file.read())
        return found
