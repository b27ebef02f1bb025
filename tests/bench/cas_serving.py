"""What a running server does with content-addressed storage: reads, the end of a parallel upload, uploads while it ingests.

Everything is seen from outside: an upload is ingested when its entity tag is the name of a content, and with -cas=replace when
its file is gone too. Servers are those of load.py: on loopback, in a session of their own, killed at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import Server, cpu_seconds, create, patch, process_tree, read_head, resident_mib, small

__all__ = ["Uploads", "final_post", "in_flight", "reading", "server"]

COMMAND = f"{sys.executable} -m tusd_py -host=127.0.0.1 -port={{port}} -upload-dir={{dir}} -show-startup-logs=false"
NAMED = re.compile(r'"[0-9a-f]{64}"')
RANGE = 64 << 10
PATIENCE = 600.0
LOOK = 0.05


@contextmanager
def server(base: Path, *flags: str) -> Iterator[Server]:
    with Server("tusd-py", "/files/", " ".join([COMMAND, *flags]), str(base)) as running:
        yield running


def upload(running: Server, source: int, size: int, **headers: object) -> str:
    """Path of a finished upload of the first `size` bytes of an open file."""
    with running.connect() as sock:
        path = create(running, sock, Upload_Length=size, **headers)
        patch(running, sock, path, source, size)
    return path


def upload_file(running: Server, path: Path) -> str:
    source = os.open(path, os.O_RDONLY)
    try:
        return upload(running, source, path.stat().st_size)
    finally:
        os.close(source)


def _until(condition: Callable[[], bool], what: str, pause: float = LOOK) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited {PATIENCE:.0f} s for {what}")
        time.sleep(pause)


def is_ingested(running: Server, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Range": "bytes=0-0"})
        answer = connection.getresponse()
        answer.read()
        return bool(NAMED.fullmatch(answer.getheader("ETag", "")))
    finally:
        connection.close()


def until_ingested(running: Server, path: str, *, replaced: bool = False) -> None:
    own = Path(running.dir, path.rsplit("/", 1)[1])
    _until(lambda: is_ingested(running, path) and not (replaced and own.exists()), "an upload to be ingested")


def ingest_children(running: Server) -> list[int]:
    found = []
    for pid in process_tree(running.pid):
        try:
            if b"tusd_py_cas.ingest" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except FileNotFoundError:
            pass
    return found


def peaks(running: Server) -> dict[str, float]:
    """Peak resident MiB of the server's own process and of the process that ingests for it."""
    children = ingest_children(running)
    own = _own_peak(running.pid)
    return {"server MiB": own, "ingest MiB": max((resident_mib(pid, "VmHWM") for pid in children), default=0.0)}


def _own_peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# Reading


def reading(base: Path, files: Mapping[str, Path], ranges: int) -> dict[str, dict[str, float]]:
    """By what each file is called: whole GETs one after another, then random ranges one at a time on one connection. The bytes
    come from chunks, as the uploads' own files are gone, and from the page cache."""
    found = {}
    with server(base, "-cas=replace") as running:
        for name, file in files.items():
            path = upload_file(running, file)
            until_ingested(running, path, replaced=True)
            memory = peaks(running)
            size = file.stat().st_size
            found[name] = {**_sequential(running, path, size), **_ranges(running, path, file, ranges), **memory}
            found[name]["server MiB"] = _own_peak(running.pid)
    return found


def _sequential(running: Server, path: str, size: int) -> dict[str, float]:
    walls, cpus = [], []
    for _ in range(3):
        cpu, started = cpu_seconds(running.pid), time.perf_counter()
        with running.connect() as sock:
            _receive(running, sock, path, size)
        walls.append(time.perf_counter() - started)
        cpus.append(cpu_seconds(running.pid) - cpu)
    return {"GB/s": size / 1e9 / statistics.median(walls), "CPU s/GB": statistics.median(cpus) / (size / 1e9)}


def _receive(running: Server, sock: socket.socket, path: str, size: int) -> None:
    """GET, into a buffer that nobody looks at: what is measured is the server."""
    sock.sendall(running.head("GET", path))
    status, answer, rest = read_head(sock)
    if status != 200:
        sys.exit(f"GET answered {status} {answer}")
    got, buffer = len(rest), bytearray(1 << 20)
    while got < size:
        count = sock.recv_into(buffer)
        if not count:
            sys.exit(f"GET was cut at {got} of {size} bytes")
        got += count


def _ranges(running: Server, path: str, file: Path, count: int) -> dict[str, float]:
    """Milliseconds until all 64 KiB are here. Each answer is compared with the file."""
    size, chance, times = file.stat().st_size, random.Random(1), []
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    with file.open("rb") as original:
        for _ in range(count):
            start = chance.randrange(size - RANGE)
            started = time.perf_counter()
            connection.request("GET", path, headers={"Range": f"bytes={start}-{start + RANGE - 1}"})
            body = connection.getresponse().read()
            times.append(time.perf_counter() - started)
            original.seek(start)
            if body != original.read(RANGE):
                sys.exit(f"the range at {start} has other bytes than the file")
    connection.close()
    times.sort()
    return {"range ms": 1000 * statistics.median(times), "range p99 ms": 1000 * times[int(0.99 * count)]}


# The end of a parallel upload


