"""Promises of the repository itself: the two commands, the pins, and what no committed file may say."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL_AND_START = "sh tests/setup.sh && .venv/bin/tusd-py -upload-dir=./data"
INSTALL_AND_TEST = "sh tests/setup.sh all && sh tests/check.sh"

# Pieced together, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("nodesource", "com"),
        ("deb", "debian", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("repo", "maven", "apache", "org"),
        ("repo1", "maven", "org"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.}])/(" + "|".join(("work", "root")) + r")(/|\b(?![-_]))")


def committed_files() -> list[Path]:
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_readme_begins_with_the_two_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text().splitlines()
    lines = [line.split("  #")[0].strip() for line in readme]
    assert INSTALL_AND_START in lines and INSTALL_AND_TEST in lines
    shebang, command = (ROOT / ".ci" / "run").read_text().splitlines()
    assert shebang.startswith("#!") and "bash" in shebang
    assert command == INSTALL_AND_TEST


@pytest.mark.parametrize("script", ["tests/setup.sh", "tests/check.sh"])
def test_the_scripts_are_posix_sh(script: str) -> None:
    assert (ROOT / script).read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", script], cwd=ROOT, check=True, timeout=10)


def test_setup_refuses_an_argument_it_does_not_know() -> None:
    command = ["sh", "tests/setup.sh", "everything"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 1 and "the only argument is: all" in done.stderr


def pinned() -> dict[str, str]:
    lines = (ROOT / "tests" / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "every line of constraints.txt is name==version"
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"], "pip"]
    for group in (*project["dependency-groups"].values(), *project["project"]["optional-dependencies"].values()):
        wanted += group
    names = {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names <= set(pinned()), f"not in constraints.txt: {sorted(names - set(pinned()))}"


def test_no_file_names_a_registry_host_or_a_path_of_one_machine() -> None:
    found = []
    for path in committed_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if any(host in line for host in REGISTRY_HOSTS) or MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line[:200]}")
    assert not found, "\n".join(found)


def test_no_lock_file_of_a_tool_that_records_hosts() -> None:
    names = {path.name for path in committed_files()}
    assert not names & {"uv.lock", "poetry.lock", "yarn.lock", "pnpm-lock.yaml"}
