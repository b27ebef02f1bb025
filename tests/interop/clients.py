"""Stock clients as processes of their own, and what the tests do with the files they upload."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.waiting import until

HERE = Path(__file__).resolve().parent

Event = dict[str, Any]


def need_commands(*names: str) -> None:
    """Skip where a program is missing; tests/setup.sh installs all of them, so under tests/check.sh that is a failure."""
    if missing := [name for name in names if shutil.which(name) is None]:
        pytest.skip(f"missing: {', '.join(missing)}; run: sh tests/setup.sh all")


def need_js_clients() -> None:
    need_commands("node")
    if not (HERE / "node_modules").is_dir():
        pytest.skip("the JavaScript clients are missing; run: sh tests/setup.sh all")


def make_file(path: Path, size: int) -> Path:
    """A file of `size` bytes that do not repeat; the same for the same name and size."""
    path.write_bytes(random.Random(f"{path.name} {size}").randbytes(size))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored(upload_dir: Path | str, url: str) -> Path:
    """Where the server keeps the bytes of the upload at `url`."""
    return Path(upload_dir) / url.rstrip("/").rsplit("/", 1)[1]


def assert_stored(upload_dir: Path | str, url: str, source: Path) -> None:
    """The bytes of a final may still be on their way when its client is answered; those of other uploads may not."""
    found, expected = stored(upload_dir, url), sha256(source)
    if is_final(found):
        until(lambda: sha256(found) == expected, what=f"{found} is not put together")
    assert found.stat().st_size == source.stat().st_size
    assert sha256(found) == expected


def is_final(found: Path) -> bool:
    record = found.with_name(f"{found.name}.info")
    return record.exists() and bool(json.loads(record.read_bytes())["IsFinal"])


class JsClient:
    """An upload of `file` by tus-js-client, told and telling by lines of JSON (tus_js.mjs)."""

    def __init__(
        self, file: Path, *, kind: str = "file", pause_at: int | None = None, env: dict[str, str] | None = None, **options: Any
    ) -> None:
        need_js_clients()
        self.events: list[Event] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            ["node", str(HERE / "tus_js.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.tell(json.dumps({"file": str(file), "kind": kind, "pauseAt": pause_at, "options": options}))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def until(self, *names: str, timeout: float = 60.0) -> Event:
        """The next event with one of these names."""
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"no {names} within {timeout} s after {self.events}") from None
            if line is None:
                _, stderr = self._process.communicate(timeout=10)
                raise AssertionError(f"the client ended without {names} after {self.events}: {stderr}")
            self.events.append(json.loads(line))
            if self.events[-1]["event"] in names:
                return self.events[-1]

    def finish(self, timeout: float = 60.0) -> str:
        """Wait for success; the URL of the upload."""
        event = self.until("success", "error", timeout=timeout)
        assert event["event"] == "success", self.events
        return str(event["url"])

    def requests(self, method: str | None = None) -> list[Event]:
        return self._of("request", method)

    def responses(self, method: str | None = None) -> list[Event]:
        return self._of("response", method)

    def _of(self, kind: str, method: str | None) -> list[Event]:
        return [event for event in self.events if event["event"] == kind and method in (None, event["method"])]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


def run_uppy(endpoint: str, files: list[dict[str, str]], **options: Any) -> dict[str, list[dict[str, str]]]:
    need_js_clients()
    done = subprocess.run(
        ["node", str(HERE / "uppy.mjs")],
        input=json.dumps({"endpoint": endpoint, "files": files, "options": options}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return result
