"""The process that takes contents in stays below 256 MiB, whatever it is given; and what is large reads back as it was."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from blake3 import blake3
from tusd_py_cas.ingest.client import IngestProcess
from tusd_py_cas.ingest.jobs import Segment
from tusd_py_cas.repository import Repository, new_parameters

from tests.support.corpus import text

pytestmark = pytest.mark.timeout(300)  # what it starts has the lowest priority, and waits for whatever else is tested

MIB = 1 << 20
BOUND = 256


def peak(pid: int) -> float:
    """MiB of memory that a process has had at most."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """Two windows that can't be compressed, and two that can."""
    chance = random.Random(1)
    path = tmp_path / "content"
    path.write_bytes(chance.randbytes(32 * MIB) + text(4 * MIB, chance) * 8)
    return path


def repeated(path: Path, size: int) -> list[Segment]:
    """A content of this size that is made of the file, each time from another byte on."""
    segments, whole = [], path.stat().st_size
    while size:
        part = min(size, whole - len(segments))
        segments.append(Segment(str(path), len(segments), part))
        size -= part
    return segments


def name_of(segments: list[Segment]) -> bytes:
    hasher, files = blake3(), dict[str, bytes]()
    for segment in segments:
        data = files.get(segment.path) or files.setdefault(segment.path, Path(segment.path).read_bytes())
        hasher.update(memoryview(data)[segment.offset : segment.offset + segment.size])
    return hasher.digest()


async def take(tmp_path: Path, segments: list[Segment], average: int = MIB, level: int = 3, times: int = 1) -> float:
    path = str(tmp_path / "cas")
    Repository.open(path, create=new_parameters(average), durable=False).close()
    process = IngestProcess(path, level=level, durable=False)
    try:
        for _ in range(times):
            taken = await process.take(segments)
            assert taken.bytes_in == sum(segment.size for segment in segments)
        if times > 1:  # the others take long enough with what they are about
            manifest = taken.manifest
            assert manifest.name == name_of(segments)
            assert await process.digest(manifest) == (manifest.blake3, manifest.sha256), "it reads back"
        assert process.pid is not None
        return peak(process.pid)
    finally:
        await process.close()


async def test_a_large_content_that_is_new_and_then_known(tmp_path: Path, content: Path) -> None:
    assert await take(tmp_path, repeated(content, 1024 * MIB), times=2) < BOUND


@pytest.mark.parametrize(("average", "level"), [(64 << 10, 3), (4 * MIB, 3), (MIB, 19), (4 * MIB, 19)])
async def test_chunks_of_other_sizes_and_other_levels(tmp_path: Path, content: Path, average: int, level: int) -> None:
    assert await take(tmp_path, repeated(content, 128 * MIB), average, level) < BOUND


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_very_large_content(tmp_path: Path, content: Path) -> None:
    assert await take(tmp_path, repeated(content, 40 << 30), times=2) < BOUND
