"""Hooks that are asked before something happens, and may refuse or amend it."""

from __future__ import annotations

from dataclasses import replace

from tusd_py.ports.call import Call
from tusd_py.ports.hooks import HookFailure, Hooks
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType
from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.refusals import FinishRejected, HookFailed, TerminationRejected, UploadRejected
from tusd_py.protocol.upload import Upload

__all__ = ["Gates"]

_AS_IT_IS = FileInfoChanges()


class Gates:
    """The gates that are enabled; without hooks, none. A failing hook is `HookFailed`, as in tusd: the client sees why."""

    def __init__(self, hooks: Hooks | None = None) -> None:
        self._hooks = hooks
        types = frozenset[HookType]() if hooks is None else hooks.types
        self.creation = HookType.PRE_CREATE in types
        self.finish = HookType.PRE_FINISH in types
        self.termination = HookType.PRE_TERMINATE in types

    async def before_creation(self, upload: Upload, call: Call) -> FileInfoChanges:
        """What pre-create changes about an upload. Raises `UploadRejected`, `HookFailed`."""
        if not self.creation:
            return _AS_IT_IS
        answer = await self._ask(HookType.PRE_CREATE, upload, call)
        if answer.reject_upload:
            raise UploadRejected().shaped(answer.response)
        if answer.changes.id and not is_valid_id(answer.changes.id):
            raise HookFailed(f"the pre-create hook chose the upload id {answer.changes.id!r}, which can't be an id")
        _shape(call, answer.response)
        return answer.changes

    async def before_finish(self, upload: Upload, call: Call) -> None:
        """Returns if pre-finish accepts an upload whose bytes are all here. Raises `FinishRejected`, `HookFailed`.

        tusd's pre-finish has no way of refusing but the status of the response, so an error status is a refusal.
        """
        answer = await self._ask(HookType.PRE_FINISH, upload, call)
        if answer.reject_upload or (answer.response.status or 0) >= 400:
            response = answer.response
            if (response.status or 0) < 400:  # by no refusal may a client believe that all is well
                response = replace(response, status=None)
            raise FinishRejected().shaped(response)
        _shape(call, answer.response)

    async def before_termination(self, upload: Upload, call: Call) -> None:
        """Returns if pre-terminate lets an upload go. Raises `TerminationRejected`, `HookFailed`."""
        answer = await self._ask(HookType.PRE_TERMINATE, upload, call)
        if answer.reject_termination:
            raise TerminationRejected().shaped(answer.response)
        _shape(call, answer.response)

    async def _ask(self, kind: HookType, upload: Upload, call: Call) -> HookAnswer:
        assert self._hooks is not None
        try:
            return await self._hooks.invoke(HookEvent(type=kind, upload=upload, request=call.http_request()))
        except HookFailure as failure:
            raise HookFailed(str(failure)) from failure


def _shape(call: Call, response: HttpResponse) -> None:
    call.response = response if call.response is None else call.response.merged(response)
