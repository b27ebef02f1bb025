"""What can be set about content-addressed storage, and when it stays away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tusd_py_cas import EXTENSION
from tusd_py_cas.options import OPTIONS, check

from tusd_py.ports.extension import Place

DEFAULTS = {option.name: option.default for option in OPTIONS}


def test_defaults_make_sense() -> None:
    check(DEFAULTS)
    check(DEFAULTS | {"cas": "keep", "cas-gc-interval": 0.0, "cas-gc-grace": 0.0})


@pytest.mark.parametrize("size", [64 << 10, 128 << 10, 2 << 20, 4 << 20])
def test_averages(size: int) -> None:
    check(DEFAULTS | {"cas-chunk-size": size})


WRONG = [
    ("cas-level", 0, "-cas-level is 0: expected a number from 1 to 19"),
    ("cas-level", 20, "-cas-level is 20: expected a number from 1 to 19"),
    ("cas-chunk-size", 0, "-cas-chunk-size is 0: expected a power of two from 64KiB to 4MiB"),
    ("cas-chunk-size", 32 << 10, "-cas-chunk-size is 32768: expected a power of two from 64KiB to 4MiB"),
    ("cas-chunk-size", 8 << 20, "-cas-chunk-size is 8388608: expected a power of two from 64KiB to 4MiB"),
    ("cas-chunk-size", 100_000, "-cas-chunk-size is 100000: expected a power of two from 64KiB to 4MiB"),
    ("cas-threads", -1, "-cas-threads is -1: expected a number from 1 to 256, or 0 for one per core"),
    ("cas-threads", 257, "-cas-threads is 257: expected a number from 1 to 256, or 0 for one per core"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
@pytest.mark.parametrize("mode", ["off", "keep"])
def test_values_that_make_no_sense(tmp_path: Path, mode: str, name: str, value: Any, message: str) -> None:
    """Told whether it is on or off: who turns it on later should not have to find out then."""
    place = Place(upload_dir=str(tmp_path), state_dir=f"{tmp_path}/.tusd-py", dir_mode=0o700, file_mode=0o600, durable=True)
    with pytest.raises(ValueError) as caught:
        EXTENSION.open(DEFAULTS | {"cas": mode, name: value}, place)
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_off_it_loads_nothing_and_leaves_no_trace(tmp_path: Path) -> None:
    code = f"""import sys
from tusd_py.ports.extension import Place
from tusd_py_cas import EXTENSION
values = {{option.name: option.default for option in EXTENSION.options}}
place = Place(upload_dir={str(tmp_path)!r}, state_dir={str(tmp_path / "state")!r}, dir_mode=448, file_mode=384, durable=True)
print(EXTENSION.open(values, place), sorted(name for name in sys.modules if name.startswith("tusd_py_cas")))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None ['tusd_py_cas', 'tusd_py_cas.options']\n"
    assert not list(tmp_path.iterdir())
