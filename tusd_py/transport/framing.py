"""Where a request body ends: by Content-Length, or chunk by chunk (RFC 9112, 6 and 7.1). Bytes in, payload out; no I/O.

Both framings have the same face: `feed` gives the payload in a piece of input, `finished` says that the body is over, and
`leftover` is what came behind it and belongs to the next request. `wanted` is how much may be read without taking in more.
`malformed` says that there is no telling where the body ends; the payload before that place is good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

__all__ = ["ChunkedFraming", "Framing", "LengthFraming"]

MAX_LINE = 4096
"""A chunk-size line with its extensions; nginx and Go allow as much."""

MAX_TRAILERS = 16 * 1024
"""All trailer lines together. An Upload-Checksum takes a hundred bytes."""

UNBOUNDED = 1 << 30

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")


class Framing(Protocol):
    """Cuts the payload out of the bytes of a connection."""

    finished: bool
    malformed: str | None
    leftover: bytes
    trailers: dict[bytes, bytes]

    @property
    def wanted(self) -> int:
        """At most so many bytes should be read next."""

    def feed(self, data: memoryview) -> Sequence[memoryview]:
        """Payload in `data`, as views of it, in order. Not to be called once the body is finished or malformed."""


class LengthFraming:
    """A body of a known number of bytes."""

    __slots__ = ("finished", "leftover", "malformed", "trailers", "wanted")

    def __init__(self, length: int) -> None:
        self.wanted = length
        self.finished = length == 0
        self.malformed: str | None = None
        self.leftover = b""
        self.trailers: dict[bytes, bytes] = {}

    def feed(self, data: memoryview) -> Sequence[memoryview]:
        if len(data) > self.wanted:
            self.leftover = bytes(data[self.wanted :])
            data = data[: self.wanted]
        self.wanted -= len(data)
        self.finished = not self.wanted
        return (data,)


class ChunkedFraming:
    """A chunked body. Lines may come in any number of pieces; payload is never copied."""

    __slots__ = ("_line", "_remaining", "_state", "_trailer_bytes", "finished", "leftover", "malformed", "trailers")

    def __init__(self) -> None:
        self._state = self._read_size
        self._line = b""  # the beginning of a line whose end has not come yet
        self._remaining = 0  # payload to come in this chunk
        self._trailer_bytes = 0
        self.finished = False
        self.malformed: str | None = None
        self.leftover = b""
        self.trailers: dict[bytes, bytes] = {}

    @property
    def wanted(self) -> int:
        return UNBOUNDED

    def feed(self, data: memoryview) -> Sequence[memoryview]:
        payload: list[memoryview] = []
        position = 0
        while position < len(data) and not self.finished and not self.malformed:
            if self._remaining:
                piece = data[position : position + self._remaining]
                payload.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                continue
            position = self._feed_line(data, position)
        if self.finished:
            self.leftover = bytes(data[position:])
        return payload

    def _feed_line(self, data: memoryview, position: int) -> int:
        """Read on in a line; returns the position behind what was used."""
        window = bytes(data[position : position + MAX_LINE])
        end = window.find(b"\n")
        self._line += window if end < 0 else window[: end + 1]
        if len(self._line) > MAX_LINE:
            self.malformed = f"a line of the chunked framing exceeds {MAX_LINE} bytes"
        if end < 0 or self.malformed:
            return position + len(window)
        line, self._line = self._line, b""
        if line.endswith(b"\r\n"):
            self._state(line[:-2])
        else:  # a bare LF is how requests are smuggled past a proxy that reads it otherwise
            self.malformed = "a line of the chunked framing does not end in CRLF"
        return position + end + 1

    def _read_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            self.malformed = "a chunk size in hexadecimal expected"
            return
        self._remaining = int(match[1], 16)
        self._state = self._read_chunk_end if self._remaining else self._read_trailer

    def _read_chunk_end(self, line: bytes) -> None:
        if line:
            self.malformed = "a chunk is longer than its size says"
        self._state = self._read_size

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self.finished = True
            return
        self._trailer_bytes += len(line)
        match = _TRAILER.fullmatch(line)
        if match is None or self._trailer_bytes > MAX_TRAILERS:
            self.malformed = "a malformed trailer, or too many of them"
            return
        name, value = match[1].lower(), match[2]
        known = self.trailers.get(name, value)
        self.trailers[name] = value if known == value else known + b", " + value  # as with repeated headers
