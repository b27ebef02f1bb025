"""What it costs to take contents in: GB/s and processor seconds per GB for each kind of content, and by average size of chunks.

    .venv/bin/python -m tests.bench.cas_ingest [--dir DIR] [--size 1e9] [--rounds 3] [--threads N] [--not-durable]
    .venv/bin/python -m tests.bench.cas_ingest --average 256K,512K,1M,2M,4M [--dir DIR]

Prints a table; `--json FILE` writes the figures, too. The engine runs in a process of its own, so that its peak of memory is
its own. Sources come from the page cache. Figures are medians of `--rounds`, each with an empty repository.

new          random bytes
new text     made-up sentences, which zstd makes a third of
known        the random bytes once more
edited       the random bytes with 20 places overwritten, deleted or inserted
small        files of 4 KiB of random bytes, 16 at a time; their figure is files/s
average      the standard corpus (tests/support/corpus.py), part after part, file after file, by average size of chunks
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.jobs import Ingested, Segment
from tusd_py_cas.repository import Repository, new_parameters

from tests.support.corpus import LARGE, edit_file, make_corpus, text, write_random

SMALL_FILES = 2000
EDITS = 20
AT_ONCE = 16
SUFFIXES = {"K": 1 << 10, "M": 1 << 20}

Row = dict[str, float]


def segments_of(path: Path) -> list[Segment]:
    return [Segment(str(path), 0, path.stat().st_size)]


@contextmanager
def an_engine(base: Path, options: argparse.Namespace, average: int) -> Iterator[Engine]:
    """With an empty repository."""
    path = base / "repository"
    shutil.rmtree(path, ignore_errors=True)
    repository = Repository.open(str(path), create=new_parameters(average), durable=not options.not_durable)
    engine = Engine(repository, threads=options.threads)
    try:
        yield engine
    finally:
        engine.close()
        repository.close()
        shutil.rmtree(path)


def measure(work: Callable[[], int]) -> Row:
    """`work` returns how many bytes it has taken in."""
    before, started = os.times(), time.perf_counter()
    size = work()
    seconds, after = time.perf_counter() - started, os.times()
    user, system = after.user - before.user, after.system - before.system
    return {
        "GB/s": size / 1e9 / seconds,
        "CPU s/GB": (user + system) / (size / 1e9),
        "MB/CPU s": size / 1e6 / (user + system),
        "user s/GB": user / (size / 1e9),
        "system s/GB": system / (size / 1e9),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def take(engine: Engine, path: Path) -> Row:
    return measure(lambda: engine.ingest(segments_of(path)).bytes_in)


def take_small(engine: Engine, folder: Path) -> Row:
    files = sorted(folder.iterdir())

    def take_all() -> int:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sum(pool.map(lambda file: engine.ingest(segments_of(file)).bytes_in, files))

    row = measure(take_all)
    return {"files/s": row["GB/s"] * 1e9 / 4096, "CPU us/file": row["CPU s/GB"] * 4096 / 1e3, "peak MiB": row["peak MiB"]}


# Kinds of content


def make_contents(base: Path, size: int) -> None:
    chance = random.Random(1)
    write_random(base / "random", size, chance)
    edit_file(base / "random", base / "edited", EDITS, chance)
    with (base / "text").open("wb") as file:
        for _ in range(size >> 22):
            file.write(text(1 << 22, chance))
    (base / "small").mkdir()
    for number in range(SMALL_FILES):
        (base / "small" / str(number)).write_bytes(chance.randbytes(4096))


def kinds(base: Path, options: argparse.Namespace) -> dict[str, Row]:
    """One round. In a process of its own."""
    rows = {}
    with an_engine(base, options, 1 << 20) as engine:
        rows["new"] = take(engine, base / "random")
        rows["known"] = take(engine, base / "random")
        rows["edited"] = take(engine, base / "edited")
    with an_engine(base, options, 1 << 20) as engine:
        rows["new text"] = take(engine, base / "text")
    with an_engine(base, options, 1 << 20) as engine:
        rows["small"] = take_small(engine, base / "small")
    return rows


# Averages


def average_row(base: Path, options: argparse.Namespace, average: int) -> Row:
    """In a process of its own."""
    parts = sorted((base / "corpus").iterdir())
    files = [file for part in parts for file in ([part] if part.is_file() else sorted(part.rglob("*"))) if file.is_file()]
    taken: list[Ingested] = []
    with an_engine(base, options, average) as engine:

        def take_all() -> int:
            taken.extend(engine.ingest(segments_of(file)) for file in files)
            return sum(each.bytes_in for each in taken)

        row = measure(take_all)
        index = sum(file.stat().st_size for file in (base / "repository").glob("index.db*"))
    new = sum(each.chunks_new for each in taken)
    stored = sum(each.bytes_stored for each in taken)
    return {
        "given MB": sum(each.bytes_in for each in taken) / 1e6,
        "unique MB": sum(each.bytes_new for each in taken) / 1e6,
        "stored MB": stored / 1e6,
        "index MB": index / 1e6,
        "chunks": new,
        "GB/s": row["GB/s"],
        "CPU s/GB": row["CPU s/GB"],
    }


# The program


def in_a_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def medians(rounds: Sequence[dict[str, Row]]) -> dict[str, Row]:
    return {
        kind: {figure: statistics.median(each[kind][figure] for each in rounds) for figure in row}
        for kind, row in rounds[0].items()
    }


def print_table(results: dict[str, Row]) -> None:
    for label, row in results.items():
        figures = " · ".join(f"{value:,.2f} {unit}" if value < 100 else f"{value:,.0f} {unit}" for unit, value in row.items())
        print(f"{label:10} {figures}")


def size_of(value: str) -> int:
    return int(value[:-1]) * SUFFIXES[value[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/dev/shm", help="where sources and repository are")
    parser.add_argument("--size", type=lambda value: int(float(value)), default=10**9, help="bytes of a large content")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="that compute; as many as there are processors")
    parser.add_argument("--not-durable", action="store_true", help="without syncs")
    parser.add_argument("--average", help="sizes of chunks, for example 256K,1M")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        base = Path(directory)
        if options.average:
            make_corpus(base / "corpus", LARGE)
            averages: list[str] = options.average.split(",")
            results = {each: in_a_process(average_row, base, options, size_of(each)) for each in averages}
        else:
            make_contents(base, options.size)
            results = medians([in_a_process(kinds, base, options) for _ in range(options.rounds)])
    print_table(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
