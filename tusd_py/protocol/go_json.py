"""JSON as Go's `encoding/json` writes and reads it: what tusd's records, hook messages and hook answers have in common.

Knows no field of any of them. Writing is piece by piece, with `encode` over the whole at the end, as that is several times as
fast as `json.dumps`. Reading is as tolerant as Go is: unknown keys, the case of keys, missing keys and `null` don't matter;
wrong types do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, NoReturn, TypeVar

__all__ = [
    "JsonError",
    "boolean",
    "encode",
    "field",
    "fields",
    "load",
    "quote",
    "quoted_list",
    "quoted_map",
    "text_map",
    "texts",
    "well_formed",
]

T = TypeVar("T")

# Go escapes these for the sake of browsers, and writes one U+FFFD for each byte that is no UTF-8, which `surrogateescape`
# has turned into one lone surrogate each. None of them occurs in JSON outside of strings.
_GO_ESCAPED = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

_KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number with a point",
    bool: "true or false",
    dict: "an object",
    list: "an array",
}

quote: Callable[[str], str] = encode_basestring
"""A string with its quotes. What Go writes in another way is left to `encode`."""


class JsonError(ValueError):
    """No JSON, or something else than was expected where. The message is a sentence without a beginning capital."""


def boolean(value: bool) -> str:
    return "true" if value else "false"


def quoted_map(texts: Mapping[str, str]) -> str:
    """An object of strings, sorted by key as Go sorts maps."""
    return f"{{{','.join([f'{quote(key)}:{quote(text)}' for key, text in sorted(texts.items())])}}}"


def quoted_list(texts: Iterable[str]) -> str:
    return "[" + ",".join(map(quote, texts)) + "]"


def encode(text: str) -> bytes:
    """Finished JSON in Go's spelling. Bytes that are no UTF-8 come as `surrogateescape` has left them."""
    if text.isascii() and "&" not in text and "<" not in text and ">" not in text:
        return text.encode()  # nothing that Go writes in another way
    return _GO_ESCAPED.sub(_escape, text).encode()


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def load(data: bytes) -> object:
    """What `data` says. Raises `JsonError`."""
    try:
        return _DECODER.decode(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise JsonError(f"no JSON: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is Python's, not JSON's")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def fields(value: object, keys: Iterable[str]) -> dict[str, Any]:
    """An object's fields under our spelling of `keys`, in whatever case they are written, as Go does; of several, the last."""
    if not isinstance(value, dict):
        raise JsonError("no JSON object")
    known = frozenset(keys)
    if value.keys() <= known:  # nearly always
        return value
    spelling = {key.casefold(): key for key in known}
    return {spelling.get(key.casefold(), ""): item for key, item in value.items()}


def field(among: Mapping[str, Any], key: str, kind: type[Any], default: T) -> Any | T:
    """A field of exactly this type; missing or null is the default. `true` is no number, though Python thinks so."""
    value = among.get(key)
    if value is None:
        return default
    if type(value) is not kind:
        raise JsonError(f"{key} is not {_KINDS[kind]}")
    return well_formed(value) if kind is str else value


def well_formed(text: str) -> str:
    """Go reads half a surrogate pair, which JSON can spell and UTF-8 can't, as U+FFFD; so do bytes that are no UTF-8 end."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def texts(among: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A field that is an array of strings; empty where it is missing or null."""
    items: list[Any] = field(among, key, list, [])
    for item in items:
        if type(item) is not str:
            raise JsonError(f"{key} holds something else than strings")
    return tuple([well_formed(item) for item in items])


def text_map(among: Mapping[str, Any], key: str) -> dict[str, str]:
    """A field that is an object of strings; empty where it is missing or null."""
    items: dict[str, Any] = field(among, key, dict, {})
    for item in items.values():
        if type(item) is not str:
            raise JsonError(f"{key} holds something else than strings")
    return {well_formed(name): well_formed(item) for name, item in items.items()}
