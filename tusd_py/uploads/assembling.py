"""Final uploads: put together as soon as all their partials are finished, whoever finishes the last one.

A final whose partials are finished is as good as finished: its partials are kept until it is put together, and until then it
is described and read through them. So nobody has to wait for a copy in proportion to the size, whatever the file system.

Any process may notice that a final is due (a partial finished, somebody asked, a restart). Whoever gets the final's lock does
the work; the others rely on it: the one with the lock looks again after letting go, so that a partial that finished in between
is not overlooked. Work runs as a task of its own, which outlives the request that started it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from tusd_py.ports.call import NO_CALL
from tusd_py.ports.datastore import Content
from tusd_py.ports.failures import RecordDamaged, StorageFailure, UploadNotFound
from tusd_py.ports.locker import Lease
from tusd_py.protocol.refusals import FinishRejected, Refusal, TypeNotAllowed
from tusd_py.protocol.rules import concatenated_length, is_expired
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.finishing import Finisher
from tusd_py.uploads.joining import JoinedContent
from tusd_py.uploads.parts import Parts

__all__ = ["IN_ONE_GO", "Assembler"]

_log = logging.getLogger("tusd_py.uploads")

RETRY = 60.0
"""Seconds before a final that could not be put together (a full disk) is tried again; until then it is read from its parts."""

FAILED = 1000
"""Finals that are remembered to have failed: those that were deleted are never heard of again."""

IN_ONE_GO = 50
"""Partials to look at before other requests get a turn: a final may have thousands, and a store may never have to wait."""


class Assembler:
    """Settles final uploads of one process. Not for use by several event loops."""

    def __init__(self, parts: Parts, finisher: Finisher) -> None:
        self._data, self._info, self._locker = parts.data, parts.info, parts.locker
        self._policy, self._clock, self._durable = parts.policy, parts.clock, parts.durable
        self._limiter, self._finisher = parts.limiter, finisher
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()  # finals that somebody asked to look at while their tasks were looking already
        self._not_before: dict[str, float] = {}  # finals that failed, and when to try again

    async def settle(self, final_id: str, wait: float) -> None:
        """See whether a final upload is due and put it together; return when that is done or after `wait` seconds.

        The work goes on in the background. Raises what it failed with, if it failed in time: `StorageFailure`.
        """
        task = self._tasks.get(final_id)
        if task is not None and not task.done():
            self._again.add(final_id)  # it may have looked at the one partial that has been finished just now
        else:
            if self._not_before.get(final_id, 0.0) > self._clock():
                return
            task = asyncio.get_running_loop().create_task(self._settle(final_id), name=f"settle {final_id}")
            self._tasks[final_id] = task
            task.add_done_callback(lambda done: self._settled(final_id, done))
        await asyncio.wait({task}, timeout=wait)
        if task.done() and not task.cancelled() and (failure := task.exception()):
            raise failure

    def _settled(self, final_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(final_id) is task:
            del self._tasks[final_id]
            self._again.discard(final_id)
        self._not_before.pop(final_id, None)
        if not task.cancelled() and (failure := task.exception()):
            if len(self._not_before) >= FAILED:
                self._not_before.clear()  # then some are tried again early
            self._not_before[final_id] = self._clock() + RETRY
            fields = {"id": final_id, "reason": str(failure)}
            if isinstance(failure, Refusal) and failure.status < 500:
                _log.info("a final upload was rejected", extra={"fields": fields})
            else:
                _log.error("a final upload could not be finished", exc_info=failure, extra={"fields": fields})

    async def partial_changed(self, partial_id: str) -> None:
        """A partial was finished or is gone: see to the finals that wait for it."""
        for final_id in await self._info.expected_by(partial_id):
            await self._start(final_id)

    async def recover(self) -> None:
        """See to all finals that wait; at start, for those whose last partial was finished just before a crash."""
        for final_id in await self._info.waiting_finals():
            await self._start(final_id)

    async def _start(self, final_id: str) -> None:
        with suppress(StorageFailure, Refusal):  # logged by the task, and tried again by the next who asks for the final
            await self.settle(final_id, wait=0)

    async def as_promised(self, upload: Upload) -> Upload:
        """The record as clients see it: a final is finished once its partials are, put together or not, unless its bytes have
        still to be judged."""
        if not upload.is_final or upload.complete or upload.failure is not None:
            return upload
        try:
            partials = await self._load_partials(upload)
        except _CannotFinish as reason:
            now = await self._record(upload.id)  # a partial may go as soon as the final is together
            return now if now.finished else upload.evolve(failure=str(reason))
        length = concatenated_length(partials)
        return upload.evolve(
            length=length,
            offset=length if _all_finished(partials) else upload.offset,
            held=upload.held or self._finisher.judges,
            active_at=max([upload.active_at, *(partial.active_at for partial in partials)]),  # it lives as long as they do
        )

    async def open_partials(self, final: Upload) -> Content:
        """The bytes of a final that is finished but not put together yet. Raises `UploadNotFound`, `StorageFailure`."""
        contents: list[Content] = []
        try:
            for number, partial_id in enumerate(final.partials or (), 1):
                if number % IN_ONE_GO == 0:
                    await asyncio.sleep(0)
                partial = await self._record(partial_id)
                contents += [await self._data.open_content(partial)]
        except BaseException:
            for content in contents:
                await content.close()
            raise
        return JoinedContent(contents)

    async def hold_finals(self, partial_id: str) -> list[Lease] | None:
        """Locks of all finals that wait for this partial, so that it can be removed without one of them being made of it at
        the same time; None where one is, or has been promised to a client."""
        leases: list[Lease] = []
        for final_id in await self._info.expected_by(partial_id):
            lease = await self._locker.try_acquire(final_id)
            if lease is not None:
                leases.append(lease)
            if lease is None or await self._is_promised(final_id):
                await release_all(leases)
                await self._start(final_id)  # it may be that nobody is at work on it
                return None
        return leases

    async def _is_promised(self, final_id: str) -> bool:
        """Whether this final counts as finished, and is not put together."""
        try:
            final = await self._record(final_id)
            return not final.finished and final.failure is None and _all_finished(await self._load_partials(final))
        except (UploadNotFound, RecordDamaged, _CannotFinish):
            return False

    async def close(self) -> None:
        """Stop working; what is not done is begun again after a restart."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The work, under the final's lock

    async def _settle(self, final_id: str) -> None:
        stop = _canceller()
        again = True
        while again:
            self._again.discard(final_id)
            again = await self._look(final_id, stop) or final_id in self._again

    async def _look(self, final_id: str, stop: Callable[[], None]) -> bool:
        """Put the final together if it is due; whether it has become so meanwhile."""
        lease = await self._locker.try_acquire(final_id, stop)
        if lease is None:
            return False
        try:
            if await self._settle_locked(final_id):
                return False
        finally:
            await lease.release()
        return await self._is_due(final_id)

    async def _settle_locked(self, final_id: str) -> bool:
        """Whether there is nothing left to do for this final."""
        try:
            final = await self._record(final_id)
        except (UploadNotFound, RecordDamaged):  # never acknowledged, or gone; of the latter the store has told the log
            return True
        if not final.complete and final.failure is None:
            try:
                partials = await self._load_partials(final)
            except _CannotFinish as reason:
                final = final.evolve(failure=str(reason))
                await self._info.replace(final)
                await self._count(final)
            else:
                length = concatenated_length(partials)
                if final.length != length:  # the last deferred length has been declared
                    final = final.evolve(length=length)
                    await self._info.replace(final)
                    await self._count(final)
                if not _all_finished(partials):
                    await self._finisher.hold(final)  # nobody has been promised it yet
                    return False
                await self._finish(final, partials)
        elif final.held and final.failure is None:
            await self._finish(final)
        await self._info.unexpect(final)
        return True

    async def _finish(self, final: Upload, partials: list[Upload] | None = None) -> None:
        """`partials` are those that it has still to be made of."""
        try:
            if partials is not None:
                await self._finisher.judge_final(final, self.open_partials)  # before it looks finished
                final = await self._put_together(final, partials)
            await self._finisher.finish_in_background(final)
        except (FinishRejected, TypeNotAllowed) as refusal:
            if refusal.status < 500:
                await self._info.unexpect(final)
            raise

    async def _record(self, upload_id: str) -> Upload:
        """The record as it counts. Raises `UploadNotFound`, `RecordDamaged`."""
        return self._finisher.seen(await self._info.load(upload_id))

    async def _put_together(self, final: Upload, partials: list[Upload]) -> Upload:
        await self._finisher.foresee(final, NO_CALL)
        if self._durable:
            await self._info.sync(final)
        storage = await self._data.concatenate(final, partials, durable=self._durable)
        final = final.evolve(offset=final.length, active_at=self._clock())
        if storage is None:
            await self._info.commit_offset(final)
        else:
            final = final.evolve(storage=storage)
            await self._info.replace(final, synced=True)
            if self._durable:
                await self._info.sync(final)
        await self._count(final)
        return final

    async def _count(self, final: Upload) -> None:
        """What limits are judged by: how much of the final is still to come."""
        if self._limiter is not None:
            await self._limiter.progress(final)

    async def _load_partials(self, final: Upload) -> list[Upload]:
        """The partials, in order. Raises `_CannotFinish`."""
        partials = []
        for number, partial_id in enumerate(final.partials or (), 1):
            if number % IN_ONE_GO == 0:
                await asyncio.sleep(0)
            try:
                partial = await self._record(partial_id)
            except (UploadNotFound, RecordDamaged):
                raise _CannotFinish("one of its partial uploads is gone") from None
            if partial.failure is not None:
                raise _CannotFinish("one of its partial uploads can't be finished")
            if is_expired(partial, self._policy, self._clock()):
                raise _CannotFinish("one of its partial uploads has expired")
            partials.append(partial)
        if (concatenated_length(partials) or 0) > self._policy.ceiling:
            raise _CannotFinish("its partial uploads exceed the maximum size")
        return partials

    async def _is_due(self, final_id: str) -> bool:
        try:
            return _all_finished(await self._load_partials(await self._record(final_id)))
        except _CannotFinish:
            return True
        except (UploadNotFound, RecordDamaged):
            return False


async def release_all(leases: list[Lease]) -> None:
    """Let go of all of them."""
    for lease in leases:
        await lease.release()


def _all_finished(partials: list[Upload]) -> bool:
    return all(partial.finished for partial in partials)


class _CannotFinish(Exception):
    """Why a final can never be finished."""


def _canceller() -> Callable[[], None]:
    """Cancels the task that calls this; for when a DELETE wants the final."""
    task = asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        task.cancel()

    return cancel
