#!/usr/bin/env python3
"""What log and metrics cost a creation that brings its 4 KiB: processor time of one request, in microseconds.

    observing.py [--rounds 40]

Everything that observers are told about such a request is told to them, 500 requests at a time, as the server tells it, and the
lines are made and written to /dev/null. What is printed is the least of all rounds, as other programs only ever add, less what
telling nobody costs. Nothing is sent, and no server runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Sequence
from typing import Any

from tusd_py.asgi.requests import Request
from tusd_py.observability.cells import Cells, Pages
from tusd_py.observability.line_writer import LineWriter
from tusd_py.observability.metrics import Metrics
from tusd_py.observability.observers import combined
from tusd_py.observability.request_lines import RequestLines
from tusd_py.observability.request_log import RequestLog
from tusd_py.ports.observer import NO_OBSERVER, Observer
from tusd_py.protocol.upload import Upload

REQUESTS = 500
SIZE = 4096

PAUSE = 0.1
"""Seconds for everything that was put off to be begun."""

HEAD = [
    (b"host", b"127.0.0.1:8080"),
    (b"tus-resumable", b"1.0.0"),
    (b"upload-length", b"4096"),
    (b"content-type", b"application/offset+octet-stream"),
    (b"content-length", b"4096"),
]
SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/files/", "headers": HEAD, "scheme": "http"}


async def _no_body() -> Any:
    raise AssertionError("nobody reads a body here")


def requests() -> list[tuple[Request, Upload, Upload]]:
    """Requests and their uploads, before and after the body. Their URLs are known already, as the answer needs them anyway."""
    made = []
    for _ in range(REQUESTS):
        request = Request({**SCOPE, "extensions": {"tusd_py.body": object()}}, _no_body, "/files/", 60.0)
        upload = Upload(id=os.urandom(16).hex(), length=SIZE)
        request.url_of(upload.id)
        made.append((request, upload, upload.evolve(offset=SIZE)))
    return made


def tell(observer: Observer, told: Sequence[tuple[Request, Upload, Upload]]) -> None:
    for request, upload, finished in told:
        observer.request_incoming(request)
        observer.upload_created(request, upload)
        observer.chunk_started(request, upload, SIZE)
        observer.chunk_complete(request, finished, SIZE, 0.0001)
        observer.synced(0.0001)
        observer.upload_finished(request, finished)
        observer.response_outgoing(request, 201, None, 0.0005)


async def timed(observer: Observer, writer: LineWriter) -> float:
    """Microseconds of processor time a request, of all threads, until everything is written."""
    told = requests()
    gc.collect()
    begin = time.process_time()
    tell(observer, told)
    await asyncio.sleep(PAUSE)
    await asyncio.to_thread(writer.flush)
    return (time.process_time() - begin) / REQUESTS * 1e6


def observers(case: str, writer: LineWriter, lines: RequestLines) -> Observer:
    log: list[Observer] = [RequestLog(writer, lines)] if "log" in case else []
    cells = Cells(Pages(2).page(0)) if "several" in case else Cells()
    return combined([*log, Metrics(cells)] if "metrics" in case else log)


async def measure(case: str, rounds: int) -> float:
    lines = RequestLines("json" if "json" in case else "text")
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230 - it never blocks
        writer = LineWriter(nowhere, lines)
        observer = observers(case, writer, lines)
        costs, floors = [], []
        for _ in range(rounds):
            costs.append(await timed(observer, writer))
            floors.append(await timed(NO_OBSERVER, writer))
    return min(costs) - min(floors)


CASES = ("log (text)", "log (json)", "metrics, one worker", "metrics, several workers", "log (text) and metrics, one worker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    print("us of CPU for a creation with 4 KiB")
    for case in CASES:
        print(f"{case:40}{asyncio.run(measure(case, rounds)):8.2f}")


if __name__ == "__main__":
    main()
