"""How long the index takes: `python -m tests.cas.index.timings [CHUNKS]`, on an index of so many chunks (100,000), durable.

Tells processor time in milliseconds, the least of five runs (the median of 2000 for ranges): others on the machine, and the
disk's syncs, are left out.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from blake3 import blake3
from tusd_py_cas.model import LEAF, ChunkRef, Codec, Manifest, StoredChunk
from tusd_py_cas.sqlite_index import SqliteIndex

from tests.cas.index.support import open_index, refs, yes
from tests.cas.index.worker import FOREVER

RANGE = 64 * 1024
CHUNKS_READ = 10_000


def took(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def tell(what: str, milliseconds: float) -> None:
    print(f"{what:55} {milliseconds:10.3f} ms", flush=True)


def batch(start: int, count: int) -> list[StoredChunk]:
    chance = random.Random(start)
    return [
        StoredChunk(blake3(b"%d" % n).digest(), chance.randrange(1 << 18, 1 << 22), 1 << 18, Codec.ZSTD)
        for n in range(start, start + count)
    ]


def add_manifest(index: SqliteIndex, chosen: list[ChunkRef]) -> Manifest:
    leaves = [index.add_leaf(chosen[at : at + LEAF]) for at in range(0, len(chosen), LEAF)]
    return index.add_manifest(size=sum(ref.size for ref in chosen), blake3=bytes(32), sha256=bytes(32), leaves=leaves)


def tell_reading(index: SqliteIndex, manifest: Manifest) -> None:
    tell(f"pieces, all {CHUNKS_READ}, first time", took(lambda: list(index.pieces(manifest))))
    tell(f"pieces, all {CHUNKS_READ}, again", min(took(lambda: list(index.pieces(manifest))) for _ in range(5)))
    starts = [random.randrange(manifest.size - RANGE) for _ in range(2000)]
    times = [took(lambda: list(index.pieces(manifest, start, start + RANGE))) for start in starts]  # noqa: B023
    tell("pieces, a range of 64 KiB", median(times))


def main() -> None:
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as directory:
        index = open_index(Path(directory) / "index.db", durable=True)
        for start in range(0, total, LEAF):
            index.add_chunks(batch(start, min(LEAF, total - start)), yes)
        news = [batch(total + 256 * n, 256) for n in range(5)]
        tell("add_chunks, 256", min(took(lambda: index.add_chunks(new, yes)) for new in news))  # noqa: B023
        known = random.Random(1).sample(batch(0, LEAF), LEAF) if total < 3 * LEAF else scattered(total)
        tell(f"find_chunks, {LEAF}", min(took(lambda: index.find_chunks([each.name for each in known])) for _ in range(5)))
        tell(f"add_leaf, {LEAF}", min(took(lambda: index.add_leaf(refs(known))) for _ in range(5)))
        manifest = add_manifest(index, (refs(known) * 3)[:CHUNKS_READ])
        index.close()
        index = open_index(Path(directory) / "index.db", durable=True)
        tell_reading(index, manifest)
        tell("compose, 4 contents", took(lambda: index.compose([manifest] * 4)))
        for n in range(3):
            index.add_version(upload_id=f"{n}", object="o", owner=None, manifest=manifest, metadata={}, raw=True, at=float(n))
        tell("find_version", min(took(lambda: index.find_version("1")) for _ in range(5)))
        ids = [f"{n}" for n in range(1000)]
        tell("without_version, 1000", min(took(lambda: index.without_version(ids)) for _ in range(5)))
        tell("note_present, 1000, none of them missing", min(took(lambda: index.note_present(ids)) for _ in range(5)))
        tell("is_whole", took(lambda: index.is_whole(manifest)))
        tell("check", took(lambda: list(index.check())))
        tell("totals", took(index.totals))
        tell("unused", took(lambda: index.unused(FOREVER)))
        tell("sweep and condemn", took(lambda: (index.sweep(FOREVER), index.condemn(FOREVER))))
        condemned = index.condemned(200)
        tell("bury, 200", took(lambda: index.bury(condemned, lambda chunk: None)))
        index.close()


def scattered(total: int) -> list[StoredChunk]:
    """A leaf full of chunks from all over the index."""
    starts = range(0, total - LEAF, LEAF)
    per_start = -(-LEAF // len(starts))
    return [each for start in starts for each in batch(start, LEAF)[:per_start]][:LEAF]


if __name__ == "__main__":
    main()
