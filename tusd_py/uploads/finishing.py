"""The end of an upload whose bytes are all here: accepted by the pre-finish hook, if there is one, and announced.

With a pre-finish hook, an upload is held from its beginning: whatever happens between its last byte and the hook's answer, it
does not look finished to anybody, and who resumes it has the hook asked again. tus-js-client would otherwise report success for
an upload whose finish failed (tus-js-client#557). A refusal lasts; a hook that failed is asked again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from tusd_py.ports.call import NO_CALL, Call
from tusd_py.ports.datastore import Content
from tusd_py.protocol.refusals import FinishRejected, Refusal, TypeNotAllowed
from tusd_py.protocol.upload import Upload
from tusd_py.uploads.parts import Parts

__all__ = ["Finisher"]


class Finisher:
    """Finishes uploads, under their locks."""

    def __init__(self, parts: Parts) -> None:
        self._data, self._info, self._gates, self._types = parts.data, parts.info, parts.gates, parts.types
        self._announcer, self._observer, self._durable = parts.announcer, parts.observer, parts.durable
        self._askers: dict[str, Call] = {}

    async def hold(self, upload: Upload) -> Upload:
        """See to it that an upload which is from before there was a pre-finish hook, or from tusd, is held."""
        if not self._gates.finish or upload.held or upload.complete:
            return upload
        held = upload.evolve(held=True)
        await self._info.replace(held)
        return held

    async def foresee(self, upload: Upload, call: Call) -> None:
        """Write down that the upload is about to be finished, if that is not known: it may be from before there was anybody to
        be told. Raises `StorageFailure`."""
        if self._announcer is not None:
            await self._announcer.before_bytes(upload, call)

    def seen(self, upload: Upload) -> Upload:
        """The record as it counts: without a pre-finish hook nothing is held, whatever was so once."""
        return upload.evolve(held=False) if upload.held and not self._gates.finish else upload

    @contextmanager
    def asked_by(self, upload_id: str, call: Call) -> Iterator[None]:
        """Meanwhile, an upload that is finished in the background is finished for this call."""
        self._askers[upload_id] = call
        try:
            yield
        finally:
            del self._askers[upload_id]

    async def check_type(self, upload: Upload) -> None:
        """Judge a complete upload by bytes that nobody looked at as they came. Raises `TypeNotAllowed`, `StorageFailure`."""
        if self._types is not None:
            content = await self._data.open_content(upload)
            try:
                await self._types.check_content(content, upload)
            finally:
                await content.close()

    @property
    def judges(self) -> bool:
        """Whether finals are judged by their bytes."""
        return self._types is not None

    async def judge_final(self, final: Upload, open_content: Callable[[Upload], Awaitable[Content]]) -> None:
        """Judge the bytes that a final is about to be made of. Raises `TypeNotAllowed`, which lasts, and `StorageFailure`."""
        if self._types is None:
            return
        content = await open_content(final)
        try:
            await self._types.check_content(content, final)
        except TypeNotAllowed as refusal:
            await self._reject(final, refusal)
            raise
        finally:
            await content.close()

    async def finish_in_background(self, upload: Upload) -> Upload:
        """`finish` for a final upload, which no request is working on."""
        return await self.finish(upload, self._askers.get(upload.id, NO_CALL))

    async def finish(self, upload: Upload, call: Call) -> Upload:
        """The record of an upload that is complete and durable, once it is accepted. Raises `FinishRejected`, `HookFailed`."""
        if upload.held:
            upload = await self._accept(upload, call)
        if upload.finished:
            self._observer.upload_finished(call, upload)
            if self._announcer is not None:
                await self._announcer.finished(upload, call)
        return upload

    async def _accept(self, upload: Upload, call: Call) -> Upload:
        if self._gates.finish:
            try:
                await self._gates.before_finish(upload.evolve(held=False), call)
            except FinishRejected as refusal:
                if refusal.status < 500:  # else the hook says that it can't tell yet
                    await self._reject(upload, refusal)
                raise
        await self.foresee(upload, call)
        accepted = upload.evolve(held=False)
        await self._replace(accepted)
        return accepted

    async def _reject(self, upload: Upload, refusal: Refusal) -> None:
        await self._replace(upload.evolve(held=False, failure=f"it has been rejected: {refusal.body.strip()}"))
        if self._announcer is not None:
            await self._announcer.rejected(upload.id)

    async def _replace(self, upload: Upload) -> None:
        await self._info.replace(upload, synced=self._durable)
        if self._durable:
            await self._info.sync(upload)
