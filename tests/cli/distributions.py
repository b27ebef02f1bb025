"""Distributions with extensions, put on sys.path for a test as an installer leaves them."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tusd_py.plugins import GROUP, forget_extensions

Install = Callable[..., None]

HEAD = """
from tusd_py.ports.extension import Command, Option

class Nothing:
    name, options, commands = "nothing", (), {}

    def open(self, values, place):
        return None
"""
"""What the code of every module begins with. `Nothing` can do nothing, and be made to say otherwise."""


def write_distribution(folder: Path, distribution: str, code: str, *, entry: str = "nothing", value: str | None = None) -> None:
    """A distribution with one module, named like it, and one entry point."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(HEAD + textwrap.dedent(code))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry} = {value or f'{module}:EXTENSION'}\n")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs a distribution, for this process and this test, beside what is installed anyway."""
    folder = tmp_path / "site"
    folder.mkdir()
    forget_extensions()
    monkeypatch.syspath_prepend(folder)

    def add(distribution: str, code: str = "EXTENSION = Nothing()", **options: str) -> None:
        write_distribution(folder, distribution, code, **options)
        importlib.invalidate_caches()
        forget_extensions()

    yield add
    for file in folder.glob("*.py"):
        sys.modules.pop(file.stem, None)
    forget_extensions()
