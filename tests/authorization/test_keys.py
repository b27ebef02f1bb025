"""Secret files: what is a key, what is refused, and how a new one is made."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from tests.authorization.support import secret_file, watched_keys
from tusd_py.authorization.keys import MAX_KEYS, MIN_KEY, new_key, parse_keys, read_keys, write_new_key_file
from tusd_py.authorization.watched import UnusableFile

GOOD = "k" * MIN_KEY


def test_keys_are_lines_as_they_stand() -> None:
    other = "#".join(["a+/=_-"] * 8)
    assert parse_keys(f"# made by hand\n\n  {GOOD}\t\r\n{other}".encode()) == (GOOD.encode(), other.encode())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 keys"),
        (b"# only a comment\n", "0 keys"),
        (b"short\n", "line 1: the key has 5 characters"),
        (f"{GOOD}\n{GOOD[:-1]}\n".encode(), "line 2: the key has 31 characters"),
        (f"{GOOD} {GOOD}".encode(), "line 1: .* without blanks"),
        (GOOD.encode() + b"\xff", "printable ASCII"),
        (f"{GOOD}\n".encode() * (MAX_KEYS + 1), f"1 to {MAX_KEYS}"),
    ],
)
def test_what_is_no_secret_file_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_keys(content)


@pytest.mark.parametrize("umask", [0, 0o777])
def test_a_new_file_has_one_new_key_and_is_nobody_elses(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "secret"
    old = os.umask(umask)
    try:
        write_new_key_file(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = read_keys(path)
    assert len(key) == 43 and key.decode() != new_key()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "secret", GOOD)
    with pytest.raises(FileExistsError):
        write_new_key_file(path)
    assert read_keys(path) == (GOOD.encode(),)


def test_complaints_name_the_file_and_never_the_key(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "secret", "tooshort")
    with pytest.raises(UnusableFile, match="secret: line 1") as caught:
        read_keys(path)
    assert "tooshort" not in str(caught.value)


def test_a_file_that_everybody_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = secret_file(tmp_path / "secret")
    with caplog.at_level(logging.WARNING, "tusd_py.authorization"):
        watched_keys(path)
        assert not caplog.records
        path.chmod(0o644)
        watched_keys(path)
    assert "expected mode 600 or 640" in caplog.text
