"""The command as a process: what it prints where, and its exit statuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tusd_py.cli.uncovered import INSTEAD
from tusd_py.plugins import extension_settings
from tusd_py.settings import described


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tusd_py", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("argument", ["-help", "-h", "--help"])
def test_help_lists_every_setting_with_its_help(argument: str) -> None:
    done = run(argument)
    assert (done.returncode, done.stderr) == (0, "")
    listed = described() + extension_settings()
    missing = [one.flag for one in listed if f"  -{one.flag}" not in done.stdout or one.help not in done.stdout]
    assert not missing


def test_version_lines() -> None:
    done = run("-version")
    assert (done.returncode, [line.split(":")[0] for line in done.stdout.splitlines()]) == (0, ["Version", "Commit", "Date"])


MISUSES = [
    (["-foo"], "flag provided but not defined: -foo\nUsage of tusd-py:"),
    (["-port", "abc"], 'invalid value "abc" for flag -port: parse error'),
    (["-verbose", "false"], 'unexpected argument "false"'),
    (["serve"], "tusd-py: unknown command 'serve': a flag "),
    (
        ["-s3-bucket=b"],
        f"tusd-py: -s3-bucket asks for storage in S3, which this version does not support: {INSTEAD['s3-bucket']}\n",
    ),
    (["-enable-h2c"], "tusd-py: -enable-h2c is not supported"),
]


@pytest.mark.parametrize(("arguments", "message"), MISUSES)
def test_misuse_is_told_on_stderr_with_status_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)


def test_an_unknown_variable_is_told() -> None:
    done = run(TUSD_PY_PROT="1")
    assert (done.returncode, done.stderr) == (
        2,
        "tusd-py: unknown environment variable TUSD_PY_PROT: did you mean TUSD_PY_PORT?\n",
    )


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """Start-up time, and the memory of a supervisor that serves nothing."""
    heavy = "asyncio ssl uvicorn starlette httptools uvloop tomllib ctypes email importlib.metadata"
    code = f"import sys, tusd_py.cli, tusd_py.server; print(sorted(set({heavy.split()}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
