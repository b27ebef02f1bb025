"""Measures content-addressed storage, side by side with restic and borg.

    .venv/bin/python -m tests.bench.cas [--disk DIR] [--quick] [--only ingest,size,averages,...] [--no-page]

Writes docs/explanation/cas-benchmarks.md, .json and .png, unless `--no-page` says not to.

Needs restic, borg, openssl and wrk (Debian: restic, borgbackup, openssl, wrk), 16 GB on `--disk`, and 8 GB of memory in
/dev/shm. The tools take turns, round by round, so that the machine's drift hits all alike; figures are medians. What is read
comes from the page cache.

ingest      one file of `--size` random bytes into an empty repository, the same file once more, and back to /dev/null
size        the standard corpus (tests/support/corpus.py), part after part into one repository, and what that then takes
averages    the same corpus by average size of chunks (tests/bench/cas_ingest.py), tusd-py only
serving     uploads whose own files are gone: GET of all, then `--ranges` random ranges of 64 KiB
final       an upload in four parts of `--final` bytes in all: the last POST, when the parts have been ingested
uploads     one upload of `--upload` bytes, then small ones of 4 KiB for `--seconds`: without -cas, with it, while it ingests

With `--only` the other figures stay those of the last run. Servers listen on loopback.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.bench import cas_serving
from tests.bench.cas_report import FIGURES, RANDOM, goals, write_page, write_plot
from tests.bench.cas_tools import TOOLS, Cost, Tool, disk_usage, noise
from tests.support.corpus import LARGE, Corpus, Scale, make_corpus

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "cas-benchmarks.md"
MEMORY = "/dev/shm"
QUICK = {
    "size": 200 * 10**6,
    "upload": 200 * 10**6,
    "final": 10**9,
    "backlog": 4,
    "seconds": 2,
    "rounds": 1,
    "ranges": 100,
    "corpus": 4 << 20,
    "averages": "1M",
}


def bytes_of(text: str) -> int:
    return int(float(text))


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def corpus_made(folder: Path, generated: int) -> Corpus:
    """In a process of its own: a command that is started by a large process seems to be as large itself, to who asks the
    kernel for its peak."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(make_corpus, (folder, Scale(generated, LARGE.library)))


