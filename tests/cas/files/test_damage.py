"""Bits that flip in stored files: none is ever read as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.model import ChunkDamaged, Codec

from tests.cas.files.contents import file_of, noise, store, text, zeros


@pytest.fixture
def files(tmp_path: Path) -> ChunkFiles:
    (tmp_path / "tmp").mkdir()
    return ChunkFiles(str(tmp_path), durable=False)


SMALL = {"raw": noise(60), "zstd": text(500), "zeros": zeros(5000)}
LARGE = {"raw": noise(300_000), "zstd": text(1 << 20)}


def flip(stored: bytes, bit: int) -> bytes:
    at = bit // 8
    return stored[:at] + bytes([stored[at] ^ 1 << bit % 8]) + stored[at + 1 :]


@pytest.mark.parametrize("data", SMALL.values(), ids=SMALL)
def test_every_flipped_bit_is_found(files: ChunkFiles, tmp_path: Path, data: bytes) -> None:
    """Some bits of a zstd frame do not matter to what comes out; then the right bytes do."""
    chunk = store(files, data)
    path = file_of(tmp_path, chunk)
    stored = path.read_bytes()
    found = 0
    for bit in range(8 * len(stored)):
        path.write_bytes(flip(stored, bit))
        try:
            assert files.read(chunk) == data
            assert chunk.codec is Codec.ZSTD
        except ChunkDamaged:
            found += 1
    assert found > 7 * len(stored)


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_flipped_bits_and_burst_are_found_in_large_chunks(files: ChunkFiles, tmp_path: Path, data: bytes) -> None:
    chunk = store(files, data)
    path = file_of(tmp_path, chunk)
    stored = path.read_bytes()
    chance = random.Random(4)
    for _ in range(60):
        at = chance.randrange(len(stored))
        burst = bytes(byte ^ 0xFF for byte in stored[at : at + chance.choice([1, 512, 4096])])
        for damaged in (flip(stored, chance.randrange(8 * len(stored))), stored[:at] + burst + stored[at + len(burst) :]):
            path.write_bytes(damaged)
            try:
                assert files.read(chunk) == data
                assert chunk.codec is Codec.ZSTD
            except ChunkDamaged:
                continue


def test_two_chunks_that_changed_places_are_found(files: ChunkFiles, tmp_path: Path) -> None:
    one, other = store(files, noise(1000, 1)), store(files, noise(1000, 2))
    file_of(tmp_path, one).write_bytes(noise(1000, 2))
    file_of(tmp_path, other).write_bytes(noise(1000, 1))
    for chunk in (one, other):
        with pytest.raises(ChunkDamaged, match="another hash"):
            files.read(chunk)
