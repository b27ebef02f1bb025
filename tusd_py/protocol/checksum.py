"""The checksum extension: `Upload-Checksum: algorithm base64(digest)`. Spec: checksum; rows K01 to K18.

Algorithms are data. Adding one is a line in `ALGORITHMS`; OPTIONS announces them in this order.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tusd_py.protocol.refusals import ChecksumMismatch, InvalidChecksum

__all__ = ["ALGORITHMS", "Algorithm", "Claim", "Hasher", "build_checksum", "parse_checksum"]

Buffer = bytes | bytearray | memoryview


class Hasher(Protocol):
    """What hashlib's objects do."""

    def update(self, data: Buffer, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC behind hashlib's interface; the digest is the four bytes in network order."""

    def __init__(self, step: Callable[[Buffer, int], int]) -> None:
        self._step, self._value = step, 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _crc32c() -> Hasher:
    import crc32c  # loaded on first use: a server that nobody sends this to need not carry it

    return _Crc(crc32c.crc32c)


def _blake3() -> Hasher:
    import blake3  # as above

    return blake3.blake3()


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A digest algorithm: how to start one, and how many bytes come out."""

    start: Callable[[], Hasher]
    size: int


ALGORITHMS: dict[str, Algorithm] = {
    "sha1": Algorithm(hashlib.sha1, 20),
    "md5": Algorithm(hashlib.md5, 16),
    "sha256": Algorithm(hashlib.sha256, 32),
    "sha512": Algorithm(hashlib.sha512, 64),
    "crc32": Algorithm(lambda: _Crc(zlib.crc32), 4),
    "crc32c": Algorithm(_crc32c, 4),
    "blake3": Algorithm(_blake3, 32),
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What the client says the digest of its body is."""

    algorithm: str
    digest: bytes

    def check(self, digest: bytes) -> None:
        """Raises `ChecksumMismatch` unless `digest` is the claimed one."""
        if not hmac.compare_digest(self.digest, digest):
            raise ChecksumMismatch


def parse_checksum(value: bytes) -> Claim:
    """Read an Upload-Checksum value; the algorithm's name in any case (K06).

    Raises `InvalidChecksum` for an unknown algorithm, bad base64 or a digest of the wrong length (K04, K05).
    """
    name, _, encoded = value.decode("ascii", "replace").strip().partition(" ")
    algorithm = ALGORITHMS.get(name.lower())
    if algorithm is None:
        raise InvalidChecksum(f"unsupported Upload-Checksum algorithm; one of {', '.join(ALGORITHMS)} expected")
    try:
        digest = binascii.a2b_base64(encoded.strip().encode(), strict_mode=True)
    except binascii.Error:
        raise InvalidChecksum("invalid Upload-Checksum: a digest in base64 expected after the algorithm") from None
    if len(digest) != algorithm.size:
        raise InvalidChecksum(f"invalid Upload-Checksum: {algorithm.size} bytes expected for {name.lower()}, got {len(digest)}")
    return Claim(name.lower(), digest)


def build_checksum(claim: Claim) -> str:
    """The inverse of `parse_checksum`."""
    return f"{claim.algorithm} {binascii.b2a_base64(claim.digest, newline=False).decode()}"
