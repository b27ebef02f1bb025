"""tusd's `.info` record, to the letter: `build_info` and `parse_info` are inverse. Knows bytes and records, no file.

tusd (Go's `encoding/json`) reads what we write and we read what it writes. What its format can't hold (the client's own
spelling of the metadata, values that are no UTF-8, concatenations that wait) goes under one more key, `TusdPy`, which tusd
ignores; when tusd rewrites a record, that key is lost, and what tusd knows is enough to go on.

Reading is as tolerant as Go is: unknown keys, the case of keys, missing keys and `null` don't matter; wrong types do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any, TypeVar

from tusd_py.ports.failures import RecordDamaged
from tusd_py.protocol.metadata import Metadata, build_metadata, parse_metadata
from tusd_py.protocol.upload import MAX_LENGTH, Upload

__all__ = ["EXTRA_VERSION", "build_info", "parse_info"]

T = TypeVar("T")

EXTRA_VERSION = 1
"""Of what is under `TusdPy`. A record with a later one is left alone: dropping facts that we don't know could lose uploads."""

# Go escapes these for the sake of browsers, and writes one U+FFFD for each byte that is no UTF-8, which `surrogateescape`
# has turned into one lone surrogate each. None of them occurs in JSON outside of strings.
_GO_ESCAPED = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_quote: Callable[[str], str] = encode_basestring

_KEYS = (
    *("ID", "Size", "SizeIsDeferred", "Offset", "MetaData", "IsPartial", "IsFinal", "PartialUploads", "Storage"),
    "TusdPy",
)
_EXTRA_KEYS = ("Version", "Metadata", "Concat", "Failure")


def build_info(upload: Upload, storage: Mapping[str, str]) -> bytes:
    """The record of `upload`; `storage` is what goes under `Storage`."""
    text = (
        f'{{"ID":{_quote(upload.id)}'
        f',"Size":{upload.length or 0}'
        f',"SizeIsDeferred":{_boolean(upload.length is None)}'
        f',"Offset":{upload.offset}'
        f',"MetaData":{_map(_texts(upload.metadata.pairs))}'
        f',"IsPartial":{_boolean(upload.is_partial)}'
        f',"IsFinal":{_boolean(upload.is_final)}'
        f',"PartialUploads":{"null" if upload.partials is None else _list(upload.partials)}'
        f',"Storage":{_map(storage)}{_build_extra(upload)}}}'
    )
    if text.isascii() and "&" not in text and "<" not in text and ">" not in text:
        return text.encode()  # nothing that Go writes in another way
    return _GO_ESCAPED.sub(_escape, text).encode()


def _build_extra(upload: Upload) -> str:
    """What tusd has no place for; nothing at all where there is nothing, so that the record is tusd's to the byte."""
    fields = [f',"TusdPy":{{"Version":{EXTRA_VERSION}']
    if header := upload.metadata.header or build_metadata(upload.metadata.pairs):
        fields.append(f'"Metadata":{_quote(header)}')
    if upload.concat is not None:
        fields.append(f'"Concat":{_quote(upload.concat)}')
    if upload.failure is not None:
        fields.append(f'"Failure":{_quote(upload.failure)}')
    return f"{','.join(fields)}}}" if len(fields) > 1 else ""


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def _texts(pairs: Mapping[str, bytes]) -> dict[str, str]:
    return {key: value.decode("utf-8", "surrogateescape") for key, value in pairs.items()}


def _map(texts: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{_quote(key)}:{_quote(texts[key])}" for key in sorted(texts)]) + "}"


def _list(texts: tuple[str, ...]) -> str:
    return "[" + ",".join(map(_quote, texts)) + "]"


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def parse_info(data: bytes, upload_id: str) -> Upload:
    """The record in `data`. Raises `RecordDamaged`.

    The id is the one asked for: a record copied or moved to another name is that name's. `offset` is what tusd wrote, which
    says little; `storage` is what the record says, which is not to be trusted with paths.
    """
    fields = _fields(_load(data), _KEYS)
    extra = _fields(_get(fields, "TusdPy", dict, {}), _EXTRA_KEYS)
    if extra and not 1 <= _get(extra, "Version", int, 0) <= EXTRA_VERSION:
        raise RecordDamaged("TusdPy is of a version that this program does not know")
    _get(fields, "ID", str, "")
    size = _get(fields, "Size", int, 0)
    offset = _get(fields, "Offset", int, 0)
    if not 0 <= size <= MAX_LENGTH or abs(offset) > MAX_LENGTH:
        raise RecordDamaged("a size is out of range")
    return Upload(
        id=upload_id,
        length=None if _get(fields, "SizeIsDeferred", bool, False) else size,
        offset=max(offset, 0),
        metadata=_metadata(_text_map(fields, "MetaData"), _get(extra, "Metadata", str, "")),
        is_partial=_get(fields, "IsPartial", bool, False),
        partials=_text_list(fields, "PartialUploads") if _get(fields, "IsFinal", bool, False) else None,
        concat=_get(extra, "Concat", str, None),
        failure=_get(extra, "Failure", str, None),
        storage=_text_map(fields, "Storage"),
    )


def _load(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise RecordDamaged(f"no JSON: {error}") from error


def _fields(value: object, keys: tuple[str, ...]) -> dict[str, Any]:
    """An object's fields under our spelling of `keys`, in whatever case they are written, as Go does; of several, the last."""
    if not isinstance(value, dict):
        raise RecordDamaged("no JSON object")
    if value.keys() <= set(keys):  # nearly always
        return value
    spelling = {key.casefold(): key for key in keys}
    return {spelling.get(key.casefold(), ""): field for key, field in value.items()}


def _get(fields: Mapping[str, Any], key: str, kind: type[Any], default: T) -> Any | T:
    """A field of exactly this type; missing or null is the default. `true` is no number, though Python thinks so."""
    value = fields.get(key)
    if value is None:
        return default
    if type(value) is not kind:
        raise RecordDamaged(f"{key} is no {kind.__name__}")
    return _well_formed(value) if kind is str else value


def _well_formed(text: str) -> str:
    """Go reads half a surrogate pair, which JSON can spell and UTF-8 can't, as U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _text_list(fields: Mapping[str, Any], key: str) -> tuple[str, ...]:
    items: list[Any] = _get(fields, key, list, [])
    for item in items:
        if type(item) is not str:
            raise RecordDamaged(f"{key} holds something else than strings")
    return tuple([_well_formed(item) for item in items])


def _text_map(fields: Mapping[str, Any], key: str) -> dict[str, str]:
    items: dict[str, Any] = _get(fields, key, dict, {})
    for item in items.values():
        if type(item) is not str:
            raise RecordDamaged(f"{key} holds something else than strings")
    return {_well_formed(name): _well_formed(item) for name, item in items.items()}


def _metadata(texts: Mapping[str, str], header: str) -> Metadata:
    """The client's own metadata where the record has it and it still says what `MetaData` says, which may have been edited."""
    metadata = parse_metadata(header)
    if {key: _well_formed(text) for key, text in _texts(metadata.pairs).items()} == texts:
        return metadata
    pairs = {key: texts[key].encode() for key in sorted(texts)}
    return Metadata(pairs, build_metadata(pairs))
