"""A first argument that is no flag names a subcommand, which is imported only then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.distributions import Install, install
from tusd_py.cli import main
from tusd_py.cli.sources import find_upload_dir
from tusd_py.cli.subcommands import SUBCOMMANDS, Subcommand, subcommands
from tusd_py.cli.usage import usage

__all__ = ["install"]

ECHO = "def main(arguments):\n    print(arguments)\n    return len(arguments)\n"


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_subcommand.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SUBCOMMANDS, "echo", Subcommand("a_subcommand", "Says what it is told."))  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [[], ["a"], ["-x", "--y=z", "-h"]])
def test_it_gets_what_follows_its_name_and_gives_the_status(
    echo: None, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["echo", *arguments])
    assert ended.value.code == len(arguments)
    assert capsys.readouterr().out == f"{arguments}\n"


def test_the_name_counts_only_in_the_first_place(echo: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["-verbose", "echo"])
    assert ended.value.code == 2
    assert 'unexpected argument "echo"' in capsys.readouterr().err


def test_an_interrupt_while_it_is_imported_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n")
    command = [sys.executable, "-m", "tusd_py", "events", "list"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_help_names_them(echo: None) -> None:
    assert "\n  echo\n      Says what it is told. See tusd-py echo --help.\n" in usage()


def test_an_unknown_one_is_told_the_known_ones(echo: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ech"])
    assert ended.value.code == 2
    known = ", ".join(subcommands())
    assert capsys.readouterr().err == f"tusd-py: unknown command 'ech': a flag or one of {known} expected; see -help\n"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_explains_itself(name: str) -> None:
    command = [sys.executable, "-m", "tusd_py", name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"tusd-py {name}" in done.stdout


# Those of extensions

COMMAND = """
    EXTENSION = Nothing()
    EXTENSION.commands = {"echo": Command(module="a_command", help="Says where uploads are.")}
"""
FINDING = (
    "def main(arguments, find_upload_dir):\n"
    "    print(find_upload_dir(*[None if text == '-' else text for text in arguments]))\n"
    "    return len(arguments)\n"
)


@pytest.fixture
def finding(install: Install, tmp_path: Path) -> None:
    (tmp_path / "site" / "a_command.py").write_text(FINDING)
    install("a-b", COMMAND)


def test_an_extensions_gets_what_follows_and_a_way_to_find_uploads(finding: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["echo", "/srv/tus", "-"])
    assert (ended.value.code, capsys.readouterr().out) == (2, "/srv/tus\n")


def test_help_names_an_extensions(finding: None) -> None:
    assert "\n  echo\n      Says where uploads are. See tusd-py echo --help.\n" in usage()


def test_an_extensions_is_not_run_if_another_cannot_be_used(
    finding: None, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("a-c", "raise OSError('broken')")
    with pytest.raises(SystemExit) as ended:
        main(["echo", "x", "-"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "tusd-py: the extension 'nothing' of a-c cannot be used: OSError: broken\n"


def test_those_of_the_server_are_found_whatever_is_wrong_with_an_extension(
    echo: None, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("a-c", "raise OSError('broken')")
    with pytest.raises(SystemExit) as ended:
        main(["echo"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "[]\n")


@pytest.mark.parametrize("arguments", [["-help"], ["-port=1"]])
def test_the_server_does_not_start_with_an_extension_that_cannot_be_used(
    install: Install, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    install("a-c", "raise OSError('broken')")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "tusd-py: the extension 'nothing' of a-c cannot be used: OSError: broken\n")


@pytest.mark.parametrize("arguments", [["-help"], ["-port=x"], ["-version"], ["-port=1"], ["ech"]])
def test_nor_with_one_that_takes_a_name_of_ours(
    install: Install, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    install("a-b", "EXTENSION = Nothing(); EXTENSION.commands = {'sign': Command(module='a', help='.')}")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    message = "the extension 'nothing' of a-b cannot be used: the server has a subcommand 'sign' too"
    assert capsys.readouterr() == ("", f"tusd-py: {message}\n")


def test_where_uploads_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same places in the same order as for the server."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(f'upload-dir = "/{name}"')
    assert find_upload_dir(None, None) == tmp_path / "data"
    monkeypatch.setenv("TUSD_PY_CONFIG", "a.toml")
    assert find_upload_dir(None, None) == Path("/a")
    assert find_upload_dir(None, "b.toml") == Path("/b")
    monkeypatch.setenv("TUSD_PY_UPLOAD_DIR", "c")
    assert find_upload_dir(None, "b.toml") == tmp_path / "c"
    assert find_upload_dir("/d", "b.toml") == Path("/d")


@pytest.mark.parametrize("given", [("", None), (None, "nowhere.toml")])
def test_where_they_cannot_be(given: tuple[str | None, str | None]) -> None:
    with pytest.raises(ValueError, match=r"expected a path|cannot read the configuration file nowhere.toml"):
        find_upload_dir(*given)


def test_they_are_not_imported_for_the_server() -> None:
    modules = [one.module for one in subcommands().values()]
    code = f"import sys, tusd_py.cli, tusd_py.server; print(sorted(set({modules} + ['typer', 'rich']) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
