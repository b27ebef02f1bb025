"""Which single-use intents have been used: an empty file for each, under `.tusd-py/intents`, named by its expiry and a hash.

Making a file that must not be there yet is what only one of several requests, in whatever processes, can succeed in. It is
synced before the upload is stored, so that not even a power cut lets an intent be used twice; a crash in between uses it up for
nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from tusd_py.fs.directories import prepare_state
from tusd_py.fs.errors import translate
from tusd_py.fs.threads import run_to_end
from tusd_py.ports.clock import Clock, system_clock
from tusd_py.protocol.refusals import Forbidden, Unauthorized

__all__ = ["GRACE", "SWEEP_INTERVAL", "UsedIntents"]

_log = logging.getLogger("tusd_py.authorization")

GRACE = 3600.0
"""Seconds from an intent's expiry in which a creation may still be completed that was begun before: hooks may think for long.
What was used is remembered for twice as long, so that nobody forgets what somebody else is about to check."""

SWEEP_INTERVAL = 3600.0
"""Seconds between two looks for what need not be remembered any more."""

THREADS = 4
"""A claim waits for the disk; more at once would only wait for each other."""


class UsedIntents:
    """The used intents of an upload directory, of all processes. Made at start; raises `ReadOnlyStorage`."""

    def __init__(self, upload_dir: Path, *, durable: bool = True, dir_mode: int = 0o775, clock: Clock = system_clock) -> None:
        self._directory = prepare_state(str(upload_dir.absolute()), "intents", dir_mode)
        self._durable, self._clock = durable, clock
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tusd-intents")
        self._swept_at = float("-inf")

    def __repr__(self) -> str:
        return f"<UsedIntents {self._directory!r}>"

    async def use(self, nonce: str, expires: int) -> Callable[[], Awaitable[None]]:
        """Use an intent up; returns how to give it back, which never raises.

        Raises `Forbidden` if it has been used, `Unauthorized` if it expired too long ago to know, `StorageFailure`.
        """
        now = self._clock()
        if now >= expires + GRACE:
            raise Unauthorized("the upload intent has expired")
        path = f"{self._directory}/{expires}-{hashlib.sha256(nonce.encode()).hexdigest()}"
        await self._note(path)
        if now - self._swept_at >= SWEEP_INTERVAL:
            self._swept_at = now
            self._pool.submit(self.sweep)

        async def give_back() -> None:
            await asyncio.shield(asyncio.wrap_future(self._pool.submit(_remove, path)))

        return give_back

    async def _note(self, path: str) -> None:
        made: list[str] = []

        def make(_: Event) -> None:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            made.append(path)
            if self._durable:
                self._sync()

        try:
            await run_to_end(self._pool, make)
        except FileExistsError:
            raise Forbidden("this upload intent has been used") from None
        except BaseException as error:
            if made:
                self._pool.submit(_remove, path)  # nothing is going to be created
            if isinstance(error, OSError):
                raise translate(error, "noting that an upload intent is used") from error
            raise

    def _sync(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sweep(self) -> int:
        """Forget what expired long ago; returns how many. Blocks; never raises, a failure is logged."""
        before = self._clock() - 2 * GRACE
        removed = 0
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    expires = entry.name.partition("-")[0]
                    if expires.isascii() and expires.isdigit() and int(expires) < before:
                        os.unlink(entry.path)
                        removed += 1
        except FileNotFoundError:  # another process was faster
            return removed
        except OSError as error:
            _log.error("used upload intents could not be looked through: %s", error)
        return removed


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        _log.error("an upload intent could not be given back, and stays used: %s", error)
