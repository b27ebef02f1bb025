"""Giving up the files of uploads that are in chunks, for `-cas=replace`.

A file goes once its version is durable and whole, and once everybody else has heard all that there is to be heard of the
upload: a hook's script may want the file. The order is: the record says where the bytes are; the file goes; the index forgets
that there was one. Whoever dies in between leaves something that the next round goes on with.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from tusd_py.ports.datastore import DataStore
from tusd_py.ports.extension import Host
from tusd_py.ports.failures import StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload
from tusd_py_cas.model import Version
from tusd_py_cas.serving.access import Access
from tusd_py_cas.serving.counts import Counts
from tusd_py_cas.serving.intake import Intake
from tusd_py_cas.serving.versions import IN_CHUNKS, Versions, in_chunks, is_made_of

__all__ = ["Replacer"]

_log = logging.getLogger("tusd_py.cas")

ROUND, LONGEST_ROUND = 2.0, 10.0
"""Seconds between two rounds; more each time, up to the second figure, while rounds bring nothing."""

PAGE = 100
"""Uploads that are looked at in one round; the next goes on from there."""

LATE = 60.0
"""Seconds after which it is worth a line of the log that a file is still wanted, and between two attempts to mend a version."""

REMEMBERED = 10_000
"""Uploads that are remembered to have had their line, and of which it is known that they wait for a look out of turn."""


class Replacer:
    """Works for one process; several may at once. `take_again` is called with the id of an upload whose file is not the one
    that its version was made of. `host` is set before anything is asked for. Belongs to an event loop."""

    host: Host

    def __init__(
        self,
        access: Access,
        versions: Versions,
        inner: DataStore,
        intake: Intake,
        counts: Counts,
        take_again: Callable[[str], None],
    ) -> None:
        self._access, self._index = access, access.repository.index
        self._versions, self._inner, self._intake, self._counts = versions, inner, intake, counts
        self._take_again = take_again
        self._soon: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._told: dict[str, None] = {}
        self._first_seen: dict[str, float] = {}  # uploads that keep their files for now
        self._after = ""  # where the last round ended
        self._left = 0  # uploads that kept their files, of those looked at since the rounds began at the front

    def __repr__(self) -> str:
        return f"<Replacer at {self._after!r}, {len(self._soon)} soon>"

    def consider(self, upload_id: str) -> None:
        """Look at this upload soon, and not only when its turn comes."""
        if len(self._soon) < REMEMBERED:
            self._soon[upload_id] = None
            self._wake.set()

    async def follow(self) -> None:
        """Look at what `consider` is told of, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._soon:
                upload_id = next(iter(self._soon))
                del self._soon[upload_id]
                await self._try(upload_id)

    async def go_round(self) -> None:
        """Look at all uploads again and again, until cancelled."""
        pause = ROUND
        while True:
            pause = ROUND if await self.look_around() else min(1.5 * pause, LONGEST_ROUND)
            await asyncio.sleep(pause * (0.75 + random.random() / 2))

    async def look_around(self) -> bool:
        """One round; whether any file went, or there are more uploads to be looked at. Failures are logged."""
        try:
            page = await self._access.look(lambda: self._index.with_raw(self._after, PAGE))
        except StorageFailure as failure:
            _log.error("files to be replaced could not be looked up", extra={"fields": {"error": str(failure)}})
            return False
        gone = 0
        for upload_id in page:
            gone += await self._try(upload_id)
            await asyncio.sleep(0)  # where nothing had to be waited for, requests go first all the same
        self._left += len(page) - gone
        self._after = page[-1] if len(page) == PAGE else ""
        if not self._after:
            self._counts.waiting, self._left = self._left, 0
        return bool(gone or self._after)

    async def _try(self, upload_id: str) -> bool:
        try:
            return await self.replace(upload_id)
        except StorageFailure as failure:
            self._tell(upload_id, "the file of an upload could not be replaced", error=str(failure))
            return False

    async def replace(self, upload_id: str) -> bool:
        """Give up the file of an upload if the time has come; whether it is gone. Raises `StorageFailure`."""
        upload = await self.host.look(upload_id)
        if upload is None:
            return False  # removed, or a final that is just being put together
        try:
            version = await self._version_of(upload)
        except UploadNotFound:
            return False  # it has just been removed
        if version is None:
            if self._tell(upload_id, "an upload keeps its file, which has changed: it is taken in again"):
                self._take_again(upload_id)
            return False
        if not await self._may_go(upload, version):
            return False
        gone = False

        async def release(moved: Upload) -> None:
            nonlocal gone
            if await self._is_covered(moved, version):
                await self._inner.remove(moved)
                await self._access.change(lambda: self._index.clear_raw(upload_id))
                gone = True

        async def keep(_: Upload) -> None:
            """It is the record that has to be put right."""

        if await self.host.relocate(upload_id, {"Type": IN_CHUNKS}, release) and not gone:
            await self.host.relocate(upload_id, self._in_file(upload_id), keep)
        if gone:
            self._told.pop(upload_id, None)
            self._first_seen.pop(upload_id, None)
        return gone

    def _in_file(self, upload_id: str) -> Mapping[str, str]:
        """What a record says where the bytes are in a file."""
        return {"Type": self._inner.place(upload_id)["Type"]}

    async def _version_of(self, upload: Upload) -> Version | None:
        chosen = await self._versions.choose(upload)
        if isinstance(chosen, Version):
            return chosen
        await chosen.close()
        return None

    async def _may_go(self, upload: Upload, version: Version) -> bool:
        if in_chunks(upload):
            return True  # that has been decided already
        if waiting := await self.host.undelivered(upload.id, besides=IN_CHUNKS):
            if self._is_late(upload.id):
                self._tell(upload.id, "an upload keeps its file: events of it have still to be delivered", events=waiting)
            return False
        if await self._access.look(lambda: self._index.is_whole(version.manifest)):
            return True
        if upload.id not in self._first_seen or self._is_late(upload.id):
            self._first_seen[upload.id] = time.monotonic()
            await self._intake.mend(upload)
        return False

    async def _is_covered(self, moved: Upload, version: Version) -> bool:
        """Whether, under the lock, this is still its version. If its id has been used again since we looked, it is not. Where
        there is no byte in the file, as in that of a final that was put together in chunks, there is nothing to lose."""
        now = await self._versions.find(moved.id)
        if now is None or now.manifest.name != version.manifest.name or now.manifest.size != moved.length:
            return False
        try:
            file = await self._inner.open_content(moved.evolve(storage={**moved.storage, **self._in_file(moved.id)}))
        except UploadNotFound:
            return True  # it is gone already
        await file.close()
        return not file.size or is_made_of(now, file)

    def _is_late(self, upload_id: str) -> bool:
        since = self._first_seen.setdefault(upload_id, time.monotonic())
        _forget(self._first_seen)
        return time.monotonic() - since >= LATE

    def _tell(self, upload_id: str, message: str, **fields: object) -> bool:
        """Once for each upload; whether this was the time."""
        if upload_id in self._told:
            return False
        self._told[upload_id] = None
        _forget(self._told)
        _log.warning(message, extra={"fields": {"id": upload_id, **fields}})
        return True


def _forget(remembered: dict[str, None] | dict[str, float]) -> None:
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]  # the oldest
