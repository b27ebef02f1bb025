"""restic, borg and `tusd-py cas` as commands of the same kind: make a repository, store files, read one back. Each call costs
what the kernel says that the process and its children have used, once they have ended.

Settings, for all that the three can be made equal:

restic      repository format 2, `--compression auto`, `--no-cache`, `backup --force`: all bytes are read again. It always
            encrypts (AES-256 and Poly1305), which can't be switched off.
borg        `--encryption none`, `--compression auto,zstd,3`, `--files-cache disabled`: all bytes are read again. Its names of
            chunks are SHA-256.
tusd-py     defaults. Names of chunks are BLAKE3, and each file's BLAKE3 and SHA-256 are computed as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = ["TOOLS", "Borg", "Cost", "Restic", "Tool", "TusdPy", "disk_usage", "noise", "run"]

OPENSSL = ["openssl", "enc", "-aes-128-ctr", "-iv", "0" * 32, "-in", "/dev/zero"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock, seconds of processor time (user and system, children included), peak resident MiB of the largest
    process."""

    wall: float
    cpu: float
    peak: float


def run(command: Sequence[str], where: Path, environ: Mapping[str, str] | None = None) -> Cost:
    """Run a command whose output nobody reads. What it says on standard error is told if it fails."""
    started = os.times().elapsed
    with subprocess.Popen(
        command, cwd=where, env={**os.environ, **(environ or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}:\n{said.decode(errors='replace')[-2000:]}")
    return Cost(os.times().elapsed - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def noise(path: Path, size: int, key: int = 1) -> None:
    """`size` bytes that nothing can compress, the same for the same key. They are in the page cache then, and on the disk."""
    with path.open("wb") as file, subprocess.Popen([*OPENSSL, "-K", f"{key:032x}"], stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        left = size
        while left:
            left -= file.write(source.stdout.read(min(left, 1 << 20)))
        source.kill()
        file.flush()
        os.fsync(file.fileno())


def disk_usage(folder: Path) -> dict[str, int]:
    """Bytes in all files below a folder, and bytes of the blocks that they and the folders take up."""
    entries = [folder, *folder.rglob("*")]
    found = [(path.lstat(), path.is_file()) for path in entries]
    return {
        "apparent": sum(status.st_size for status, is_file in found if is_file),
        "blocks": sum(status.st_blocks * 512 for status, _ in found),
    }


class Tool:
    """A repository in `base / name`. Files are named relative to `source`, and stored from there."""

    name: ClassVar[str]
    store_what: ClassVar[str]

    def __init__(self, base: Path, source: Path) -> None:
        self.path, self.source, self.environ = base / self.name, source, dict[str, str]()
        self.path.mkdir()

    def version(self) -> str:
        raise NotImplementedError

    def make(self) -> None:
        """Make the repository."""
        raise NotImplementedError

    def store(self, names: Sequence[str]) -> Cost:
        """Store files and folders, reading all of their bytes."""
        raise NotImplementedError

    def read(self, name: str) -> Cost:
        """Write a file, which was in the last call of `store`, to /dev/null."""
        raise NotImplementedError

    @property
    def stored(self) -> Path:
        return self.path

    def _run(self, *command: str) -> Cost:
        return run(command, self.source, self.environ)

    def _says(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class Restic(Tool):
    name = "restic"
    store_what = "restic backup --force --no-cache --compression auto"

    def __init__(self, base: Path, source: Path) -> None:
        super().__init__(base, source)
        self.environ = {"RESTIC_PASSWORD": "benchmark", "RESTIC_REPOSITORY": str(self.path)}

    def version(self) -> str:
        return " ".join(self._says("restic", "version").split()[:2])

    def make(self) -> None:
        self._run("restic", "init", "--repository-version=2", "--no-cache")

    def store(self, names: Sequence[str]) -> Cost:
        return self._run(*self.store_what.split(), "--quiet", *names)

    def read(self, name: str) -> Cost:
        return self._run("restic", "dump", "--no-cache", "--quiet", "latest", name)


class Borg(Tool):
    name = "borg"
    store_what = "borg create --files-cache=disabled --compression=auto,zstd,3"

    def __init__(self, base: Path, source: Path) -> None:
        super().__init__(base, source)
        self._repository, self._archives = self.path / "repository", 0
        self.environ = {"BORG_BASE_DIR": str(self.path / "home"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def version(self) -> str:
        return self._says("borg", "--version")

    def make(self) -> None:
        self._run("borg", "init", "--encryption=none", str(self._repository))

    def store(self, names: Sequence[str]) -> Cost:
        self._archives += 1
        return self._run(*self.store_what.split(), f"{self._repository}::{self._archives}", *names)

    def read(self, name: str) -> Cost:
        return self._run("borg", "extract", "--stdout", f"{self._repository}::{self._archives}", name)

    @property
    def stored(self) -> Path:
        """Without its caches, which are in the user's directory."""
        return self._repository


class TusdPy(Tool):
    name = "tusd-py"
    store_what = "tusd-py cas import"

    def version(self) -> str:
        return f"tusd-py {self._says(sys.executable, '-m', 'tusd_py', '-version').split()[1]}"

    def make(self) -> None:
        """As a server does that has nothing to store yet. In a process of its own, as children seem to be as large as who
        starts them."""
        code = f"Repository.open({str(self.stored)!r}, create=new_parameters()).close()"
        self._run(sys.executable, "-c", f"from tusd_py_cas.repository import Repository, new_parameters; {code}")

    def store(self, names: Sequence[str]) -> Cost:
        return self._cas("import", *names)

    def read(self, name: str) -> Cost:
        return self._cas("cat", name)

    @property
    def stored(self) -> Path:
        return self.path / ".tusd-py" / "cas"

    def _cas(self, command: str, *arguments: str) -> Cost:
        return self._run(sys.executable, "-m", "tusd_py", "cas", command, f"-upload-dir={self.path}", *arguments)


TOOLS: tuple[type[Tool], ...] = (TusdPy, Restic, Borg)
