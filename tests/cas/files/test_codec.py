"""How chunks are encoded, and that no frame makes more memory of itself than the index allows."""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from tusd_py_cas.codec import BadFrame, Compressor, content_size, decompress, raw_frame, raw_frame_size
from tusd_py_cas.model import Codec

from tests.cas.files.contents import KINDS, SIZES, noise, text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_what_was_encoded_comes_back(kind: str, size: int) -> None:
    data = KINDS[kind](size)
    codec, stored = Compressor().encode(memoryview(data))
    assert (decompress(stored, size) if codec is Codec.ZSTD else stored) == data
    assert len(stored) <= size


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        (noise(1 << 20), Codec.RAW),
        (noise(1000), Codec.RAW),
        (text(1 << 20), Codec.ZSTD),
        (text(1000), Codec.ZSTD),
        (base64.b64encode(noise(1 << 20)), Codec.ZSTD),
        (bytes(70_000), Codec.ZSTD),
        (b"a", Codec.RAW),
        (noise(500_000) + text(48_000) + noise(500_000), Codec.ZSTD),  # a third of the sample shrinks
        (noise(200_000) + text(100_000) + noise(700_000), Codec.RAW),  # text where no sample is taken
    ],
    ids=["noise", "little noise", "text", "little text", "base64", "zeros", "byte", "text in the middle", "text elsewhere"],
)
def test_compression_is_for_what_gains_by_it(data: bytes, codec: Codec) -> None:
    assert Compressor().encode(data)[0] is codec


def test_raw_bytes_are_not_copied() -> None:
    data = memoryview(noise(1 << 20))
    assert Compressor().encode(data)[1] is data


@pytest.mark.parametrize("level", range(1, 20))
def test_frames_are_valid_as_a_content_coding(level: int) -> None:
    """RFC 9659: a window of at most 8 MB."""
    for size in (1, 70_000, 16 << 20):
        frame = zstandard.get_frame_parameters(Compressor(level).encode(bytes(size) if size > 1 else b"a" * 50)[1])
        assert frame.window_size <= 8 << 20
        assert frame.content_size == (size if size > 1 else 50)
        assert not frame.has_checksum
        assert frame.dict_id == 0


@pytest.mark.parametrize("level", [-1, 0, 20, 22])
def test_levels_that_want_larger_windows_are_refused(level: int) -> None:
    with pytest.raises(ValueError, match=f"^{level} is no compression level: expected 1 to 19$"):
        Compressor(level)


def header(content_size: int, window: int = 0x38) -> bytes:
    """Of a frame without checksum and dictionary: RFC 8878, section 3.1.1."""
    return struct.pack("<IBBQ", 0xFD2FB528, 0b11_0_0_0_0_00, window, content_size)


FRAME = zstandard.ZstdCompressor().compress(text(5000))

BAD_FRAMES = {
    "nothing": b"",
    "no frame": b"these bytes are no frame of zstd",
    "another size": zstandard.ZstdCompressor().compress(text(5001)),
    "no size": zstandard.ZstdCompressor(write_content_size=False).compress(text(5000)),
    "cut short": FRAME[:-1],
    "only a head": FRAME[:8],
    "bytes behind": FRAME + b"\0",
    "a frame behind": FRAME + FRAME,
    "less than promised": header(5000) + b"".join(raw_frame(b"x" * 4999))[10:],
    "more than promised": header(5000) + b"".join(raw_frame(b"x" * 5001))[10:],
    "a skippable frame": struct.pack("<II", 0x184D2A50, 4) + b"skip",
    "claims a terabyte": header(1 << 40) + b"\1\0\0",
    "a window of 1 GiB": header(5000, 20 << 3) + b"".join(raw_frame(b"x" * 4999))[10:],
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_found_in_little_memory(frame: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadFrame):
            decompress(frame, 5000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_frame_gets_no_large_window() -> None:
    """Which the decompressor makes once it sees that it can't decompress the frame in one go."""
    with pytest.raises(BadFrame, match="too much memory"):
        decompress(header(5000, 16 << 3) + b"".join(raw_frame(b"x" * 5000))[10:-3], 5000)


def test_a_bomb_does_not_go_off() -> None:
    """A tampered file can't make more of itself than the index says, which is not in the attacker's hands."""
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        for size in (5000, 1 << 20):
            with pytest.raises(BadFrame):
                decompress(bomb, size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("frame", ["nothing", "no frame", "no size", "a skippable frame", "claims a terabyte"])
def test_a_frame_has_to_say_how_much_it_holds(frame: str) -> None:
    if frame == "a skippable frame":  # which holds nothing
        assert content_size(BAD_FRAMES[frame], at_most=5000) == 0
        return
    with pytest.raises(BadFrame):
        content_size(BAD_FRAMES[frame], at_most=5000)
    assert content_size(FRAME, at_most=5000) == 5000
    with pytest.raises(BadFrame, match="claims 5000 bytes, which may be 4999 at most"):
        content_size(FRAME, at_most=4999)


def test_threads_decompress_at_once() -> None:
    contents = [text(200_000, seed) for seed in range(32)]
    frames = [zstandard.ZstdCompressor().compress(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(decompress, frames, map(len, contents))) == contents


@pytest.mark.parametrize("size", [0, *SIZES, 16 << 20])
def test_raw_bytes_go_into_a_frame_as_they_are(size: int) -> None:
    data = noise(size)
    frame = b"".join(raw_frame(data))
    assert len(frame) == raw_frame_size(size)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame) == data
    assert zstandard.get_frame_parameters(frame).content_size == size
    assert zstandard.get_frame_parameters(frame).window_size == 128 * 1024
    if size:
        assert decompress(frame, size) == data


def test_frames_behind_each_other_are_one_content() -> None:
    """What a response is made of: frames as they are stored, and raw chunks in frames of their own."""
    first, second, third = text(300_000), noise(300_000), text(70_000)
    stored = [Compressor().encode(first)[1], *raw_frame(second), Compressor().encode(third)[1]]
    reader = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(b"".join(stored), read_across_frames=True)
    assert reader.read() == first + second + third
    if zstd := shutil.which("zstd"):  # another version, and without our library in between
        done = subprocess.run([zstd, "-dc"], input=b"".join(stored), stdout=subprocess.PIPE, check=True, timeout=30)
        assert done.stdout == first + second + third


def test_a_raw_frame_copies_nothing() -> None:
    data = noise(1 << 20)
    blocks = [part for part in raw_frame(data) if isinstance(part, memoryview)]
    assert all(block.obj is data for block in blocks)
    assert sum(map(len, blocks)) == len(data)
