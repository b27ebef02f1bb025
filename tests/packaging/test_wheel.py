"""What is released: the wheel holds the package, its extensions and nothing else, and runs where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
VERSION = PROJECT["version"]
EXTENSIONS = sorted(path.name for path in (ROOT / "extensions").iterdir() if path.is_dir() and path.name[0] not in "._")
NOT_SHIPPED = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "tusd_py" and path.name[0] != ".")


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=ROOT)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a fresh environment that holds the wheel alone."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv)
    python = venv / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", "--no-cache-dir", wheel, cwd=venv)
    return python.parent


def lent_packages(bin_dir: Path) -> str:
    """A PYTHONPATH: the wheel's own folder, then this environment's, which lends what the wheel depends on (its .pth files are
    not read, so an editable tusd_py is not among it). Thus nothing is downloaded."""
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = run(bin_dir / "python", "-I", "-c", script, cwd=bin_dir).strip()
    return os.pathsep.join((own, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))


def test_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"tusd_py-{VERSION}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"tusd_py", *EXTENSIONS, f"tusd_py-{VERSION}.dist-info"}
    assert {f"{package}/py.typed" for package in ("tusd_py", *EXTENSIONS)} <= set(names)
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tusd_py").rglob("*.py")}
    code |= {path.relative_to(ROOT / "extensions").as_posix() for path in (ROOT / "extensions").rglob("*.py")}
    assert code <= set(names), f"not shipped: {sorted(code - set(names))}"
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_is_declared(extension: str) -> None:
    """What is forgotten in one of these places is not shipped, not checked, or may import what it likes."""
    tools = PYPROJECT["tool"]
    assert f"extensions/{extension}" in tools["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert extension in tools["mypy"]["packages"]
    assert extension in tools["importlinter"]["root_packages"]
    contracts = {contract["name"]: contract for contract in tools["importlinter"]["contracts"]}
    assert extension in contracts["the core never imports an extension"]["forbidden_modules"]
    assert extension in contracts["extensions use only the published seams"]["source_modules"]
    assert f"{extension}:EXTENSION" in PROJECT["entry-points"]["tusd_py.extensions"].values()


def test_every_package_of_the_core_is_published_or_forbidden_to_extensions() -> None:
    contracts = {contract["name"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
    forbidden = set(contracts["extensions use only the published seams"]["forbidden_modules"])
    modules = {f"tusd_py.{path.stem}" for path in (ROOT / "tusd_py").iterdir() if path.suffix == ".py" or path.is_dir()}
    published = {"tusd_py.fs", "tusd_py.ports", "tusd_py.protocol", "tusd_py.testing"}
    assert modules - {"tusd_py.__init__", "tusd_py.__main__", "tusd_py.__pycache__"} == forbidden | published


def test_metadata_is_the_projects(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"tusd_py-{VERSION}.dist-info/METADATA").decode()
        entry_points = archive.read(f"tusd_py-{VERSION}.dist-info/entry_points.txt").decode()
    assert f"\nVersion: {VERSION}\n" in metadata and "\nRequires-Python: >=3.11\n" in metadata
    extras = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    assert metadata.count("\nRequires-Dist: ") == len(PROJECT["dependencies"]) + len(extras)
    assert "tusd-py = tusd_py.cli:main" in entry_points
    assert "[tusd_py.extensions]\ncas = tusd_py_cas:EXTENSION\n" in entry_points


def test_command_runs_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    path = lent_packages(installed)
    found = run(installed / "python", "-c", "import tusd_py; print(tusd_py.__file__)", cwd=tmp_path, PYTHONPATH=path).strip()
    assert Path(found).is_relative_to(installed.parent)
    assert VERSION in run(installed / "tusd-py", "-version", cwd=tmp_path, PYTHONPATH=path)
    assert VERSION in run(installed / "python", "-m", "tusd_py", "-version", cwd=tmp_path, PYTHONPATH=path)


def test_extensions_are_found_where_they_are_installed(installed: Path, tmp_path: Path) -> None:
    path = lent_packages(installed)
    script = (
        "from tusd_py.plugins import extensions; import sys;"
        "print(*(sys.modules[type(one).__module__].__file__ for one in extensions().values()))"
    )
    files = run(installed / "python", "-c", script, cwd=tmp_path, PYTHONPATH=path).split()
    assert len(files) == len(EXTENSIONS) and all(Path(file).is_relative_to(installed.parent) for file in files)
    assert "\n  -cas[=string]\n" in run(installed / "tusd-py", "-cas=off", "-help", cwd=tmp_path, PYTHONPATH=path)
    assert "tusd-py cas" in run(installed / "tusd-py", "cas", "-help", cwd=tmp_path, PYTHONPATH=path)


def test_nothing_else_can_be_imported_from_it(installed: Path, tmp_path: Path) -> None:
    assert {"tests", "docs"} <= set(NOT_SHIPPED)
    script = f"from importlib.util import find_spec; print([name for name in {NOT_SHIPPED!r} if find_spec(name)])"
    assert run(installed / "python", "-I", "-c", script, cwd=tmp_path).strip() == "[]"
