"""The extension in docs/examples, installed as somebody would install it, in a server of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "extension"
PAGE = ROOT / "docs" / "how-to" / "write-an-extension.md"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process for which the extension is installed, beside all that is installed anyway."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", folder, EXAMPLE], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {"PYTHONPATH": str(folder)}


def command(environment: dict[str, str], *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tusd_py", *arguments],
        env={**os.environ, **environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ledger(environment: dict[str, str], upload_dir: Path) -> list[dict[str, Any]]:
    done = command(environment, "ledger", f"-upload-dir={upload_dir}")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def upload(server: ServerProcess, data: bytes) -> str:
    """The id of a finished upload."""
    client = server.client()
    answer = client.request(
        "POST",
        "/files/",
        {"Upload-Length": len(data), "Upload-Metadata": "filename YS50eHQ=", "Content-Type": "application/offset+octet-stream"},
        data,
    )
    assert answer.status == 201
    return answer.headers["location"].rsplit("/", 1)[1]


def lines_in_metrics(server: ServerProcess) -> float:
    """Of all workers; each shows its own a little later."""
    shown = server.client().request("GET", "/metrics", tus=False).body.decode()
    found = re.search(r"^tusd_py_ledger_lines_total (\S+)$", shown, re.MULTILINE)
    return float(found[1]) if found else 0


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_uploads_are_in_the_ledger(
    start_server: StartServer, environment: dict[str, str], tmp_path: Path, workers: int
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[ledger]\nmetadata = "filename,filetype"\n')
    server = start_server("-ledger", f"-config={file}", f"-workers={workers}", env=environment)
    ids = [upload(server, b"x" * size) for size in range(3)]
    lines = until(lambda: len(found := ledger(environment, server.upload_dir)) == 3 and found)
    assert sorted((line["upload"], line["size"]) for line in lines) == sorted(zip(ids, range(3), strict=True))
    assert {json.dumps(line["metadata"]) for line in lines} == {'{"filename": "a.txt", "filetype": null}'}
    until(lambda: lines_in_metrics(server) == 3)
    assert server.terminate() == 0


def test_a_ledger_that_was_cut_off_and_lines_that_are_there_twice(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / ".tusd-py" / "ledger" / "uploads.jsonl"
    assert ledger(environment, tmp_path) == []
    path.parent.mkdir(parents=True)
    path.write_text('\n{"event": "a"}\n{"event": "b\n{"event": "a"}\n{"event": "c"}')
    assert ledger(environment, tmp_path) == [{"event": "a"}, {"event": "c"}]


def test_off_it_does_nothing(start_server: StartServer, environment: dict[str, str]) -> None:
    server = start_server(env=environment)
    upload(server, b"x")
    assert server.terminate() == 0
    assert not (server.upload_dir / ".tusd-py" / "ledger").exists()


def test_help(environment: dict[str, str]) -> None:
    done = command(environment, "-help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nOptions of the extension ledger:\n  -ledger\n      Keep a ledger of finished uploads. (def" in done.stdout
    assert "\n  ledger\n      Print the ledger of finished uploads. See tusd-py ledger --help.\n" in done.stdout
    assert command(environment, "ledger", "--help").stdout.startswith("usage: tusd-py ledger")


def test_values_that_make_no_sense(environment: dict[str, str], tmp_path: Path) -> None:
    done = command(environment, "-port=0", f"-upload-dir={tmp_path}", "-ledger-metadata=a,,b")
    assert done.returncode != 0
    assert done.stderr == (
        "tusd-py: the extension ledger: -ledger-metadata: expected names of metadata, such as filename,filetype\n"
    )


def test_the_page_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"^```(?:python|toml)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    assert sorted(shown) == sorted(path.read_text() for path in files)
    assert all(path.read_text().startswith(f"# {path.relative_to(EXAMPLE).as_posix()}\n") for path in files)


def test_it_passes_a_strict_type_check(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--explicit-package-bases", "--cache-dir", tmp_path]
    done = subprocess.run(
        [*check, "tusd_py_ledger"], cwd=EXAMPLE, env={**os.environ, "MYPYPATH": str(EXAMPLE)},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
