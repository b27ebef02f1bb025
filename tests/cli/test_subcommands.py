"""A first argument that is no flag names a subcommand, which is imported only then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tusd_py.cli import main
from tusd_py.cli.subcommands import SUBCOMMANDS, Subcommand
from tusd_py.cli.usage import usage

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


def test_help_names_them(echo: None) -> None:
    assert "\n  echo\n      Says what it is told. See tusd-py echo --help.\n" in usage()


def test_an_unknown_one_is_told_the_known_ones(echo: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ech"])
    assert ended.value.code == 2
    known = ", ".join(SUBCOMMANDS)
    assert capsys.readouterr().err == f"tusd-py: unknown command 'ech': a flag or one of {known} expected; see -help\n"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_explains_itself(name: str) -> None:
    command = [sys.executable, "-m", "tusd_py", name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"tusd-py {name}" in done.stdout


def test_they_are_not_imported_for_the_server() -> None:
    modules = [one.module for one in SUBCOMMANDS.values()]
    code = f"import sys, tusd_py.cli, tusd_py.server; print(sorted(set({modules} + ['typer', 'rich']) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
