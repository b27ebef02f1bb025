"""Who watches: logs, metrics, traces. Told of everything that happens, and can change nothing.

Every method returns at once, never raises, and is called on the event loop. They are on the path of a 4 KiB upload: an
implementation notes what it is told and does the rest elsewhere.
"""

from __future__ import annotations

from typing import Protocol

from tusd_py.ports.call import Call
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.upload import Upload

__all__ = ["NO_OBSERVER", "NoObserver", "Observer"]


class Observer(Protocol):
    """Durations are seconds, sizes bytes. The names of tusd's log events stand behind those that have one."""

    def request_incoming(self, call: Call) -> None:
        """RequestIncoming."""

    def response_outgoing(self, call: Call, status: int, refusal: Refusal | None, duration: float) -> None:
        """ResponseOutgoing; `refusal` where the request was refused."""

    def upload_created(self, call: Call, upload: Upload) -> None:
        """UploadCreated."""

    def chunk_started(self, call: Call, upload: Upload, limit: int) -> None:
        """ChunkWriteStart: a body of at most `limit` bytes goes to `upload.offset`."""

    def chunk_complete(self, call: Call, upload: Upload, count: int, duration: float) -> None:
        """ChunkWriteComplete: `count` bytes came and are kept."""

    def upload_finished(self, call: Call, upload: Upload) -> None:
        """UploadFinished."""

    def upload_terminated(self, call: Call, upload: Upload) -> None:
        """UploadTerminated."""

    def upload_interrupted(self, upload_id: str) -> None:
        """UploadInterrupted: another request wants an upload that is being received."""

    def hook_started(self, kind: HookType, upload_id: str) -> None:
        """HookInvocationStart."""

    def hook_complete(self, kind: HookType, upload_id: str, duration: float) -> None:
        """HookInvocationFinish."""

    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None:
        """HookInvocationError."""

    def upload_stopped(self, upload_id: str) -> None:
        """HookStopUpload."""

    def synced(self, duration: float) -> None:
        """Bytes and record of an upload reached the disk."""

    def took_over(self, duration: float) -> None:
        """A request waited this long for another one to let go of an upload."""


class NoObserver:
    """Nobody watches."""

    __slots__ = ()

    def request_incoming(self, call: Call) -> None: ...
    def response_outgoing(self, call: Call, status: int, refusal: Refusal | None, duration: float) -> None: ...
    def upload_created(self, call: Call, upload: Upload) -> None: ...
    def chunk_started(self, call: Call, upload: Upload, limit: int) -> None: ...
    def chunk_complete(self, call: Call, upload: Upload, count: int, duration: float) -> None: ...
    def upload_finished(self, call: Call, upload: Upload) -> None: ...
    def upload_terminated(self, call: Call, upload: Upload) -> None: ...
    def upload_interrupted(self, upload_id: str) -> None: ...
    def hook_started(self, kind: HookType, upload_id: str) -> None: ...
    def hook_complete(self, kind: HookType, upload_id: str, duration: float) -> None: ...
    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None: ...
    def upload_stopped(self, upload_id: str) -> None: ...
    def synced(self, duration: float) -> None: ...
    def took_over(self, duration: float) -> None: ...


NO_OBSERVER: Observer = NoObserver()
