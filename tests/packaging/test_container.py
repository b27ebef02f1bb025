"""The container: what its recipe and its entry point say, without building it, which takes a registry."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.test_repository import REGISTRY_HOSTS

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
ENTRYPOINT = DEPLOY / "entrypoint.sh"

# In the server's place: says what it was given.
TELLS = '#!/bin/sh\numask; env; for one in "$@"; do echo "argument: $one"; done\n'


def need(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"missing: {name}; run: sh tests/setup.sh all")
    return found


def instructions(name: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([need("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", ["docs/deploy/entrypoint.sh", "tests/setup.sh", "tests/check.sh"])
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    command = [need("shellcheck"), str(DEPLOY.parents[1] / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_is_laid_out_as_tusds_image() -> None:
    assert instructions("USER") == ["1000"]
    assert instructions("WORKDIR")[-1] == "/srv/tusd-data"
    assert instructions("EXPOSE") == ["8080"]
    assert json.loads(instructions("CMD")[0]) == ["--hooks-dir", "/srv/tusd-hooks"]
    made = next(run for run in instructions("RUN") if "useradd" in run)
    assert "--uid 1000" in made and "/srv/tusd-data /srv/tusd-hooks" in made


def test_the_default_arguments_are_understood(tmp_path: Path) -> None:
    arguments = [one.replace("/srv", str(tmp_path)) for one in json.loads(instructions("CMD")[0])]
    (tmp_path / "tusd-hooks").mkdir()
    command = [sys.executable, "-m", "tusd_py", *arguments, "-version"]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def test_no_registry_is_named() -> None:
    text = DOCKERFILE.read_text() + ENTRYPOINT.read_text()
    assert not [host for host in REGISTRY_HOSTS if host in text]
    assert all(re.fullmatch(r"python:\$\{PYTHON\}( AS build)?", image) for image in instructions("FROM"))


def copied() -> list[str]:
    """What the image takes from the repository."""
    lines = [shlex.split(line) for line in instructions("COPY") if "--from" not in line]
    return [source for words in lines for source in [word for word in words if not word.startswith("--")][:-1]]


def test_what_is_copied_exists() -> None:
    root = DEPLOY.parents[1]
    sources = copied()
    assert len(sources) >= 5 and all((root / source).exists() for source in sources)
    assert os.access(ENTRYPOINT, os.X_OK)


def test_everything_that_the_wheel_is_made_of_is_copied() -> None:
    project = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())
    needed = [*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], project["project"]["readme"], "LICENSE"]
    sources = copied()
    assert not [path for path in needed if not any(path == source or path.startswith(f"{source}/") for source in sources)]


# The entry point, run


@pytest.fixture
def program(tmp_path: Path) -> Path:
    made = tmp_path / "bin" / "tusd-py"
    made.parent.mkdir()
    made.write_text(TELLS)
    made.chmod(0o755)
    return made


def enter(program: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{program.parent}:/usr/bin:/bin", **environ}
    return subprocess.run(
        ["sh", str(ENTRYPOINT), *arguments], env=environ, capture_output=True, text=True, check=False, timeout=30
    )


def test_arguments_and_environment_pass(program: Path) -> None:
    done = enter(program, "--hooks-dir", "/srv/tusd hooks", "", TUSD_PY_HOOKS_SECRET_FILE="/run/secrets/hooks")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-3:] == ["argument: --hooks-dir", "argument: /srv/tusd hooks", "argument: "]
    assert "TUSD_PY_HOOKS_SECRET_FILE=/run/secrets/hooks" in lines  # a setting whose name happens to end so


@pytest.mark.parametrize(("given", "shown"), [("0007", "0007"), ("77", "0077"), ("", None)])
def test_umask(program: Path, given: str, shown: str | None) -> None:
    before = os.umask(0o022)
    os.umask(before)
    lines = enter(program, UMASK=given).stdout.splitlines()
    assert lines[0] == (shown or f"{before:04o}")


def test_a_umask_that_is_none(program: Path) -> None:
    done = enter(program, UMASK="rw")
    assert done.returncode != 0 and done.stdout == ""


@pytest.mark.parametrize(
    "name",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "GCS_SERVICE_ACCOUNT_FILE",
        "AZURE_STORAGE_ACCOUNT",
        "AZURE_STORAGE_KEY",
    ],
)
def test_credentials_from_files(program: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "a secret"
    secret.write_text('s3cr$et "x" `y`\n')
    lines = enter(program, **{f"{name}_FILE": str(secret)}).stdout.splitlines()
    assert f'{name}=s3cr$et "x" `y`' in lines
    assert not [line for line in lines if line.startswith(f"{name}_FILE=")]


def test_a_file_that_is_not_there(program: Path) -> None:
    done = enter(program, AWS_REGION_FILE="/nowhere/region")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "entrypoint: AWS_REGION_FILE names /nowhere/region, which cannot be read\n"


def test_the_server_takes_the_place_of_the_script(program: Path) -> None:
    """Signals that the container gets must reach the server: it has the script's pid."""
    program.write_text("#!/bin/sh\necho $$\n")
    with subprocess.Popen(
        ["sh", str(ENTRYPOINT)], env={"PATH": f"{program.parent}:/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.communicate(timeout=30)[0] == f"{process.pid}\n"
