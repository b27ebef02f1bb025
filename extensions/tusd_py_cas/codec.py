"""How chunks are stored: as they are, or as one zstd frame each. Also frames around bytes that are stored as they are.

Every frame says how long its content is, has no checksum (the chunk's name is one) and wants a window of at most 8 MiB: what
every reader of `Content-Encoding: zstd` has to support (RFC 9659).
"""

from __future__ import annotations

import struct
import threading

import zstandard

from tusd_py_cas.model import Codec
from tusd_py_cas.options import DEFAULT_LEVEL, LEVELS

__all__ = [
    "MAX_WINDOW",
    "BadFrame",
    "Compressor",
    "content_size",
    "decompress",
    "memory_of_compressor",
    "raw_frame",
    "raw_frame_size",
]

MAX_WINDOW = 8 << 20
"""Bytes of window: RFC 9659, section 3."""

SAMPLE = 16 * 1024
SAMPLES = 3
WORTHWHILE = 0.95
"""Three samples (begin, middle, end), compressed at level 1, tell in 25 us what random bytes are; level 3 takes 400 us for a
MiB of them. Samples that shrink by less than a twentieth are not worth decompressing whenever they are read."""

SAMPLED_FROM = 64 * 1024
"""Bytes from which on a sample is cheaper than trying."""

_MAGIC = 0xFD2FB528
_HEADER = struct.Struct("<IBBI")
_DESCRIPTOR = 0b10_0_0_0_0_00
"""Four bytes of content size, a window descriptor, no checksum, no dictionary (RFC 8878, section 3.1.1.1.1)."""

_BLOCK = 128 * 1024
"""The largest block of a frame whose window is at least as large."""

_WINDOW = 7 << 3
"""The descriptor of a window of 2^(10 + 7) = 128 KiB: bytes in raw blocks refer to nothing before them."""

_RAW_BLOCK, _LAST_BLOCK = 0 << 1, 1


class BadFrame(ValueError):
    """These bytes are no zstd frame of the size that was expected."""


class Compressor:
    """Encodes chunks; for one thread at a time. `level` is zstd's, 1 to 19."""

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        if level not in LEVELS:
            raise ValueError(f"{level} is no compression level: expected {LEVELS[0]} to {LEVELS[-1]}")
        self.level = level
        self._zstd = zstandard.ZstdCompressor(compression_params=_parameters(level))
        self._quick = zstandard.ZstdCompressor(compression_params=_parameters(1))

    def __repr__(self) -> str:
        return f"<Compressor level {self.level}>"

    def encode(self, data: bytes | memoryview) -> tuple[Codec, bytes | memoryview]:
        """How to store `data`, contiguous bytes: as a zstd frame if that is smaller and looks worthwhile, else as it is."""
        if len(data) >= SAMPLED_FROM and not self._looks_compressible(memoryview(data)):
            return Codec.RAW, data
        frame = self._zstd.compress(data)
        if len(frame) < len(data):
            return Codec.ZSTD, frame
        return Codec.RAW, data

    def _looks_compressible(self, data: memoryview) -> bool:
        middle = (len(data) - SAMPLE) // 2
        compressed = sum(len(self._quick.compress(data[at : at + SAMPLE])) for at in (0, middle, len(data) - SAMPLE))
        return compressed <= WORTHWHILE * SAMPLES * SAMPLE


def _parameters(level: int) -> zstandard.ZstdCompressionParameters:
    """The level's own; its window, which zstd shrinks to short contents, bounded whatever a later zstd makes of the level."""
    window_log = min(zstandard.ZstdCompressionParameters.from_level(level).window_log, MAX_WINDOW.bit_length() - 1)
    return zstandard.ZstdCompressionParameters(
        compression_level=level, window_log=window_log, write_content_size=1, write_checksum=0, write_dict_id=0
    )


def memory_of_compressor(level: int, size: int) -> int:
    """Bytes that a `Compressor` takes once it has encoded `size` bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=size)
    return parameters.estimated_compression_context_size()


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)


_per_thread = _PerThread()


def decompress(stored: bytes | memoryview, size: int) -> bytes:
    """The `size` bytes that the frame `stored` holds. Memory is bounded by `size` and the window, whatever the frame says.

    Raises `BadFrame`. May be called by several threads.
    """
    claimed = content_size(stored, at_most=size)  # asked first: the decompressor allocates what the header claims
    if claimed != size:
        raise BadFrame(f"the frame claims {claimed} bytes, not {size}")
    try:
        data = _per_thread.decompressor.decompress(stored, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadFrame(f"the frame can't be decompressed: {error}") from error
    if len(data) != size:
        raise BadFrame(f"the frame holds {len(data)} bytes, not {size}")
    return data


def content_size(stored: bytes | memoryview, *, at_most: int) -> int:
    """How many bytes the frame `stored` claims to hold. Raises `BadFrame` where that is unknown or more than `at_most`."""
    try:
        claimed = zstandard.frame_content_size(stored)
    except zstandard.ZstdError as error:
        raise BadFrame(f"the frame can't be decompressed: {error}") from error
    if not 0 <= claimed <= at_most:
        raise BadFrame(f"the frame claims {claimed} bytes, which may be {at_most} at most")
    return claimed


def raw_frame(data: bytes | memoryview) -> list[bytes | memoryview]:
    """A zstd frame of raw blocks with the content `data`, in parts to be sent one behind the other; `data` is not copied.

    RFC 8878, section 3.1.1. Content of 4 GiB or more is a `ValueError`.
    """
    view = memoryview(data)
    if len(view) >> 32:
        raise ValueError(f"{len(view)} bytes are too many for a frame of raw blocks")
    parts: list[bytes | memoryview] = [_HEADER.pack(_MAGIC, _DESCRIPTOR, _WINDOW, len(view))]
    for at in range(0, len(view) or 1, _BLOCK):
        block = view[at : at + _BLOCK]
        last = _LAST_BLOCK if at + _BLOCK >= len(view) else 0
        parts.append((len(block) << 3 | _RAW_BLOCK | last).to_bytes(3, "little"))
        parts.append(block)
    return parts


def raw_frame_size(size: int) -> int:
    """Bytes of the `raw_frame` of `size` bytes."""
    return _HEADER.size + 3 * max(1, -(-size // _BLOCK)) + size