def final_post(base: Path, size: int, source: Path, posts: int) -> dict[str, float]:
    """Four partial uploads at once, each a quarter of `size`: `source` over and over, from another place each. When all are
    ingested and their files gone, final uploads of them are made, one after the other: `ms` until the answer, `made ms` until
    the record says that the bytes are in chunks."""
    with server(base, "-cas=replace") as running:
        paths = _partials(running, size // 4, source)
        for path in paths:
            until_ingested(running, path, replaced=True)
        times = [_post_final(running, paths, size // 4 * 4) for _ in range(posts)]
        memory = peaks(running)
    answered, made = ([1000 * pair[which] for pair in times] for which in (0, 1))
    slowest = {"slowest ms": max(answered), "made ms": statistics.median(made)}
    return {"GB": size / 1e9, "ms": statistics.median(answered), **slowest, **memory}


def _partials(running: Server, size: int, source: Path) -> list[str]:
    paths = [""] * 4

    def send(index: int) -> None:
        length, descriptor = source.stat().st_size, os.open(source, os.O_RDONLY)
        with running.connect() as sock:
            path = create(running, sock, Upload_Length=size, Upload_Concat="partial")
            head = {"Upload_Offset": 0, "Content_Length": size, "Content_Type": "application/offset+octet-stream"}
            sock.sendall(running.head("PATCH", path, **head))
            sent, place = 0, length // 4 * index
            while sent < size:
                moved = os.sendfile(sock.fileno(), descriptor, place, min(size - sent, length - place, 1 << 20))
                sent, place = sent + moved, (place + moved) % length
            status, answer, _ = read_head(sock)
            if status != 204:
                sys.exit(f"PATCH answered {status} {answer}")
        os.close(descriptor)
        paths[index] = path

    threads = [threading.Thread(target=send, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return paths


def _post_final(running: Server, paths: list[str], size: int) -> tuple[float, float]:
    """Seconds until the final is answered, and until it is made of its partials' chunks."""
    with running.connect() as sock:
        sock.settimeout(60)
        started = time.perf_counter()
        path = create(running, sock, Upload_Concat="final;" + " ".join(paths))
        answered = time.perf_counter() - started
        sock.sendall(running.head("HEAD", path))
        status, answer, _ = read_head(sock)
    if status != 200 or int(answer["upload-length"]) != size or answer.get("upload-offset") != str(size):
        sys.exit(f"the final is not whole: {status} {answer}")
    record = Path(running.dir, f"{path.rsplit('/', 1)[1]}.info")
    _until(lambda: json.loads(record.read_text())["Storage"].get("Type") == "cas", "a final to be made of chunks", pause=0.001)
    return answered, time.perf_counter() - started


# Uploads while it ingests


@dataclass(frozen=True, slots=True)
class Uploads:
    """What is sent: `backlog` files that are to be ingested meanwhile, one upload of `size` bytes from `source`, and `small`
    ones for some seconds."""

    backlog: list[Path]
    source: int
    size: int
    seconds: int


VARIANTS = {"without -cas": "", "-cas, nothing else to ingest": "-cas=keep", "-cas, ingest is busy": "-cas=keep"}


def in_flight(base: Path, flags: str, variant: str, uploads: Uploads) -> dict[str, float]:
    """One round: GB/s of the large upload, and small uploads a second. Where ingest is to be busy, it has to be so until the
    end of both."""
    with server(base, flags, VARIANTS[variant]) as running:
        backlog = [upload_file(running, file) for file in uploads.backlog] if "busy" in variant else []
        if VARIANTS[variant] and not backlog:  # the process that ingests is there when the clock starts
            until_ingested(running, upload(running, uploads.source, 1))
        speed, share = _sharing(running, lambda: _large(running, uploads, backlog))
        _still_busy(running, backlog)
        if VARIANTS[variant] and not backlog:
            until_caught_up(running)
        rate, more = _sharing(running, lambda: small(running, uploads)["uploads/s"])  # type: ignore[arg-type]
        _still_busy(running, backlog)
    return {"GB/s": speed, "ingest's cores": share, "uploads/s": rate, "ingest's cores (small)": more}


def _still_busy(running: Server, backlog: list[str]) -> None:
    if backlog and all(is_ingested(running, path) for path in backlog):
        sys.exit("nothing was left to ingest before the uploads ended: give it more (--backlog)")


def until_caught_up(running: Server) -> None:
    """Until the process that ingests has nothing to do: it used no processor time while nobody gave it any."""

    def idle() -> bool:
        before = sum(map(cpu_seconds, ingest_children(running)))
        time.sleep(0.5)
        return sum(map(cpu_seconds, ingest_children(running))) <= before + 0.02

    _until(idle, "ingest to catch up")


def _large(running: Server, uploads: Uploads, backlog: list[str]) -> float:
    """GB/s; where there is a backlog, the upload becomes part of it."""
    started = time.perf_counter()
    path = upload(running, uploads.source, uploads.size)
    if backlog:
        backlog.append(path)
    return uploads.size / 1e9 / (time.perf_counter() - started)


def _sharing(running: Server, work: Callable[[], float]) -> tuple[float, float]:
    """What the work returns, and how many cores ingest had meanwhile, on average."""
    children = ingest_children(running)
    before, started = sum(map(cpu_seconds, children)), time.perf_counter()
    result = work()
    used = sum(map(cpu_seconds, ingest_children(running))) - before
    return result, used / (time.perf_counter() - started)
