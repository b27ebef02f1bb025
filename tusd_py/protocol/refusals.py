"""Why a request is refused. A refusal carries its status and tusd's error code; its docstring is its message.

The codes and messages up to `ServerShutdown` are tusd's own, which clients and log rules know; where the status differs from
tusd's, a comment says why. Infrastructure failures are another tree (`tusd_py.ports.failures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from tusd_py.protocol.exchange import HttpResponse

__all__ = [
    "AmbiguousUploadLength",
    "AuthorizationFailed",
    "ChecksumMismatch",
    "ConcatenationUnsupported",
    "FinishRejected",
    "Forbidden",
    "HookFailed",
    "InvalidChecksum",
    "InvalidConcat",
    "InvalidContentType",
    "InvalidDeferLength",
    "InvalidMetadata",
    "InvalidOffset",
    "InvalidQuery",
    "InvalidUploadLength",
    "LockTimedOut",
    "MalformedBody",
    "MaxSizeExceeded",
    "MethodNotAllowed",
    "MismatchedOffset",
    "ModifyFinal",
    "NotAccepted",
    "NotReady",
    "OriginNotAllowed",
    "PartialInUse",
    "QuotaExceeded",
    "RateLimited",
    "ReadTimeout",
    "Refusal",
    "ServerShutdown",
    "SizeExceeded",
    "StorageBroken",
    "StorageFull",
    "StorageReadOnly",
    "TerminationRejected",
    "TooManyStreams",
    "TooManyUploads",
    "TooSlow",
    "TypeNotAllowed",
    "Unauthorized",
    "UnexpectedEof",
    "UnsupportedVersion",
    "UploadConflict",
    "UploadDamaged",
    "UploadFailed",
    "UploadGone",
    "UploadInterrupted",
    "UploadMissing",
    "UploadRejected",
    "UploadStopped",
]


class Refusal(Exception):
    """Base of all refusals; not raised itself. `headers` go into the answer as they are."""

    status: int
    code: str

    def __init__(self, message: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message or type(self).__doc__)
        self.headers: Mapping[str, str] = headers or {}
        self._body: str | None = None

    @property
    def body(self) -> str:
        """tusd's error form, `ERR_CODE: message` and a newline, unless a hook has put something else in its place."""
        return f"{self.code}: {self}\n" if self._body is None else self._body

    def shaped(self, response: HttpResponse) -> Self:
        """This refusal, looking as a hook wants it to: each part that it names takes the place of ours."""
        if response.status is not None:
            self.status = response.status
        if response.body is not None:
            self._body = response.body
        self.headers = {**self.headers, **response.headers}
        return self


class UnsupportedVersion(Refusal):
    """missing, invalid or unsupported Tus-Resumable header"""

    status, code = 412, "ERR_UNSUPPORTED_VERSION"


class MaxSizeExceeded(Refusal):
    """maximum size exceeded"""

    status, code = 413, "ERR_MAX_SIZE_EXCEEDED"


class SizeExceeded(Refusal):
    """upload's size exceeded"""

    status, code = 413, "ERR_UPLOAD_SIZE_EXCEEDED"


class InvalidContentType(Refusal):
    """missing or invalid Content-Type header"""

    status, code = 415, "ERR_INVALID_CONTENT_TYPE"  # tusd: 400; the spec wants 415 (P05)


class InvalidUploadLength(Refusal):
    """missing or invalid Upload-Length header"""

    status, code = 400, "ERR_INVALID_UPLOAD_LENGTH"


class AmbiguousUploadLength(Refusal):
    """provided both Upload-Length and Upload-Defer-Length"""

    status, code = 400, "ERR_AMBIGUOUS_UPLOAD_LENGTH"


class InvalidDeferLength(Refusal):
    """invalid Upload-Defer-Length header"""

    status, code = 400, "ERR_INVALID_UPLOAD_LENGTH_DEFER"


class InvalidOffset(Refusal):
    """missing or invalid Upload-Offset header"""

    status, code = 400, "ERR_INVALID_OFFSET"


class MismatchedOffset(Refusal):
    """mismatched offset"""

    status, code = 409, "ERR_MISMATCHED_OFFSET"


class UploadMissing(Refusal):
    """upload not found"""

    status, code = 404, "ERR_UPLOAD_NOT_FOUND"


class InvalidConcat(Refusal):
    """invalid Upload-Concat header"""

    status, code = 400, "ERR_INVALID_CONCAT"


class ConcatenationUnsupported(Refusal):
    """Upload-Concat header is not supported by server"""

    status, code = 400, "ERR_CONCATENATION_UNSUPPORTED"


class ModifyFinal(Refusal):
    """modifying a final upload is not allowed"""

    status, code = 403, "ERR_MODIFY_FINAL"


class OriginNotAllowed(Refusal):
    """request origin is not allowed"""

    status, code = 403, "ERR_ORIGIN_NOT_ALLOWED"


class UploadInterrupted(Refusal):
    """upload has been interrupted by another request for this upload resource"""

    status, code = 400, "ERR_UPLOAD_INTERRUPTED"


