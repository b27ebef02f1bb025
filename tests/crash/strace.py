"""strace attached to a running server: to see its system calls, and to make chosen ones fail.

Traps (strace 6.1): calls that `-e trace` leaves out are not tampered with either; `--seccomp-bpf` rules out SIGKILL;
`when=N` counts for each thread by itself, from the moment of attaching, and counts calls on all files.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import pytest

from tests.support.processes import processes_of

PLACING = ("openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "symlink")
FILLING = (
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "splice",
    "ftruncate",
    "fallocate",
)
SYNCING = ("fsync", "fdatasync", "sync_file_range", "syncfs")
WRITING = (*PLACING, *FILLING, *SYNCING)
"""The calls by which a process changes a directory tree. Of `openat` only those that may create count."""

READING = ("read", "pread64", "newfstatat", "fstat", "statx", "getdents64")

PATIENCE = 3.0  # seconds that strace may take to end

LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed>)(.*)$")


@dataclass
class Call:
    """One system call: the `nth` of its name in its thread since strace was attached."""

    thread: int
    name: str
    nth: int
    text: str

    @property
    def injected(self) -> bool:
        return "(INJECTED)" in self.text

    @property
    def creates(self) -> bool:
        return self.name != "openat" or "O_CREAT" in self.text or "O_TMPFILE" in self.text

    def concerns(self, directory: Path) -> bool:
        return str(directory) in self.text

    def __str__(self) -> str:
        return f"{self.name}#{self.nth} {self.text}"


def parse(log: str) -> list[Call]:
    """The calls of an strace log in the order of their beginning; `<unfinished ...>` ones are put together."""
    calls: list[Call] = []
    counts: dict[tuple[int, str], int] = {}
    unfinished: dict[int, Call] = {}
    for match in filter(None, map(LINE.match, log.splitlines())):
        thread, name, text = int(match[1]), match[2], match[4]
        if match[3] != "(":
            if call := unfinished.pop(thread, None):
                call.text += text
            continue
        counts[thread, name] = nth = counts.get((thread, name), 0) + 1
        calls.append(Call(thread, name, nth, text))
        unfinished[thread] = calls[-1]
    return calls


class Strace:
    """Attached inside the `with` block; `calls` has what was traced afterwards."""

    def __init__(self, leader: int, names: tuple[str, ...], *inject: str) -> None:
        self.leader, self.names, self.inject = leader, names, inject
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        handle, log = tempfile.mkstemp(prefix="tusd-py-", suffix=".strace")
        os.close(handle)
        self.log = Path(log)
        pids = processes_of(self.leader)
        command = ["strace", "-f", "-y", "-s", "0", "-o", log, "-e", f"trace={','.join(self.names)}"]
        command += [word for injection in self.inject for word in ("-e", f"inject={injection}")]
        command += [word for pid in pids for word in ("-p", str(pid))]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        attached = 0
        while attached < len(pids):
            line = self.process.stderr.readline()
            if " attached" not in line:
                self.__exit__()
                raise RuntimeError(f"strace can't attach: {line}")
            attached += 1
        return self

    def outlast(self) -> None:
        """Wait until the server is dead: asked to detach while it is dying, strace hangs."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # detaches from everything
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.calls = parse(self.log.read_text(errors="replace"))
        self.log.unlink()


@cache
def why_no_strace() -> str:
    """Why calls can't be traced here; empty when they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True
    ) as idle:
        try:
            with Strace(idle.pid, ("fsync",)):
                return ""
        except RuntimeError as failure:
            return f"{failure} (needs root, or a kernel that lets a process trace others of its user)"
        finally:
            assert idle.stdin is not None
            idle.stdin.close()


def requires_strace() -> None:
    if reason := why_no_strace():
        pytest.skip(reason)
