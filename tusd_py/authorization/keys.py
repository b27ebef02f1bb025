"""Secret files: the keys for HMAC, one on a line. The first one signs, all verify, so that a key can be replaced step by step.

A key is the bytes of its line as they stand, nothing is decoded: every language can do that. Blank lines and lines that begin
with `#` do not count.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tusd_py.authorization.watched import UnusableFile, read_file

__all__ = ["MAX_KEYS", "MIN_KEY", "Keys", "new_key", "parse_keys", "read_keys", "write_new_key_file"]

MIN_KEY = 32
"""Characters of the shortest key: with fewer than 32 random bytes HMAC-SHA256 loses strength (RFC 2104, 3)."""

MAX_KEYS = 16
"""Each is tried for each request; a rotation needs two."""

Keys = tuple[bytes, ...]


def parse_keys(data: bytes) -> Keys:
    """The keys of a secret file, in its order. Raises ValueError."""
    keys: list[bytes] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        key = line.strip(b" \t\r")
        if not key or key.startswith(b"#"):
            continue
        if any(not 0x21 <= byte <= 0x7E for byte in key):
            raise ValueError(f"line {number}: expected a key of printable ASCII characters without blanks")
        if len(key) < MIN_KEY:
            raise ValueError(f"line {number}: the key has {len(key)} characters: expected {MIN_KEY} random ones or more")
        keys.append(key)
    if not 1 <= len(keys) <= MAX_KEYS:
        raise ValueError(f"{len(keys)} keys: expected 1 to {MAX_KEYS}, one on a line")
    return tuple(keys)


def read_keys(path: str | os.PathLike[str]) -> Keys:
    """The keys of a secret file; the first one is for signing. Blocks. Raises `UnusableFile`."""
    data, _ = read_file(Path(path))
    try:
        return parse_keys(data)
    except ValueError as error:
        raise UnusableFile(f"{path}: {error}") from None


def new_key() -> str:
    """A key of 32 random bytes, as 43 characters."""
    return secrets.token_urlsafe(32)


def write_new_key_file(path: str | os.PathLike[str]) -> None:
    """Make a secret file with one new key, which only its owner may read. Blocks.

    Raises FileExistsError where there is one already: overwriting it would make everything worthless that was signed.
    """
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        os.fchmod(fd, 0o600)  # whatever the umask
        file.write(new_key() + "\n")
