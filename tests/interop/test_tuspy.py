"""tuspy 1.1.0, the Python client: its blocking and its asyncio uploader."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.interop.clients import HERE, assert_stored, make_file, stored
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import path_of

MIB = 1024 * 1024


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_file(tmp_path / "source.bin", 6 * MIB + 5)


@dataclass
class Outcome:
    url: str
    begun_at: int
    offset: int
    error: int | str | None


@dataclass
class Tuspy:
    """Uploads by one of tuspy's uploaders (tuspy_upload.py), with its own options."""

    how: str

    def start(
        self, endpoint: str, file: Path, *, stop_at: int | None = None, storage: Path | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "tuspy_upload.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        task = {"how": self.how, "endpoint": endpoint, "file": str(file), "stop_at": stop_at, "options": options}
        assert process.stdin is not None
        process.stdin.write(json.dumps({**task, "storage": storage and str(storage)}))
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        return Outcome(**json.loads(stdout))

    def try_upload(self, endpoint: str, file: Path, **options: Any) -> Outcome:
        return self.finish(self.start(endpoint, file, **options))

    def upload(self, endpoint: str, file: Path, **options: Any) -> Outcome:
        outcome = self.try_upload(endpoint, file, **options)
        assert outcome.error is None, outcome
        return outcome


@pytest.fixture(params=["blocking", "asyncio"])
def tuspy(request: pytest.FixtureRequest) -> Tuspy:
    return Tuspy(request.param)


checksums = pytest.mark.parametrize("checksum", [False, True], ids=["plain", "upload_checksum"])


@checksums
@pytest.mark.parametrize("chunk_size", [None, 2 * MIB, 6 * MIB + 5], ids=["whole", "chunked", "one-chunk"])
def test_upload(shared_server: ServerProcess, source: Path, tuspy: Tuspy, checksum: bool, chunk_size: int | None) -> None:
    options = {"upload_checksum": checksum} | ({"chunk_size": chunk_size} if chunk_size else {})
    outcome = tuspy.upload(shared_server.url, source, **options)
    assert_stored(shared_server.upload_dir, outcome.url, source)


def test_empty_file(shared_server: ServerProcess, tmp_path: Path, tuspy: Tuspy) -> None:
    source = make_file(tmp_path / "empty", 0)
    assert_stored(shared_server.upload_dir, tuspy.upload(shared_server.url, source).url, source)


def test_metadata(shared_server: ServerProcess, source: Path, tuspy: Tuspy) -> None:
    metadata = {"filename": "Übung 文件.bin", "empty": ""}
    outcome = tuspy.upload(shared_server.url, source, metadata=metadata)
    pairs = shared_server.client().head(path_of(outcome.url)).headers["upload-metadata"].split(",")
    assert {key: base64.b64decode(value).decode() for key, _, value in (pair.partition(" ") for pair in pairs)} == metadata


def test_resume_by_stored_url(shared_server: ServerProcess, source: Path, tmp_path: Path, tuspy: Tuspy) -> None:
    storage = tmp_path / "urls.json"
    begun = tuspy.upload(shared_server.url, source, storage=storage, chunk_size=MIB, stop_at=3 * MIB)
    assert begun.offset == 3 * MIB
    resumed = tuspy.upload(shared_server.url, source, storage=storage)
    assert resumed.url == begun.url and resumed.begun_at == 3 * MIB
    assert_stored(shared_server.upload_dir, resumed.url, source)


@checksums
def test_resume_after_the_server_was_killed(
    start_server: StartServer, source: Path, tmp_path: Path, tuspy: Tuspy, checksum: bool
) -> None:
    server = start_server()
    options = {"storage": tmp_path / "urls.json", "chunk_size": MIB, "upload_checksum": checksum}
    begun = tuspy.upload(server.url, source, stop_at=2 * MIB, **options)
    server.kill()
    start_server(f"-port={server.port}")
    resumed = tuspy.upload(server.url, source, **options)
    assert resumed.url == begun.url and resumed.begun_at == 2 * MIB
    assert_stored(server.upload_dir, resumed.url, source)


def test_its_own_retries_bridge_a_restart(start_server: StartServer, source: Path) -> None:
    """The client is left alone: it is refused while the server is away, asks for the offset, and goes on."""
    tuspy = Tuspy("blocking")
    server = start_server()
    url = tuspy.upload(server.url, source, stop_at=MIB, chunk_size=MIB).url
    process = tuspy.start(server.url, source, url=url, chunk_size=16 * 1024, retries=100, retry_delay=0.1)
    until(lambda: stored(server.upload_dir, url).stat().st_size > MIB, what="it goes on")
    server.kill()
    assert stored(server.upload_dir, url).stat().st_size < source.stat().st_size, "killed too late to show anything"
    start_server(f"-port={server.port}")
    assert tuspy.finish(process).error is None
    assert_stored(server.upload_dir, url, source)


def test_wrong_checksum_is_refused_and_nothing_is_kept(shared_server: ServerProcess, source: Path, tuspy: Tuspy) -> None:
    outcome = Tuspy(tuspy.how + "-corrupting").try_upload(shared_server.url, source, upload_checksum=True)
    assert outcome.error == 460
    assert shared_server.client().offset(path_of(outcome.url)) == 0
