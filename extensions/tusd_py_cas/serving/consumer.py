"""Who hears that uploads are finished, and takes them in."""

from __future__ import annotations

from collections.abc import Callable

from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py_cas.serving.courtesy import Courtesy
from tusd_py_cas.serving.intake import Intake

__all__ = ["CasConsumer"]


class CasConsumer:
    """The port `Consumer`. `taken_in` is called with the id of each upload that has become a version and has been told of; it
    and `intake` are set before anything is delivered. What it is not told of, the `Adopter` finds."""

    name = "cas"
    recovers = True
    types = frozenset({HookType.POST_FINISH})

    intake: Intake
    taken_in: Callable[[str], None]

    def __init__(self, courtesy: Courtesy) -> None:
        self._courtesy = courtesy

    def __repr__(self) -> str:
        return f"<CasConsumer of {getattr(self, 'intake', None)!r}>"

    async def deliver(self, event: HookEvent) -> None:
        """Take the upload in, and tell so. Of one that is gone by now there is nothing to be dropped: who removed it has done
        that. Raises `StorageFailure`; then it is tried again."""
        await self._courtesy.give_way()
        taken = await self.intake.take(event.upload.id)
        if taken is not None:
            await self.intake.tell(taken)
            self.taken_in(event.upload.id)