class Bench:
    """One run. Each method named as in `PARTS` returns what it adds to the results."""

    def __init__(self, options: argparse.Namespace, base: Path) -> None:
        self.options, self.base = options, base

    @cached_property
    def stored(self) -> Path:
        return self._random("stored", self.options.size)

    @cached_property
    def uploaded(self) -> Path:
        return self._random("uploaded", self.options.upload)

    def _random(self, name: str, size: int) -> Path:
        path = self.base / name
        noise(path, size)
        return path

    def ingest(self) -> dict[str, Any]:
        found: dict[str, dict[str, list[dict[str, float]]]] = {"new": {}, "known": {}, "read": {}}
        for _ in range(self.options.rounds):
            for kind in TOOLS:
                with tempfile.TemporaryDirectory(dir=self.base) as where:
                    tool = kind(Path(where), self.base)
                    tool.make()
                    for what, cost in self._three(tool):
                        found[what].setdefault(tool.name, []).append(self._rates(cost))
        return {what: {tool: medians(rows) for tool, rows in by_tool.items()} for what, by_tool in found.items()}

    def _three(self, tool: Tool) -> list[tuple[str, Cost]]:
        work: list[tuple[str, Callable[[], Cost]]] = [
            ("new", lambda: tool.store([self.stored.name])),
            ("known", lambda: tool.store([self.stored.name])),
            ("read", lambda: tool.read(self.stored.name)),
        ]
        done = []
        for what, step in work:
            os.sync()  # what was written before is not to be paid for now
            done.append((what, step()))
        return done

    def _rates(self, cost: Cost) -> dict[str, float]:
        mega = self.options.size / 1e6
        return {"MB/s": mega / cost.wall, "MB/CPU s": mega / cost.cpu, "peak MiB": cost.peak}

    def size(self) -> dict[str, Any]:
        folder = self.base / "corpus"
        made = corpus_made(folder, self.options.corpus)
        found: dict[str, Any] = {}
        for kind in TOOLS:
            with tempfile.TemporaryDirectory(dir=self.base) as where:
                tool = kind(Path(where), folder)
                tool.make()
                parts, costs = {}, []
                for part in made.parts:
                    costs.append(tool.store([part.name]))
                    parts[part.name] = disk_usage(tool.stored)
                cpu, peak = sum(cost.cpu for cost in costs), max(cost.peak for cost in costs)
                found[tool.name] = {"parts": parts, "CPU s": cpu, "peak MiB": peak}
        logical = sum(path.stat().st_size for path in made.files())
        told = f"{made.second}; {len(made.files()):,} files, {logical / 1e6:,.0f} MB in all"
        shutil.rmtree(folder)
        return {"size": found, "corpus": told}

    def averages(self) -> dict[str, Any]:
        figures = self.base / "averages.json"
        command = [sys.executable, "-m", "tests.bench.cas_ingest", f"--average={self.options.averages}", f"--dir={self.base}"]
        subprocess.run([*command, f"--json={figures}"], stdout=subprocess.DEVNULL, check=True)
        return {"averages": json.loads(figures.read_text())}

    def serving(self) -> dict[str, Any]:
        folder = self.base / "archives"
        archive = next(part for part in corpus_made(folder, 1 << 20).parts if part.name == "library.tar")
        files = {RANDOM: self.uploaded, "library.tar": archive}
        found = cas_serving.reading(self.base, files, self.options.ranges)
        shutil.rmtree(folder)
        return {"serving": found}

    def final(self) -> dict[str, Any]:
        return {"final": cas_serving.final_post(self.base, self.options.final, self.uploaded, posts=5)}

    def uploads(self) -> dict[str, Any]:
        found = {}
        for place, folder, flags in (("in memory", MEMORY, "-durability=none"), ("on disk", str(self.base), "")):
            with tempfile.TemporaryDirectory(dir=folder) as where:
                found[place] = self._in_flight(Path(where), flags)
        return {"in flight": found}

    def _in_flight(self, base: Path, flags: str) -> dict[str, dict[str, float]]:
        backlog = [base / f"backlog-{number}" for number in range(self.options.backlog)]
        for number, path in enumerate(backlog):
            noise(path, self.options.upload // 2, key=2 + number)
        rows: dict[str, list[dict[str, float]]] = {variant: [] for variant in cas_serving.VARIANTS}
        with self.uploaded.open("rb") as source:
            uploads = cas_serving.Uploads(backlog, source.fileno(), self.options.upload, self.options.seconds)
            for _ in range(self.options.rounds):
                for variant, found in rows.items():
                    os.sync()
                    found.append(cas_serving.in_flight(base, flags, variant, uploads))
        return {variant: medians(found) for variant, found in rows.items()}


PARTS = ("ingest", "size", "averages", "serving", "final", "uploads")


def machine(base: Path) -> dict[str, str]:
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "unknown")
    kind = subprocess.run(["df", "--output=fstype", str(base)], capture_output=True, text=True, check=True).stdout.split()[-1]
    with tempfile.TemporaryDirectory(dir=base) as where:
        versions = [kind_of(Path(where), base).version() for kind_of in TOOLS]
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": model,
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "file system": kind,
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
        "tools": ", ".join(versions),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk", default=os.getcwd(), help="a directory on the disk that is to be measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=bytes_of, default=2 * 10**9, help="bytes of the file that is stored")
    parser.add_argument("--upload", type=bytes_of, default=10**9, help="bytes of a large upload")
    parser.add_argument("--corpus", type=bytes_of, default=LARGE.generated, help="bytes of a generated file of the corpus")
    parser.add_argument("--averages", default="256K,1M,4M", help="sizes of chunks")
    parser.add_argument("--final", type=bytes_of, default=10**10, help="bytes of the upload in four parts")
    parser.add_argument("--backlog", type=int, default=6, help="files of half of --upload that wait to be ingested meanwhile")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--ranges", type=int, default=500)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round, to see that it works; writes no page")
    parser.add_argument("--no-page", action="store_true", help="print the figures only")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    if unknown := set(options.only.split(",")) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}; unknown: {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = arguments()
    path = PAGE.with_suffix(".json")
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not options.quick else {}
    with tempfile.TemporaryDirectory(prefix="cas-", dir=options.disk) as name:
        bench = Bench(options, Path(name))
        results["machine"] = machine(Path(name))
        for part in options.only.split(","):
            print(f"{part} ...", file=sys.stderr, flush=True)
            found = getattr(bench, part)()
            print(json.dumps(found, indent=1))
            results |= found
            if not (options.quick or options.no_page):
                path.write_text(json.dumps(results, indent=1) + "\n")
    if options.quick or options.no_page or not results.keys() >= FIGURES:
        return
    write_page(PAGE, results)
    write_plot(PAGE.with_suffix(".png"), results)
    for goal in goals(results):
        print(f"{'met   ' if goal.met else 'MISSED'} {goal.figure}: {goal.measured} (goal: {goal.goal})")


if __name__ == "__main__":
    main()
