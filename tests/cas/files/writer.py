"""A process that stores chunks until it is killed, for tests of what that leaves.

python -m tests.cas.files.writer ROOT COUNT [durable|not]: says `ready`, waits for a line, stores chunks 0 .. COUNT-1 in batches
of four, tells the number and name of each once it is durable, or the kind of failure and goes on, and says `done`.
"""

from __future__ import annotations

import sys

from tusd_py_cas.chunk_files import ChunkFiles
from tusd_py_cas.codec import Compressor
from tusd_py_cas.model import Codec, StoredChunk

from tests.cas.files.contents import describe, noise, text
from tusd_py.ports.failures import StorageFailure

BATCH = 4


def content(number: int) -> bytes:
    """Chunks of some blocks of the file system, every other one compressible."""
    size = 5000 + 7919 * number % 60_000
    return text(size, number) if number % 2 else noise(size, number)


def encoded(number: int) -> tuple[StoredChunk, bytes]:
    data = content(number)
    codec, stored = Compressor().encode(data)
    assert codec is (Codec.ZSTD if number % 2 else Codec.RAW)
    return describe(data, codec, stored), bytes(stored)


def say(*words: object) -> None:
    print(*words, flush=True)


def store_batch(files: ChunkFiles, numbers: range) -> None:
    batch = [encoded(number) for number in numbers]
    try:
        for chunk, stored in batch:
            files.write(chunk.name, chunk.codec, stored)
        files.sync_directories(chunk.name for chunk, _ in batch)
    except StorageFailure as failure:
        say("failed", type(failure).__name__)
    else:
        for number in numbers:
            say("stored", number)


def main() -> None:
    root, count, durable = sys.argv[1], int(sys.argv[2]), sys.argv[3:] != ["not"]
    files = ChunkFiles(root, durable=durable)
    say("ready")
    sys.stdin.readline()
    for first in range(0, count, BATCH):
        store_batch(files, range(first, min(first + BATCH, count)))
    say("done")


if __name__ == "__main__":
    main()
