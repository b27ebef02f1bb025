#!/usr/bin/env python3
"""What a post-finish hook costs: creations that bring 4 KiB, with and without somebody who is told of each.

    hooks.py [--rounds 3] [--seconds 3] [--dir /dev/shm] [--disk DIR] [--only none] [--patience 60]

The load is `small` of load.py (wrk, 32 connections). The web service is a few lines of asyncio in a process of its own that
reads a message and answers `{}`; the program appends a byte to a file. Server, load and receiver share the machine's cores.

uploads/s       while the load lasts
CPU us          of the server's processes per upload, until the last event was delivered; that of programs is not in it
told/s          events delivered per second, from the begin of the load to the last of them
told %          how many of the uploads were told of: fire-and-forget has room for 10,000 events per worker
lag s           from the end of the load until the last event, or until `--patience` seconds have passed
ratio           of uploads/s to the row without hooks

Printed is the median of the rounds as a Markdown table. With -durability=none the uploads and the outbox are in `--dir`, with
final on `--disk`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from load import Server, cpu_seconds, small  # beside this file, which is run by its path

SERVER = f"{sys.executable} -m tusd_py -host=127.0.0.1 -port={{{{port}}}} -upload-dir={{{{dir}}}}"
SERVER += " -durability={} -workers={} {}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
PROGRAM = "#!/bin/sh\nprintf x >> count\n"
LOOK = 0.02
QUIET = 2.0
"""Seconds without an event after which no more are expected."""

HOOKS = {
    "none": "",
    "web service, durable": "-hooks-http={url} -hooks-enabled-events=post-finish",
    "web service, fire-and-forget": "-hooks-http={url} -hooks-enabled-events=post-finish -events=fire-and-forget",
    "program, durable": "-hooks-dir={programs} -hooks-enabled-events=post-finish",
    "program, fire-and-forget": "-hooks-dir={programs} -hooks-enabled-events=post-finish -events=fire-and-forget",
}


class _Answering(asyncio.Protocol):
    """Answers each message on a connection as soon as it is whole. Clients here send no chunked bodies."""

    def __init__(self, count: Any) -> None:
        self._count, self._data = count, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            lines = self._data[:end].lower().split(b"\r\n")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._count.value += 1
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


def _receive(count: Any, port: Any, ready: Any) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Answering(count), "127.0.0.1", 0, backlog=1024)
        port.value = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def web_service() -> Iterator[tuple[str, Callable[[], int]]]:
    """URL, and how many messages have been answered."""
    context = multiprocessing.get_context("spawn")
    count, port, ready = context.Value("Q", 0), context.Value("i", 0), context.Event()
    process = context.Process(target=_receive, args=(count, port, ready), daemon=True)
    process.start()
    try:
        ready.wait(20)
        yield f"http://127.0.0.1:{port.value}/", lambda: count.value
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def programs(directory: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Directory of hooks, and how many times the program has run."""
    with tempfile.TemporaryDirectory(prefix="hooks-", dir=directory) as name:
        script, count = Path(name, "post-finish"), Path(name, "count")
        script.write_text(PROGRAM)
        script.chmod(0o755)
        count.touch()
        yield name, lambda: count.stat().st_size


def uploads_in(directory: str) -> int:
    with os.scandir(directory) as entries:
        return sum(entry.name.endswith(".info") for entry in entries)


def until_told(told: Callable[[], int], expected: int, patience: float) -> float:
    """Seconds until the last event came: until all have been told, or no more come, or `patience` has passed."""
    started = last = time.perf_counter()
    seen = told()
    while seen < expected and (now := time.perf_counter()) - last < QUIET and now - started < patience:
        time.sleep(LOOK)
        if (count := told()) != seen:
            seen, last = count, time.perf_counter()
    return last - started


def measure(case: str, durability: str, workers: int, options: argparse.Namespace) -> dict[str, float]:
    where = options.dir if durability == "none" else options.disk
    with web_service() as (url, answered), programs(options.dir) as (scripts, ran):
        told = answered if "web" in case else ran
        hooks = HOOKS[case].format(url=url, programs=scripts)
        with Server(case, "/files/", SERVER.format(durability, workers, hooks), where) as server:
            cpu, started = cpu_seconds(server.pid), time.perf_counter()
            row = small(server, options)
            took, uploads = time.perf_counter() - started, uploads_in(server.dir)
            lag = until_told(told, uploads, options.patience) if hooks else 0.0
            used, count, uploads = cpu_seconds(server.pid) - cpu, told(), uploads_in(server.dir)  # some ended after the load
    figures = {"uploads/s": row["uploads/s"], "CPU us": used / uploads * 1e6}
    return {**figures, "told/s": count / (took + lag), "told %": 100 * count / uploads, "lag s": lag}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--disk", default=os.getcwd())
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--only", choices=("none", "final"), help="this durability only")
    options = parser.parse_args()
    columns = ("uploads/s", "ratio", "CPU us", "told/s", "told %", "lag s")
    print(f"| durability | workers | hook | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    for durability in (options.only,) if options.only else ("none", "final"):
        for workers in (1, 2):
            rows: dict[str, list[dict[str, float]]] = {case: [] for case in HOOKS}
            for _ in range(options.rounds):
                for case, found in rows.items():
                    found.append(measure(case, durability, workers, options))
            medians = {
                case: {key: statistics.median(row[key] for row in found) for key in found[0]} for case, found in rows.items()
            }
            for case, row in medians.items():
                ratio = row["uploads/s"] / medians["none"]["uploads/s"]
                cells = [f"{row['uploads/s']:,.0f}", f"{ratio:.2f}", f"{row['CPU us']:,.0f}"]
                if HOOKS[case]:
                    cells += [f"{row['told/s']:,.0f}", f"{row['told %']:.0f}", f"{row['lag s']:.1f}"]
                else:
                    cells += ["", "", ""]
                print(f"| {durability} | {workers} | {case} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
