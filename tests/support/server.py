"""tusd-py as a process of its own, as its users run it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.support.wire import TusClient


class ServerProcess:
    """`python -m tusd_py -host=127.0.0.1 -port=0 -upload-dir=DIR ARGS...`, started and, at the end, killed with all its children.

    `prefix` is put before the command (strace and the like). The log is in `log` after the end and in `log_path` meanwhile.
    """

    def __init__(self, upload_dir: Path | str, *args: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None, unix: str | None = None) -> None:
        self.upload_dir = Path(upload_dir)
        self.listen = [f"-unix-sock={unix}"] if unix else ["-host=127.0.0.1", "-port=0"]
        self.args, self.prefix, self.unix = args, prefix, unix
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.address: tuple[str, int] | str = ("", 0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 20.0) -> Self:
        log = tempfile.NamedTemporaryFile(prefix="tusd-py-", suffix=".log", delete=False)
        self.log_path = Path(log.name)
        command = [*self.prefix, sys.executable, "-m", "tusd_py", *self.listen, f"-upload-dir={self.upload_dir}", *self.args]
        self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self.env, start_new_session=True)
        log.close()
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
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.kill()