class UnexpectedEof(Refusal):
    """server expected to receive more bytes"""

    status, code = 400, "ERR_UNEXPECTED_EOF"


class ReadTimeout(Refusal):
    """timeout while reading request body"""

    status, code = 500, "ERR_READ_TIMEOUT"


class LockTimedOut(Refusal):
    """failed to acquire lock before timeout"""

    status, code = 423, "ERR_LOCK_TIMEOUT"  # tusd: 500, on which tus-js-client starts over from byte 0 (H09, J12)


class ServerShutdown(Refusal):
    """request has been interrupted because the server is shutting down"""

    status, code = 503, "ERR_SERVER_SHUTDOWN"


class MethodNotAllowed(Refusal):
    """method not allowed"""

    status, code = 405, "ERR_METHOD_NOT_ALLOWED"


class InvalidMetadata(Refusal):
    """invalid Upload-Metadata header"""

    status, code = 400, "ERR_INVALID_METADATA"


class InvalidChecksum(Refusal):
    """invalid or unsupported Upload-Checksum"""

    status, code = 400, "ERR_INVALID_CHECKSUM"


class ChecksumMismatch(Refusal):
    """the body does not match its Upload-Checksum; nothing of it was stored"""

    status, code = 460, "ERR_CHECKSUM_MISMATCH"


class MalformedBody(Refusal):
    """the chunked framing of the request body is broken"""

    status, code = 400, "ERR_MALFORMED_BODY"


class UploadGone(Refusal):
    """the upload has expired"""

    status, code = 410, "ERR_UPLOAD_EXPIRED"


class UploadFailed(Refusal):
    """the upload can't be finished"""

    status, code = 410, "ERR_UPLOAD_FAILED"


class UploadDamaged(Refusal):
    """the record of this upload can't be read; start a new upload"""

    status, code = 410, "ERR_UPLOAD_DAMAGED"


class NotReady(Refusal):
    """the final upload is still being put together"""

    status, code = 423, "ERR_UPLOAD_NOT_READY"


class PartialInUse(Refusal):
    """this partial upload is being concatenated into a final upload"""

    status, code = 423, "ERR_UPLOAD_LOCKED"


class StorageFull(Refusal):
    """no space left on the server; what was acknowledged is kept"""

    status, code = 507, "ERR_INSUFFICIENT_STORAGE"


class StorageReadOnly(Refusal):
    """the server can't write to its storage"""

    status, code = 507, "ERR_STORAGE_READ_ONLY"


class StorageBroken(Refusal):
    """the server's storage failed"""

    status, code = 500, "ERR_INTERNAL_SERVER_ERROR"


class UploadConflict(Refusal):
    """an upload of this id is there already"""

    status, code = 409, "ERR_UPLOAD_EXISTS"


class UploadRejected(Refusal):
    """upload creation has been rejected by server"""

    status, code = 400, "ERR_UPLOAD_REJECTED"


class FinishRejected(Refusal):
    """the finished upload has been rejected by server"""

    status, code = 400, "ERR_FINISH_REJECTED"


class TerminationRejected(Refusal):
    """upload termination has been rejected by server"""

    status, code = 400, "ERR_UPLOAD_TERMINATION_REJECTED"


class UploadStopped(Refusal):
    """upload has been stopped by server"""

    status, code = 400, "ERR_UPLOAD_STOPPED"


class HookFailed(Refusal):
    """a hook failed"""

    status, code = 500, "ERR_INTERNAL_SERVER_ERROR"


class NotAccepted(Refusal):
    """the upload is complete, and has not been accepted by the server yet"""

    status, code = 423, "ERR_UPLOAD_NOT_ACCEPTED"


class Unauthorized(Refusal):
    """credentials are missing or not valid"""

    status, code = 401, "ERR_UNAUTHORIZED"


class Forbidden(Refusal):
    """not allowed"""

    status, code = 403, "ERR_FORBIDDEN"


class AuthorizationFailed(Refusal):
    """permission can't be checked just now"""

    status, code = 500, "ERR_INTERNAL_SERVER_ERROR"


class QuotaExceeded(Refusal):
    """the storage quota of this owner is used up"""

    status, code = 413, "ERR_QUOTA_EXCEEDED"


class TooManyUploads(Refusal):
    """too many uploads are running; try again later"""

    status, code = 429, "ERR_TOO_MANY_UPLOADS"


class RateLimited(Refusal):
    """too many uploads were created in a short time; try again later"""

    status, code = 429, "ERR_RATE_LIMITED"


class TypeNotAllowed(Refusal):
    """files of this type are not allowed"""

    status, code = 415, "ERR_TYPE_NOT_ALLOWED"


class TooSlow(Refusal):
    """the upload is slower than the server allows; what has arrived is kept"""

    status, code = 500, "ERR_TOO_SLOW"  # 500: stock clients try again, and resume


class InvalidQuery(Refusal):
    """invalid query"""

    status, code = 400, "ERR_INVALID_QUERY"


class TooManyStreams(Refusal):
    """too many streams of progress are open; try again later"""

    status, code = 503, "ERR_TOO_MANY_STREAMS"
