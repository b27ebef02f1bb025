"""Contents of chunks of every kind, and what storing them is like."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from blake3 import blake3
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.codec import Compressor
from tusd_py_cas.model import Codec, StoredChunk


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@cache
def words() -> list[bytes]:
    return [bytes(random.Random(n).choices(b"abcdefghijklmnop", k=3 + n % 7)) for n in range(500)]


def text(size: int, seed: int = 0) -> bytes:
    chosen = random.Random(seed).choices(words(), k=size // 4 + 1)
    return b" ".join(chosen)[:size]


def zeros(size: int, seed: int = 0) -> bytes:
    return bytes(size)


KINDS: dict[str, Callable[[int], bytes]] = {"noise": noise, "text": text, "zeros": zeros}
SIZES = (1, 255, 256, 4096, 65_535, 65_536, 131_072, 131_073, 1 << 20, 4 << 20)


def describe(data: bytes, codec: Codec, stored: bytes | memoryview) -> StoredChunk:
    return StoredChunk(blake3(data).digest(), len(data), len(stored), codec)


def store(files: ChunkFiles, data: bytes, codec: Codec | None = None) -> StoredChunk:
    """Store a chunk, in a given form or the one that suits it."""
    chosen, stored = Compressor().encode(data)
    if codec is Codec.RAW:
        chosen, stored = Codec.RAW, data
    assert codec in (None, chosen), "this content does not come in that form"
    chunk = describe(data, chosen, stored)
    files.write(chunk.name, chosen, stored)
    files.sync_directories([chunk.name])
    return chunk


def file_of(root: Path, chunk: StoredChunk) -> Path:
    """Where its file is to be: written down here once more, for the layout must not change unnoticed."""
    name = chunk.name.hex()
    return root / "chunks" / name[:2] / (name + {Codec.RAW: "", Codec.ZSTD: ".zst"}[chunk.codec])
