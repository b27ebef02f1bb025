"""Locks among all processes of one machine that serve the same upload directory, and among the tasks of each.

Three parts: within the process, a queue (`memory`); between processes, a byte locked by the kernel (`kernel_locks`), which is
the truth; and a way to ask whoever has it to let go (`peers`), so that nobody polls. A process first gets its own turn, then
the byte. One that can't ask, because the holder is stopped or a lock just changed hands, tries again at growing intervals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from tusd_py.fs.directories import prepare_directory
from tusd_py.locker.kernel_locks import KernelLocks
from tusd_py.locker.memory import MemoryLease, MemoryLocker
from tusd_py.locker.peers import Asker, PeerAnswer, Peers, Questions
from tusd_py.ports.failures import LockTimeout, OutOfSpace
from tusd_py.ports.locker import ignore

__all__ = ["PosixLease", "PosixLocker"]

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1
"""Seconds between attempts while nobody says that it has the lock, though somebody has: it is changing hands, or its holder's
process is stopped."""

_HANDOVER = 0.05
"""Seconds that a process which asked has to take a lock before it goes to the next of our own tasks. It takes far less, and
says so by closing its connection; without this, a busy process would never let the others have it."""


class PosixLease:
    """A lock that is held, or being acquired, by one request in this process."""

    def __init__(self, locker: PosixLocker, upload_id: str, on_release_request: Callable[[], None]) -> None:
        self._locker, self.upload_id, self._on_release_request = locker, upload_id, on_release_request
        self.local: MemoryLease | None = None
        self.askers: set[Asker] = set()
        self._held = self._wanted = False

    def __repr__(self) -> str:
        return f"<PosixLease {self.upload_id!r} {'held' if self._held else 'not held'}, {len(self.askers)} asking>"

    def grant(self) -> None:
        self._held = True
        if self._wanted:
            self.ask()

    def ask(self) -> None:
        """Somebody wants it. If it isn't ours yet, the holder-to-be learns it when it is."""
        self._wanted = True
        if self._held:
            asyncio.get_running_loop().call_soon(self._ask_now)

    def _ask_now(self) -> None:
        if self._held:
            self._on_release_request()

    async def release(self) -> None:
        if self._held:
            self._held = False
            self._locker._released(self)  # awaits nothing, so that a cancellation can't get in between


class PosixLocker:
    """A `Locker` whose state is in `state_dir`. Belongs to the event loop that first uses it, and to its process."""

    def __init__(self, state_dir: str, *, dir_mode: int = 0o775, file_mode: int = 0o664) -> None:
        self._local = MemoryLocker()
        self._locks = KernelLocks(prepare_directory(f"{state_dir}/locks", dir_mode), file_mode)
        self._peers = Peers(prepare_directory(f"{state_dir}/peers", dir_mode), self._on_question)
        self._held: dict[str, PosixLease] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<PosixLocker {len(self._held)} held, {self._local!r}>"

    async def acquire(self, upload_id: str, on_release_request: Callable[[], None], timeout: float) -> PosixLease:
        deadline = asyncio.get_running_loop().time() + timeout
        await self._listen()
        lease = PosixLease(self, upload_id, on_release_request)
        lease.local = await self._local.acquire(upload_id, lease.ask, timeout)
        try:
            if not self._locks.try_lock(upload_id):
                async with asyncio.timeout_at(deadline):
                    await self._contend(upload_id)
        except BaseException as error:
            self._gave_up(lease.local)
            if isinstance(error, TimeoutError):
                raise LockTimeout(f"upload {upload_id!r} stayed locked for {timeout:g} s") from None
            raise
        return self._granted(lease)

    async def try_acquire(self, upload_id: str, on_release_request: Callable[[], None] = ignore) -> PosixLease | None:
        await self._listen()
        lease = PosixLease(self, upload_id, on_release_request)
        lease.local = await self._local.try_acquire(upload_id, lease.ask)
        if lease.local is None:
            return None
        taken = False
        try:
            taken = self._locks.try_lock(upload_id)
        finally:
            if not taken:
                self._gave_up(lease.local)
        return self._granted(lease) if taken else None

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._peers.stop()
            self._close_rest()

    async def _listen(self) -> None:
        """Be there for other processes' questions. Where there is no room even for a socket, locks still exclude each other;
        only nobody can ask us to let go."""
        with suppress(OutOfSpace):
            await self._peers.start()

    def _granted(self, lease: PosixLease) -> PosixLease:
        self._held[lease.upload_id] = lease
        lease.grant()
        return lease

    def _gave_up(self, local: MemoryLease) -> None:
        local.let_go()
        if self._closed:
            self._close_rest()

    async def _contend(self, upload_id: str) -> None:
        """Return once the kernel's lock is ours, asking other processes for it; ours alone in this process is our turn."""
        pause = _FIRST_PAUSE
        with Questions(self._peers, upload_id) as questions:
            while True:
                await questions.ask()
                if not await questions.settled(pause):
                    pause = min(2 * pause, _LONGEST_PAUSE)
                if self._locks.try_lock(upload_id):
                    return

    def _on_question(self, upload_id: str, asker: Asker) -> None:
        lease = self._held.get(upload_id)
        if lease is None:
            asker.answer(PeerAnswer.FREE)
            return
        lease.askers.add(asker)
        asker.done = lease.askers.discard
        asker.answer(PeerAnswer.HELD)
        lease.ask()

    def _released(self, lease: PosixLease) -> None:
        """First the kernel's lock, then those who asked from outside, then our own next task."""
        assert lease.local is not None
        del self._held[lease.upload_id]
        self._locks.unlock(lease.upload_id)
        if lease.askers:
            self._hand_over(lease.local, lease.askers)
        else:
            lease.local.let_go()
        if self._closed:
            self._close_rest()

    def _hand_over(self, local: MemoryLease, askers: set[Asker]) -> None:
        """Our own next task gets its turn when all of `askers` have tried."""
        in_time = asyncio.get_running_loop().call_later(_HANDOVER, local.let_go)

        def tried(asker: Asker) -> None:
            askers.discard(asker)
            if not askers:
                in_time.cancel()
                local.let_go()

        for asker in list(askers):
            asker.done = tried
            asker.answer(PeerAnswer.RELEASED)

    def _close_rest(self) -> None:
        """What a closed locker keeps only as long as leases are held."""
        if not self._held:
            for asker in list(self._peers.askers):
                asker.hang_up()
            self._locks.close()
