"""The tus 1.0 dialect: request heads to commands, uploads to response heads. https://tus.io/protocols/resumable-upload

Knows header names and nothing of what is stored. Response heads are lists of pairs with lower-case names, as ASGI wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

from tusd_py.protocol.checksum import ALGORITHMS, parse_checksum
from tusd_py.protocol.commands import Append, Create, Payload
from tusd_py.protocol.concat import parse_concat
from tusd_py.protocol.extensions import supported_extensions
from tusd_py.protocol.headers import Headers, body_length, has_token, is_media_type, parse_number, text_of
from tusd_py.protocol.metadata import Metadata, parse_metadata
from tusd_py.protocol.refusals import (
    AmbiguousUploadLength,
    InvalidChecksum,
    InvalidContentType,
    InvalidDeferLength,
    InvalidOffset,
    InvalidUploadLength,
    UnsupportedVersion,
)
from tusd_py.protocol.rules import Policy, expires_at
from tusd_py.protocol.upload import Upload

__all__ = [
    "VERSION",
    "check_version",
    "options_head",
    "read_append",
    "read_create",
    "write_appended",
    "write_created",
    "write_described",
]

VERSION = b"1.0.0"
OFFSET_STREAM = b"application/offset+octet-stream"

ResponseHead = list[tuple[bytes, bytes]]

_NO_METADATA = Metadata()
_NO_STORE = (b"cache-control", b"no-store")


def check_version(headers: Headers, *, required: bool) -> None:
    """Raises `UnsupportedVersion`, with the version we speak, for another or (where required) no Tus-Resumable (C02 to C05)."""
    version = headers.get(b"tus-resumable")
    if version != VERSION and (required or version is not None):
        raise UnsupportedVersion(headers={"Tus-Version": VERSION.decode()})


def read_create(headers: Headers, policy: Policy, find_partial: Callable[[str], str]) -> Create:
    """A POST. `find_partial` turns a partial's URL into its id. Raises the `Refusal` that applies; rows R02 to R08, M, N10."""
    metadata = _NO_METADATA
    if header := headers.get(b"upload-metadata"):
        metadata = parse_metadata(text_of(header), strict=policy.strict_metadata)
    payload = read_payload(headers) if is_media_type(headers.get(b"content-type", b""), OFFSET_STREAM) else None
    if concat := headers.get(b"upload-concat"):
        value = text_of(concat)
        urls = parse_concat(value)
        if urls is not None:
            partials = tuple(map(find_partial, urls)) if policy.concatenation else ()
            return Create(length=None, metadata=metadata, partials=partials, concat=value, payload=payload)
        return Create(length=_read_length(headers), metadata=metadata, is_partial=True, concat=value, payload=payload)
    return Create(length=_read_length(headers), metadata=metadata, payload=payload)


def _read_length(headers: Headers) -> int | None:
    """The declared length, None where it is deferred."""
    value, defer = headers.get(b"upload-length"), headers.get(b"upload-defer-length")
    if defer:
        if value is not None:
            raise AmbiguousUploadLength
        if defer != b"1":
            raise InvalidDeferLength
        return None
    length = parse_number(value) if value is not None else None
    if length is None:
        raise InvalidUploadLength
    return length


def read_append(headers: Headers, upload_id: str) -> Append:
    """A PATCH. Raises the `Refusal` that applies; rows P04, P05, P20."""
    if not is_media_type(headers.get(b"content-type", b""), OFFSET_STREAM):
        raise InvalidContentType
    offset = parse_number(headers.get(b"upload-offset", b""))
    if offset is None:
        raise InvalidOffset
    length = None
    if value := headers.get(b"upload-length"):
        length = parse_number(value)
        if length is None:
            raise InvalidUploadLength
    return Append(upload_id=upload_id, offset=offset, length=length, payload=read_payload(headers))


def read_payload(headers: Headers) -> Payload:
    """What is announced about the body. Raises `InvalidChecksum`; rows K04, K05, K13, K16."""
    length = body_length(headers)
    checksum = headers.get(b"upload-checksum")
    trailer = has_token(headers[b"trailer"], b"upload-checksum") if b"trailer" in headers else False
    if trailer and checksum is not None:
        raise InvalidChecksum("Upload-Checksum is given as a header and announced as a trailer; one of them expected")
    if trailer and length is not None:
        raise InvalidChecksum("Upload-Checksum is announced as a trailer, which only a chunked body can have")
    return Payload(length, None if checksum is None else parse_checksum(checksum), trailer)


def write_created(upload: Upload, location: bytes, policy: Policy) -> ResponseHead:
    """Head of a 201. Upload-Offset stands on every one (R20, W01) but that of a final upload still in the making (N22)."""
    head = [(b"location", location), (b"content-length", b"0")]
    if not upload.is_final or upload.finished:
        head.append((b"upload-offset", b"%d" % upload.offset))
    return _with_expiry(head, upload, policy)


def write_appended(upload: Upload, policy: Policy) -> ResponseHead:
    """Head of a 204."""
    return _with_expiry([(b"upload-offset", b"%d" % upload.offset)], upload, policy)


def write_described(upload: Upload, policy: Policy, url_of: Callable[[str], bytes]) -> ResponseHead:
    """Head of the answer to a HEAD; rows H01 to H05, N14, N15, N22. `url_of` gives the URL of an id."""
    head: ResponseHead = [_NO_STORE]
    if not upload.is_final or upload.finished:
        head.append((b"upload-offset", b"%d" % upload.offset))
    if upload.length is not None:
        head.append((b"upload-length", b"%d" % upload.length))
    elif not upload.is_final:
        head.append((b"upload-defer-length", b"1"))
    if upload.metadata.header:
        head.append((b"upload-metadata", upload.metadata.header.encode("latin-1")))
    if upload.concat is not None:
        head.append((b"upload-concat", upload.concat.encode("latin-1")))
    elif upload.is_partial:
        head.append((b"upload-concat", b"partial"))
    elif upload.partials is not None:  # a record of tusd's, which does not keep the client's own string
        head.append((b"upload-concat", b"final;" + b" ".join(map(url_of, upload.partials))))
    return _with_expiry(head, upload, policy)


def _with_expiry(head: ResponseHead, upload: Upload, policy: Policy) -> ResponseHead:
    deadline = expires_at(upload, policy)
    if deadline is not None:
        head.append((b"upload-expires", formatdate(deadline, usegmt=True).encode()))
    return head


def options_head(policy: Policy) -> ResponseHead:
    """What this server can do; rows C06 to C10."""
    head = [
        (b"tus-version", VERSION),
        (b"tus-extension", ",".join(supported_extensions(policy)).encode()),
        (b"tus-checksum-algorithm", ",".join(ALGORITHMS).encode()),
    ]
    if policy.max_size is not None:
        head.append((b"tus-max-size", b"%d" % policy.max_size))
    return head
