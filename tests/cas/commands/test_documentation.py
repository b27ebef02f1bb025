"""The page names every command, option, exit status and key, and its examples are command lines that parse."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from tusd_py_cas.commands import application, main

from tests.cas.commands.conftest import Store, find_upload_dir
from tests.cas.commands.test_import_uploads import put

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "cas-commands.md").read_text()
EXAMPLES = re.findall(r"^    tusd-py cas (.*)$", PAGE, re.MULTILINE)
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = {str(info.name): info.callback for info in application.app.registered_commands}
COMMON = {"--upload-dir", "--config", "--json"}


def options(command: str) -> set[str]:
    found = set()
    for parameter in inspect.signature(COMMANDS[command], eval_str=True).parameters.values():
        for note in get_args(parameter.annotation)[1:]:
            if isinstance(note, typer.models.OptionInfo):
                names = [note.default, *(note.param_decls or ())]  # where typer keeps the first
                found.add(next(name for name in names if str(name).startswith("--")))
    return found


def first_cells(section: str, heading: str) -> list[str]:
    tables = re.findall(rf"^\| {heading} \|.*\n\|.*\n((?:\|.*\n)*)", section, re.MULTILINE)
    return [name for rows in tables for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_every_command_has_its_section() -> None:
    assert list(SECTIONS) == list(COMMANDS)
    for command in COMMANDS:
        assert f"| [`{command}`](#{command}) |" in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command: str) -> None:
    assert set(first_cells(SECTIONS[command], "option")) == options(command) - COMMON
    if command != "cat":
        assert options(command) >= COMMON


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command: str) -> None:
    assert any(example.split()[0] == command for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_parse(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """They come as far as looking for the repository; `import`, which would make one, misses the directory."""
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(example), find_upload_dir) == (1 if example.startswith("import") else 3)
    assert str(tmp_path / "data") in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"cat"}))
def test_every_key_is_described(command: str, store: Store, tmp_path: Path) -> None:
    put(store, "id", b"x")
    store.add(b"x", "report")
    (tmp_path / "file").write_bytes(b"y")
    arguments = {
        "versions": ["report"],
        "export": ["--all", str(tmp_path / "out")],
        "import": [str(tmp_path / "file"), str(tmp_path / "missing")],
    }
    ran = store.run(command, "--json", *arguments.get(command, []))
    documents = ran.lines
    if command == "export":
        documents += store.run("export", "--restore", "--json").lines
    keys = {key for document in documents for key in document}
    assert keys == set(first_cells(SECTIONS[command], "key"))


def test_every_status_is_described() -> None:
    statuses = re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE)
    assert statuses == ["0", "1", "2", "3", "129, 130, 143"]
