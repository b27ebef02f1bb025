"""tests/support/strictness.py does what tests/check.sh relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import os
import pytest

def test_passes(): pass
def test_skips(): pytest.skip("no such tool")
@pytest.mark.skipif(True, reason="no such tool")
def test_marked(): pass
@pytest.fixture
def tool(): pytest.skip("no such tool")
def test_fixture(tool): pass
@pytest.mark.xfail(reason="known", strict=True)
def test_xfail(): assert False
def test_kernel(): pytest.skip("the kernel has no XFS")
"""


def run(tmp_path: Path, tests: str, strict: bool, *args: str) -> tuple[int, str]:
    (tmp_path / "test_it.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # not what we run under
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.strictness", "-p", "no:cacheprovider", *args, str(tmp_path)],
        cwd=tmp_path,
        env={**outer, "PYTHONPATH": str(ROOT), "TUSD_PY_STRICT": "1" if strict else "0"},
        capture_output=True,
        text=True,
        timeout=240,  # xdist has been seen to take a minute to end where many processes were busy
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("args", [(), ("-n", "1")], ids=["one-process", "xdist"])
def test_strict_fails_every_skip_but_the_excusable(tmp_path: Path, args: tuple[str, ...]) -> None:
    status, output = run(tmp_path, TESTS, True, *args)
    assert status == 1
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors" in output, output
    assert "was skipped, which TUSD_PY_STRICT=1 forbids: no such tool" in output


def test_a_module_that_skips_itself_fails_too(tmp_path: Path) -> None:
    status, output = run(tmp_path, "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass\n", True)
    assert status != 0 and "was skipped" in output, output


def test_otherwise_a_skip_is_a_skip(tmp_path: Path) -> None:
    status, output = run(tmp_path, TESTS, False)
    assert status == 0 and "1 passed, 4 skipped, 1 xfailed" in output, output
