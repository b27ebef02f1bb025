"""tusd's JSON of an upload (its `FileInfo`), to the letter: `build_upload` and `parse_upload` are inverse.

It stands in `.info` files, in hook messages and in stored events. What tusd's format can't hold (the client's own spelling of
the metadata, values that are no UTF-8, concatenations that wait, owners) goes under one more key, `TusdPy`, which tusd ignores;
when tusd rewrites a record, that key is lost, and what tusd knows is enough to go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tusd_py.protocol.go_json import (
    JsonError,
    boolean,
    encode,
    field,
    fields,
    load,
    quote,
    quoted_list,
    quoted_map,
    text_map,
    texts,
    well_formed,
)
from tusd_py.protocol.metadata import Metadata, build_metadata, parse_metadata
from tusd_py.protocol.upload import MAX_LENGTH, Upload

__all__ = ["EXTRA_VERSION", "build_upload", "extended_upload_text", "parse_upload", "read_upload", "upload_text"]

EXTRA_VERSION = 1
"""Of what is under `TusdPy`. A record with a later one is left alone: dropping facts that we don't know could lose uploads."""

_KEYS = frozenset(
    (
        *("ID", "Size", "SizeIsDeferred", "Offset", "MetaData", "IsPartial", "IsFinal", "PartialUploads", "Storage"),
        "TusdPy",
    )
)
_EXTRA_KEYS = frozenset(("Version", "Metadata", "Concat", "Failure", "Owner", "MaxSize", "Held"))
_EMPTY = "{}"


def build_upload(upload: Upload, storage: Mapping[str, str]) -> bytes:
    """The record of `upload`; `storage` is what goes under `Storage`."""
    return encode(extended_upload_text(upload, storage))


def extended_upload_text(upload: Upload, storage: Mapping[str, str]) -> str:
    """What `build_upload` writes, as a part of something that `go_json.encode` finishes."""
    return f"{upload_text(upload, storage)[:-1]}{_extra_text(upload)}}}"


def upload_text(upload: Upload, storage: Mapping[str, str] | None) -> str:
    """What tusd would write of `upload`, as a part of something that `go_json.encode` finishes."""
    return (
        f'{{"ID":{quote(upload.id)}'
        f',"Size":{upload.length or 0}'
        f',"SizeIsDeferred":{boolean(upload.length is None)}'
        f',"Offset":{upload.offset}'
        f',"MetaData":{quoted_map(_texts(upload.metadata.pairs)) if upload.metadata.pairs else _EMPTY}'
        f',"IsPartial":{boolean(upload.is_partial)}'
        f',"IsFinal":{boolean(upload.is_final)}'
        f',"PartialUploads":{"null" if upload.partials is None else quoted_list(upload.partials)}'
        f',"Storage":{"null" if storage is None else quoted_map(storage)}}}'
    )


def _extra_text(upload: Upload) -> str:
    """What tusd has no place for; nothing at all where there is nothing, so that the record is tusd's to the byte."""
    facts = [f',"TusdPy":{{"Version":{EXTRA_VERSION}']
    if header := upload.metadata.header or build_metadata(upload.metadata.pairs):
        facts.append(f'"Metadata":{quote(header)}')
    if upload.concat is not None:
        facts.append(f'"Concat":{quote(upload.concat)}')
    if upload.failure is not None:
        facts.append(f'"Failure":{quote(upload.failure)}')
    if upload.owner is not None:
        facts.append(f'"Owner":{quote(upload.owner)}')
    if upload.max_size is not None:
        facts.append(f'"MaxSize":{upload.max_size}')
    if upload.held:
        facts.append('"Held":true')
    return f"{','.join(facts)}}}" if len(facts) > 1 else ""


def _texts(pairs: Mapping[str, bytes]) -> dict[str, str]:
    return {key: value.decode("utf-8", "surrogateescape") for key, value in pairs.items()}


def parse_upload(data: bytes, upload_id: str | None = None) -> Upload:
    """The record in `data`. Raises `JsonError`.

    With `upload_id`, that is the id: a record copied or moved to another name is that name's. `offset` is what is written
    there, which in tusd's records says little; `storage` is what the record says, which is not to be trusted with paths.
    """
    return read_upload(load(data), upload_id)


def read_upload(value: object, upload_id: str | None = None) -> Upload:
    """`parse_upload` of JSON that is a value already."""
    record = fields(value, _KEYS)
    extra = fields(field(record, "TusdPy", dict, {}), _EXTRA_KEYS)
    if extra and not 1 <= field(extra, "Version", int, 0) <= EXTRA_VERSION:
        raise JsonError("TusdPy is of a version that this program does not know")
    own_id: str = field(record, "ID", str, "")
    return Upload(
        id=own_id if upload_id is None else upload_id,
        length=_length(record),
        offset=_offset(record),
        metadata=_metadata(text_map(record, "MetaData"), field(extra, "Metadata", str, "")),
        is_partial=field(record, "IsPartial", bool, False),
        partials=texts(record, "PartialUploads") if field(record, "IsFinal", bool, False) else None,
        concat=field(extra, "Concat", str, None),
        failure=field(extra, "Failure", str, None),
        storage=text_map(record, "Storage"),
        owner=field(extra, "Owner", str, None),
        max_size=_max_size(extra),
        held=field(extra, "Held", bool, False),
    )


def _length(record: Mapping[str, Any]) -> int | None:
    size: int = field(record, "Size", int, 0)
    if not 0 <= size <= MAX_LENGTH:
        raise JsonError("a size is out of range")
    return None if field(record, "SizeIsDeferred", bool, False) else size


def _offset(record: Mapping[str, Any]) -> int:
    offset: int = field(record, "Offset", int, 0)
    if abs(offset) > MAX_LENGTH:
        raise JsonError("a size is out of range")
    return max(offset, 0)


def _max_size(extra: Mapping[str, Any]) -> int | None:
    max_size: int | None = field(extra, "MaxSize", int, None)
    if max_size is not None and max_size < 0:
        raise JsonError("a size is out of range")
    return max_size


def _metadata(found: Mapping[str, str], header: str) -> Metadata:
    """The client's own metadata where the record has it and it still says what `MetaData` says, which may have been edited."""
    metadata = parse_metadata(header)
    if {key: well_formed(text) for key, text in _texts(metadata.pairs).items()} == found:
        return metadata
    pairs = {key: found[key].encode() for key in sorted(found)}
    return Metadata(pairs, build_metadata(pairs))
