"""A repository with contents in it, and the command to be run on it."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tusd_py_cas.commands import main
from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.ingest.jobs import Segment
from tusd_py_cas.model import Version
from tusd_py_cas.repository import Repository, new_parameters


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Ran:
    """What a command has said."""

    status: int
    output: str
    errors: str

    @property
    def document(self) -> Any:
        assert self.errors == "", self.errors
        return json.loads(self.output)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.output.splitlines()]


@dataclass
class Store:
    """An upload directory with a repository, and `tusd-py cas` in this process or in one of its own."""

    upload_dir: Path
    capture: pytest.CaptureFixture[str]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def path(self) -> Path:
        return self.upload_dir / ".tusd-py" / "cas"

    def open(self) -> Repository:
        return Repository.open(str(self.path), create=new_parameters(64 << 10), durable=False)

    def add(
        self,
        content: bytes,
        object: str | None = None,
        *,
        upload: str | None = None,
        owner: str | None = None,
        raw: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> Version:
        """Store a content as an upload would be; by default as an object of the upload's own id."""
        number = next(self.numbers)
        upload = upload or f"upload{number:02}"
        source = self.upload_dir.parent / f"source{number}"
        source.write_bytes(content)
        repository = self.open()
        engine = Engine(repository, threads=1)
        try:
            segments = [Segment(str(source), 0, len(content))]
            manifest = engine.ingest(segments).manifest
            return repository.index.add_version(
                upload_id=upload,
                object=upload if object is None else object,
                owner=owner,
                manifest=manifest,
                metadata=metadata or {},
                raw=raw,
                at=time.time(),
            )
        finally:
            engine.close()
            repository.close()
            source.unlink()

    def run(self, verb: str, *arguments: str) -> Ran:
        self.capture.readouterr()
        status = main([verb, f"-upload-dir={self.upload_dir}", *arguments], find_upload_dir)
        return Ran(status, *self.capture.readouterr())

    def process(self, verb: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """With signals as a terminal has them: who runs the tests may ignore some (nohup)."""
        command = ["env", "--default-signal=INT,HUP", sys.executable, "-m", "tusd_py", "cas", verb]
        command += [f"-upload-dir={self.upload_dir}", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def bytes_of(self, verb: str, *arguments: str) -> tuple[int, bytes, str]:
        with self.process(verb, *arguments) as process:
            output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors.decode()

    def chunk_files(self) -> list[Path]:
        return sorted(path for path in (self.path / "chunks").rglob("*") if path.is_file())

    def flip_a_bit(self, number: int = 0) -> Path:
        """In a chunk's file; returns which."""
        path = self.chunk_files()[number]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
        return path


def find_upload_dir(upload_dir: str | None, config: str | None) -> Path:
    if upload_dir is None:
        raise ValueError("the upload directory is not set")
    return Path(upload_dir)


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Store:
    (tmp_path / "data").mkdir()
    return Store(tmp_path / "data", capsys)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A file in directories that are deeper than Python's stack, and so than pytest's own removal of what tests have left."""
    root = tmp_path / "deep"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True, timeout=60)
