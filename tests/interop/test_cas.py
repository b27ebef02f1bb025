"""Stock clients against a server that takes uploads over as they finish: they notice nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tusclient.client import TusClient as Tuspy

from tests.interop.clients import JsClient, make_file, need_js_clients
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import path_of

MIB = 1024 * 1024
CAS = ("-cas=replace", "-events-backoff=50ms")


def files_of(directory: Path) -> list[str]:
    """Uploads that have still files of their own."""
    return [one.name for one in directory.iterdir() if one.is_file() and one.suffix != ".info"]


def stats(directory: Path) -> dict[str, int]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
    command = [sys.executable, "-m", "tusd_py", "cas", "stats", "--json", f"--upload-dir={directory}"]
    done = subprocess.run(command, env=environ, capture_output=True, check=True, timeout=60)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("parallel", [1, 4])
def test_tus_js_client(tmp_path: Path, parallel: int) -> None:
    need_js_clients()
    source = make_file(tmp_path / "source.bin", 12 * MIB + 77)
    with ServerProcess(tmp_path / "data", *CAS) as server:
        urls = []
        for _ in range(2):
            with JsClient(source, endpoint=server.url, parallelUploads=parallel, chunkSize=2 * MIB) as client:
                urls.append(client.finish())
        for url in urls:
            assert server.client().get(path_of(url)).body == source.read_bytes()
        until(lambda: not files_of(tmp_path / "data"), 60)
        for url in urls:
            got = server.client().get(path_of(url))
            assert got.status == 200 and got.body == source.read_bytes()
        found = stats(tmp_path / "data")
        assert found["unique_bytes"] == source.stat().st_size, "the second time, and put together, nothing is new"
        assert found["versions"] == 2 * (parallel + (parallel > 1))


def test_tuspy(tmp_path: Path) -> None:
    data = make_file(tmp_path / "source.bin", 5 * MIB + 3).read_bytes()
    with ServerProcess(tmp_path / "data", *CAS) as server:
        uploader = Tuspy(server.url).uploader(file_stream=io.BytesIO(data), chunk_size=MIB, upload_checksum=True)
        uploader.upload()
        assert uploader.url is not None
        until(lambda: not files_of(tmp_path / "data"), 60)
        assert server.client().get(path_of(uploader.url)).body == data
        assert uploader.get_offset() == len(data), "it still answers who wants to resume"
