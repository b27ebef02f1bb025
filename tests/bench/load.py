#!/usr/bin/env python3
"""Load generator for tus servers, to compare several in one run.

    load.py SCENARIO [--rounds 5] [--dir /dev/shm] NAME='command with {port} and {dir}' NAME2='...' ...

Each server is started afresh on loopback for every round, in turn (A B A B ...), so that the machine's drift hits all
alike. The command must serve the creation URL at /files/ (or give `@/path/` after the name: NAME@/uploads/='...'). Printed:
medians over the rounds, and the ratio to the last server named. CPU is user+system time of the whole process tree of the
server; memory is the peak resident set of that tree.

Scenarios
    bulk      one PATCH of --size bytes (default 2e9) by sendfile, so that the client costs almost nothing
    bulk4     the same bytes in four uploads over four connections at once
    sha1      bulk with an Upload-Checksum header, and what the hash alone costs; likewise blake3
    small     creation-with-upload of 4 KiB in a loop over 32 connections for --seconds (default 5), by wrk (Debian package)
    slow      --clients (default 1500) uploads at once, each sending 16 KiB a second for 8 seconds
    concat    4 partial uploads of --size/4 bytes in parallel, then the final one; the final POST is timed by itself
    download  GET of a finished upload of --size bytes, received with splice to /dev/null
    takeover  a stalled PATCH holds the upload; a second connection sends HEAD: how long until it is answered

With --json FILE the medians are added to that file, for `report.py`.

Standard library only, but for blake3. Linux only. Sends traffic to 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                for child in f.read().split():
                    found += process_tree(int(child))
    except FileNotFoundError:
        pass
    return found


def cpu_seconds(pid: int) -> float:
    total = 0
    for each in process_tree(pid):
        try:
            with open(f"/proc/{each}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except FileNotFoundError:
            pass
    return total / TICK


def resident_mib(pid: int, key: str) -> float:
    total = 0
    for each in process_tree(pid):
        try:
            with open(f"/proc/{each}/status") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith(key))
        except (FileNotFoundError, StopIteration):
            pass
    return total / 1024


class Server:
    def __init__(self, name: str, path: str, command: str, base: str) -> None:
        self.name, self.path, self.command, self.base = name, path, command, base

    def __enter__(self) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.work = tempfile.mkdtemp(prefix="load-", dir=self.base)
        self.dir, temporary = f"{self.work}/data", f"{self.work}/tmp"  # who is killed leaves behind what it has there
        for each in (self.dir, temporary):
            os.mkdir(each)
        argv = shlex.split(self.command.format(port=self.port, dir=self.dir))
        self.log = tempfile.TemporaryFile()
        environment = {**os.environ, "TMPDIR": temporary}
        self.process = subprocess.Popen(argv, stdout=self.log, stderr=self.log, start_new_session=True, env=environment)
        self.pid = self.process.pid
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if self.process.poll() is not None:
                    self.log.seek(0)
                    shutil.rmtree(self.work, ignore_errors=True)
                    sys.exit(f"{self.name} ended at start:\n{self.log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.05)
        time.sleep(0.3)
        return self

    def __exit__(self, *exc: object) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), 60)
        sock.settimeout(None)  # a timeout makes the descriptor non-blocking, which sendfile and splice would see
        return sock

    def head(self, method: str, path: str, **headers: object) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Tus-Resumable: 1.0.0"]
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_head(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {data!r}")
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
    return int(lines[0].split()[1]), headers, rest


def create(server: Server, sock: socket.socket, **headers: object) -> str:
    sock.sendall(server.head("POST", server.path, Content_Length=0, Upload_Metadata="filename YS5iaW4=", **headers))
    status, answer, _ = read_head(sock)
    if status != 201:
        raise RuntimeError(f"{server.name}: POST answered {status} {answer}")
    return re.sub(r"^https?://[^/]+", "", answer["location"])


def patch(server: Server, sock: socket.socket, path: str, source: int, size: int, **headers: object) -> None:
    head = {"Upload_Offset": 0, "Content_Length": size, "Content_Type": "application/offset+octet-stream", **headers}
    sock.sendall(server.head("PATCH", path, **head))
    sent = 0
    while sent < size:
        sent += os.sendfile(sock.fileno(), source, sent, min(size - sent, 1 << 20))
    status, answer, _ = read_head(sock)
    if status != 204 or int(answer["upload-offset"]) != size:
        raise RuntimeError(f"{server.name}: PATCH answered {status} {answer}")


def bulk(server: Server, options: argparse.Namespace, **headers: object) -> dict[str, float]:
    with server.connect() as sock:
        path = create(server, sock, Upload_Length=options.size)
        cpu, started = cpu_seconds(server.pid), time.perf_counter()
        patch(server, sock, path, options.source, options.size, **headers)
        wall = time.perf_counter() - started
    used = cpu_seconds(server.pid) - cpu
    giga = options.size / 1e9
    return {"GB/s": giga / wall, "cpu s/GB": used / giga, "peak MiB": resident_mib(server.pid, "VmHWM")}


def bulk4(server: Server, options: argparse.Namespace) -> dict[str, float]:
    part = options.size // 4

    def upload() -> None:
        with server.connect() as sock:
            patch(server, sock, create(server, sock, Upload_Length=part), options.source, part)

    cpu, started = cpu_seconds(server.pid), time.perf_counter()
    threads = [threading.Thread(target=upload) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    wall = time.perf_counter() - started
    used = cpu_seconds(server.pid) - cpu
    giga = 4 * part / 1e9
    return {"GB/s": giga / wall, "cpu s/GB": used / giga, "peak MiB": resident_mib(server.pid, "VmHWM")}


def digest(options: argparse.Namespace, algorithm: str) -> tuple[str, float]:
    """The Upload-Checksum of the source and the CPU seconds per GB that hashing it takes, by 1 MiB pieces."""
    if algorithm == "blake3":
        import blake3

        hasher = blake3.blake3()
    else:
        hasher = hashlib.new(algorithm)
    buffer, offset, started = memoryview(bytearray(1 << 20)), 0, 0.0
    while offset < options.size:
        got = os.preadv(options.source, [buffer[: min(len(buffer), options.size - offset)]], offset)
        before = time.process_time()
        hasher.update(buffer[:got])
        started += time.process_time() - before
        offset += got
    return f"{algorithm} {base64.b64encode(hasher.digest()).decode()}", started / (options.size / 1e9)


def checksummed(server: Server, options: argparse.Namespace, algorithm: str) -> dict[str, float]:
    claim, cost = digest(options, algorithm)
    row = bulk(server, options, Upload_Checksum=claim)
    return {**row, "hash s/GB": cost, "above the hash": row["cpu s/GB"] - cost}


def sha1(server: Server, options: argparse.Namespace) -> dict[str, float]:
    return checksummed(server, options, "sha1")


def blake3(server: Server, options: argparse.Namespace) -> dict[str, float]:
    return checksummed(server, options, "blake3")


def small(server: Server, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            'wrk.method="POST"\nwrk.body=string.rep("x",4096)\n'
            'wrk.headers["Tus-Resumable"]="1.0.0"\nwrk.headers["Upload-Length"]="4096"\n'
            'wrk.headers["Content-Type"]="application/offset+octet-stream"\n'
            'wrk.headers["Upload-Metadata"]="filename YS5iaW4="\n'
        )
        script.flush()
        cpu = cpu_seconds(server.pid)
        out = subprocess.run(
            ["wrk", "-t1", "-c32", f"-d{options.seconds}s", "-s", script.name, f"http://127.0.0.1:{server.port}{server.path}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    used = cpu_seconds(server.pid) - cpu
    if "Non-2xx" in out:
        raise RuntimeError(f"{server.name}: {out}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    total = int(re.search(r"(\d+) requests in", out)[1])
    return {"uploads/s": rate, "cpu us/upload": used / total * 1e6, "peak MiB": resident_mib(server.pid, "VmHWM")}


def slow(server: Server, options: argparse.Namespace) -> dict[str, float]:
    piece, beats = b"z" * 16384, 8
    size, finished = len(piece) * beats, 0

    async def one(index: int) -> None:
        nonlocal finished
        await asyncio.sleep(index / options.clients)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            server.head("POST", server.path, Content_Length=0, Upload_Length=size, Upload_Metadata="filename YS5iaW4=")
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = re.search(r"(?i)location: (?:https?://[^/]+)?(\S+)", head)[1]
        writer.write(
            server.head("PATCH", path, Upload_Offset=0, Content_Length=size, Content_Type="application/offset+octet-stream")
        )
        for _ in range(beats):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(1)
        finished += b" 204" in (await reader.readuntil(b"\r\n\r\n"))[:16]
        writer.close()

    async def all_of_them() -> float:
        peak = resident_mib(server.pid, "VmRSS")
        work = asyncio.gather(*(one(i) for i in range(options.clients)), return_exceptions=True)
        while not work.done():
            peak = max(peak, resident_mib(server.pid, "VmRSS"))
            await asyncio.sleep(0.25)
        return peak

    cpu, before = cpu_seconds(server.pid), resident_mib(server.pid, "VmRSS")
    peak = asyncio.run(all_of_them())
    used = cpu_seconds(server.pid) - cpu
    return {
        "finished %": 100 * finished / options.clients,
        "KiB/upload": (peak - before) * 1024 / options.clients,
        "cpu s": used,
        "peak MiB": peak,
    }


def concat(server: Server, options: argparse.Namespace) -> dict[str, float]:
    part, paths = options.size // 4, [""] * 4

    def upload(index: int) -> None:
        with server.connect() as sock:
            paths[index] = create(server, sock, Upload_Length=part, Upload_Concat="partial")
            patch(server, sock, paths[index], options.source, part)

    cpu, started = cpu_seconds(server.pid), time.perf_counter()
    threads = [threading.Thread(target=upload, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    parts_done = time.perf_counter()
    with server.connect() as sock:
        create(server, sock, Upload_Concat="final;" + " ".join(paths))
    finished = time.perf_counter()
    used = cpu_seconds(server.pid) - cpu
    giga = options.size / 1e9
    return {"GB/s": giga / (finished - started), "final POST ms": 1000 * (finished - parts_done), "cpu s/GB": used / giga}


def download(server: Server, options: argparse.Namespace) -> dict[str, float]:
    with server.connect() as sock:
        path = create(server, sock, Upload_Length=options.size)
        patch(server, sock, path, options.source, options.size)
    with server.connect() as sock:
        cpu, started = cpu_seconds(server.pid), time.perf_counter()
        sock.sendall(server.head("GET", path))
        status, answer, rest = read_head(sock)
        if status != 200:
            raise RuntimeError(f"{server.name}: GET answered {status} {answer}")
        got, null = len(rest), os.open(os.devnull, os.O_WRONLY)
        out, into = os.pipe()
        while got < options.size:
            moved = os.splice(sock.fileno(), into, min(1 << 18, options.size - got))
            if not moved:
                raise ConnectionError(f"{server.name}: cut at {got}")
            got += moved
            while moved:
                moved -= os.splice(out, null, moved)
        wall = time.perf_counter() - started
    used = cpu_seconds(server.pid) - cpu
    giga = options.size / 1e9
    return {"GB/s": giga / wall, "cpu s/GB": used / giga}


def takeover(server: Server, options: argparse.Namespace) -> dict[str, float]:
    waits = []
    for _ in range(3):
        with server.connect() as holder:
            path = create(server, holder, Upload_Length=1_000_000)
            holder.sendall(
                server.head(
                    "PATCH", path, Upload_Offset=0, Content_Length=1_000_000, Content_Type="application/offset+octet-stream"
                )
            )
            holder.sendall(b"x" * 1000)
            time.sleep(0.3)
            with server.connect() as second:
                started = time.perf_counter()
                second.sendall(server.head("HEAD", path))
                status, answer, _ = read_head(second)
                waits.append(time.perf_counter() - started)
                if status not in (200, 204) or answer.get("upload-offset") != "1000":
                    raise RuntimeError(f"{server.name}: HEAD answered {status} {answer}")
    return {"ms until HEAD is answered": 1000 * statistics.median(waits)}


SCENARIOS = {f.__name__: f for f in (bulk, bulk4, sha1, blake3, small, slow, concat, download, takeover)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("servers", nargs="+", metavar="NAME='COMMAND'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default="/dev/shm", help="where upload directories and the source file live")
    parser.add_argument("--size", type=lambda s: int(float(s)), default=2_000_000_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=1500)
    parser.add_argument("--json", metavar="FILE", help="add the medians to this file")
    parser.add_argument("--label", help="name of the scenario in that file")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    if options.scenario in ("bulk", "bulk4", "sha1", "blake3", "concat", "download"):
        block = os.urandom(1 << 20)
        with tempfile.NamedTemporaryFile(dir=options.dir) as source:
            for _ in range(-(-options.size // len(block))):
                source.write(block)
            source.flush()
            options.source = os.open(source.name, os.O_RDONLY)

    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for text in options.servers:
            name, command = text.split("=", 1)
            name, _, path = name.partition("@")
            with Server(name, path or "/files/", command, options.dir) as server:
                results.setdefault(name, []).append(SCENARIOS[options.scenario](server, options))

    last = list(results)[-1]
    columns = list(results[last][0])
    median = {n: {c: statistics.median(r[c] for r in rows) for c in columns} for n, rows in results.items()}
    if options.json:
        known = {}
        if os.path.exists(options.json):
            with open(options.json) as f:
                known = json.load(f)
        known[options.label or options.scenario] = {"rounds": options.rounds, "servers": median}
        with open(options.json, "w") as f:
            json.dump(known, f, indent=1)
    print(f"{options.scenario}: median of {options.rounds} rounds; in brackets the ratio to {last}")
    print(f"{'':20}" + "".join(f"{c:>26}" for c in columns))
    for name, row in median.items():
        cells = (f"{row[c]:.2f} ({row[c] / median[last][c]:.2f}x)" if median[last][c] else f"{row[c]:.2f}" for c in columns)
        print(f"{name:20}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
