"""A call and an upload to tell observers about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tusd_py.ports.call import NoCall
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["RecordedCall", "tell_small_upload", "upload_of"]


@dataclass
class RecordedCall(NoCall):
    """A request with the facts that observers look at."""

    name: str = "POST"
    path: str = ""
    request_id: str = ""
    base: str = "http://127.0.0.1:8080/files/"
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def url_of(self, upload_id: str) -> str:
        return self.base + upload_id

    def http_request(self) -> HttpRequest:
        return HttpRequest(method=self.name, uri="/files/" + self.path, headers=self.headers)


def upload_of(size: int = 4096, *, offset: int = 0, upload_id: str = "0123456789abcdef0123456789abcdef") -> Upload:
    return Upload(id=upload_id, length=size, offset=offset)


def tell_small_upload(observer: object, call: RecordedCall | None = None, size: int = 4096) -> RecordedCall:
    """What is told about a creation that brings all its bytes."""
    told, upload = call or RecordedCall(), upload_of(size)
    observer.request_incoming(told)  # type: ignore[attr-defined]
    observer.upload_created(told, upload)  # type: ignore[attr-defined]
    observer.chunk_started(told, upload, size)  # type: ignore[attr-defined]
    observer.chunk_complete(told, upload, size, 0.25)  # type: ignore[attr-defined]
    observer.synced(0.01)  # type: ignore[attr-defined]
    observer.upload_finished(told, upload.evolve(offset=size))  # type: ignore[attr-defined]
    observer.response_outgoing(told, 201, None, 0.5)  # type: ignore[attr-defined]
    return told
