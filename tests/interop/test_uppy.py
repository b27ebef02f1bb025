"""Uppy with its Tus plugin, under Node: the client that most web pages use."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.interop.clients import assert_stored, make_file, run_uppy
from tests.support.server import ServerProcess
from tests.support.wire import path_of


@pytest.mark.parametrize(
    "options", [{}, {"chunkSize": 1 << 20}, {"uploadDataDuringCreation": True}, {"overridePatchMethod": True}], ids=str
)
def test_several_files(shared_server: ServerProcess, tmp_path: Path, options: dict[str, object]) -> None:
    sources = {name: make_file(tmp_path / name, size) for name, size in (("a.bin", 5_000_000), ("ß 文.txt", 10), ("empty", 0))}
    files = [{"name": name, "type": "application/x-test", "path": str(path)} for name, path in sources.items()]
    result = run_uppy(shared_server.url, files, **options)
    assert result["failed"] == []
    assert sorted(file["name"] for file in result["successful"]) == sorted(sources)
    for file in result["successful"]:
        assert_stored(shared_server.upload_dir, file["url"], sources[file["name"]])
        pairs = shared_server.client().head(path_of(file["url"])).headers["upload-metadata"].split(",")
        metadata = {key: base64.b64decode(value).decode() for key, _, value in (pair.partition(" ") for pair in pairs)}
        assert metadata["filename"] == metadata["name"] == file["name"] and metadata["filetype"] == "application/x-test"
