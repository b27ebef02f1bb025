"""tusd-py as a process of its own, as its users run it, or under the watchdog (tests/support/watchdog.py)."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Self
from weakref import WeakSet

from tests.support.processes import processes_of
from tests.support.waiting import until
from tests.support.wire import TusClient

WATCHDOG = str(Path(__file__).with_name("watchdog.py"))

COMPLAINTS = (
    "BLOCKED EVENT LOOP",  # the watchdog's
    "Traceback",
    "Exception ignored",  # in a finalizer: a warning that was made an error, for one
    "unexpected failure",
    "Task was destroyed",
    "was never retrieved",
    "never awaited",
    "ResourceWarning",
)
"""What no log may contain: signs of a defect, however well the client was answered."""

HEARD = 0.06
"""Seconds of silence after which a log has nothing more to say: three times what it gathers lines for."""

LAST = 3000
"""Characters of a log that are shown with a failure."""

servers: WeakSet[ServerProcess] = WeakSet()
"""Those that may be running."""

watched = False
"""Whether servers run under the watchdog unless they are told otherwise; tests/conftest.py sets it for each test."""

logs: Path | None = None
"""Where logs go, which are read after the end, too. Tests have a directory that pytest tidies (tests/support/logs.py)."""


@cache
def _own_logs() -> tempfile.TemporaryDirectory[str]:
    """For programs that are no tests; gone when they end."""
    return tempfile.TemporaryDirectory(prefix="tusd-py-logs-", ignore_cleanup_errors=True)


class ServerProcess:
    """`python -m tusd_py -host=127.0.0.1 -port=0 -upload-dir=DIR ARGS...`, started, and at the end killed with its children.

    `prefix` is put before the command (strace and the like). The log is in `log` after the end and in `log_path` meanwhile.
    With `watchdog` whatever blocks the event loop, and every warning, is a complaint in the log. Leaving the `with` block fails
    on complaints (`COMPLAINTS`) of a watched server, but for those that `tolerate` a part of.
    """

    def __init__(
        self,
        upload_dir: Path | str,
        *args: str,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        unix: str | None = None,
        watchdog: bool | None = None,
        tolerate: Iterable[str] = (),
    ) -> None:
        self.upload_dir = Path(upload_dir)
        self.listen = [f"-unix-sock={unix}"] if unix else ["-host=127.0.0.1", "-port=0"]
        self.args, self.prefix, self.unix = args, prefix, unix
        self.watchdog = (watched and not prefix) if watchdog is None else watchdog
        self.program = [WATCHDOG] if self.watchdog else ["-m", "tusd_py"]
        self.tolerate = tuple(tolerate)
        warnings = {"PYTHONWARNINGS": "error"} if self.watchdog else {}
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **warnings, **(env or {})}
        self.address: tuple[str, int] | str = ("", 0)
        self.process: subprocess.Popen[bytes] | None = None
        self._logs: dict[Path, int] = {}  # of all starts, and how much of each has been checked
        servers.add(self)

    def start(self, timeout: float = 20.0) -> Self:
        log_fd, log_name = tempfile.mkstemp(prefix="tusd-py-", suffix=".log", dir=logs or _own_logs().name)
        self.log_path = Path(log_name)
        self._logs[self.log_path] = 0
        command = [*self.prefix, sys.executable, *self.program, *self.listen, f"-upload-dir={self.upload_dir}", *self.args]
        self.process = subprocess.Popen(command, stdout=log_fd, stderr=subprocess.STDOUT, env=self.env, start_new_session=True)
        os.close(log_fd)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.unix and Path(self.unix).is_socket():
                self.address = self.unix
                return self
            if found := re.search(r"You can now upload files to: https?://(.+):(\d+)/", self.log):
                self.address = ("127.0.0.1", int(found[2]))
                return self
            if self.process.poll() is not None:
                break
            select.select([], [], [], 0.02)
        raise RuntimeError(f"the server did not start (exit status {self.process.poll()}):\n{self.log}")

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """The log of the last start and its end, to be shown with a failure."""
        if not self._logs:
            return "it was never started"
        self._hear_out()
        return f"{self.log_path} ends with:\n{self.log[-LAST:]}"

    def complaints(self) -> list[str]:
        """What has been logged since the last call and should not have been, with what stands around it."""
        if not self.watchdog:
            return []
        return [complaint for path in self._logs for complaint in self._complaints_in(path)]

    def _complaints_in(self, path: Path) -> Iterator[str]:
        with path.open("rb") as file:
            file.seek(self._logs[path])
            new = file.read()
        whole, end, _ = new.rpartition(b"\n")  # the rest of the last line is to come
        self._logs[path] += len(whole + end)
        lines = whole.decode(errors="replace").split("\n")
        for number, line in enumerate(lines):
            mark = next((mark for mark in COMPLAINTS if mark in line), None)
            if mark and not any(part in line for part in self.tolerate):
                yield f"{mark!r} in {path}:\n" + "\n".join(lines[max(0, number - 2) : number + 30])
                return  # what follows is a part of it, as a rule

    @property
    def port(self) -> int:
        assert isinstance(self.address, tuple)
        return self.address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/files/"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def client(self, base: str = "/files/") -> TusClient:
        return TusClient(self.address, base)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 20.0) -> int:
        """The exit status, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(timeout)

    def terminate(self, timeout: float = 20.0) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the server and all its children, as an out-of-memory killer or a power cut would do."""
        if self.process is not None and (self.process.poll() is None or processes_of(self.pid)):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            until(lambda: not processes_of(self.pid), what="children that live on")

    def __enter__(self) -> Self:
        return self.start()

    def _hear_out(self) -> None:
        """Wait until it has said everything: lines of the log come a little after what they tell of, and a kill loses them."""
        size, looks = -1, 20
        while looks and self.process is not None and self.process.poll() is None:
            looks, before, size = looks - 1, size, self.log_path.stat().st_size
            if size == before:
                return
            time.sleep(HEARD)

    def __exit__(self, kind: type[BaseException] | None = None, failure: BaseException | None = None, *_: object) -> None:
        if self.watchdog or failure is not None:
            self._hear_out()
        self.kill()
        servers.discard(self)
        if failure is not None:
            failure.add_note(f"the server's log {self.last_words}")
        if complaints := self.complaints():
            message = "the server complained:\n\n" + "\n\n".join(complaints)
            if failure is None:
                raise AssertionError(message)
            failure.add_note(message)
