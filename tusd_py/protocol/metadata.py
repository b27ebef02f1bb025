"""The `Upload-Metadata` header: `key base64,key base64,key`. Spec: creation, Upload-Metadata; rows M01 to M11."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tusd_py.protocol.refusals import InvalidMetadata

__all__ = ["Metadata", "build_metadata", "parse_metadata"]

_UNWRITABLE = re.compile(r"[\x00-\x20,\x7f]")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Pairs of key and decoded value, in the client's order, and `header`, the client's own spelling of them (H05, M09).

    `header` has one character for a byte, as header fields are bytes; keys are text, UTF-8 where they are valid (M07).
    """

    pairs: Mapping[str, bytes] = field(default_factory=dict)
    header: str = ""

    def text(self, key: str) -> str | None:
        """The value of `key` as text, undecodable bytes replaced; None when there is no such key."""
        value = self.pairs.get(key)
        return None if value is None else value.decode("utf-8", "replace")


def parse_metadata(header: str, *, strict: bool = False) -> Metadata:
    """Read an `Upload-Metadata` value.

    Lenient, as tusd is and as its clients expect: a pair that can't be read is left out, a repeated key keeps its last value,
    an empty header is no metadata (tuspy always sends one). With `strict`, such a pair raises `InvalidMetadata`.
    The `header` of the result is the client's spelling where every pair was good, else rebuilt from those that were,
    so that a HEAD never shows what was not stored.
    """
    pairs: dict[str, bytes] = {}
    clean = True
    header = header.strip(" \t")  # and no other blank: A0 may be the last byte of a key
    for element in header.split(",") if header else ():
        key, value = _parse_pair(element)
        if value is None or key in pairs:
            clean = False
            if strict:
                raise InvalidMetadata(f"invalid Upload-Metadata at {element.strip()!r}: unique keys and base64 values expected")
        if value is not None:
            pairs[key] = value
    return Metadata(pairs, header if clean else build_metadata(pairs))


def _parse_pair(element: str) -> tuple[str, bytes | None]:
    """Key and value of one element; the value is None when the element is not well formed."""
    key, _, encoded = element.strip(" ").partition(" ")
    if not key.isascii():
        key = _decoded_key(key)
    if not key or "\t" in element or _UNWRITABLE.search(key) is not None:
        return key, None
    try:
        return key, binascii.a2b_base64(encoded.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return key, None


def _decoded_key(key: str) -> str:
    try:
        return key.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return key


def build_metadata(pairs: Mapping[str, bytes]) -> str:
    """The inverse of `parse_metadata`; an empty value is written without base64 and without the space.

    A key that a header can't hold (a hook or an edited record may have one) is left out, rather than to spoil the others.
    """
    return ",".join([_build_pair(key, value) for key, value in pairs.items() if _UNWRITABLE.search(key) is None and key])


def _build_pair(key: str, value: bytes) -> str:
    if not key.isascii():
        key = key.encode("utf-8").decode("latin-1")
    return f"{key} {binascii.b2a_base64(value, newline=False).decode()}" if value else key
